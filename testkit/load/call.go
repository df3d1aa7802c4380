package load

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"meterline/testkit/history"
)

// caller sends requests to one backend until it fails, and then to the next. Safe for concurrent use.
type caller struct {
	bases  []string
	token  string
	client *http.Client
	turn   atomic.Int64 // which base is next
}

const callTime = 10 * time.Second

func newCaller(bases []string, token string) *caller {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32
	c := &caller{token: token, client: &http.Client{Transport: transport, Timeout: callTime}}
	for _, b := range bases {
		c.bases = append(c.bases, strings.TrimRight(b, "/"))
	}
	return c
}

func (c *caller) close() { c.client.CloseIdleConnections() }

// answer is what came of a request.
type answer struct {
	status int // 0: no answer, or only a part of it
	header http.Header
	body   []byte
	err    error
	took   time.Duration
}

// taken says whether the request was done; known, whether it is known at all.
func (a answer) taken() bool { return a.status >= 200 && a.status < 300 }

// known is false when the request may have been done or not: no answer, 5xx, or one that is still running.
func (a answer) known() bool {
	return a.status != 0 && a.status < 500 && a.status != http.StatusConflict && a.status != http.StatusTooManyRequests
}

// call is what a history tells of every request.
func (a answer) call() history.Call {
	return history.Call{Status: a.status, Took: a.took, RetryAfter: a.header.Get("Retry-After")}
}

// later is how long to wait before the request is sent again.
func (a answer) later() time.Duration {
	if a.status == 0 {
		return 200 * time.Millisecond
	}
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || seconds < 1 || seconds > 5 {
		return time.Second
	}
	return time.Duration(seconds) * time.Second
}

func (c *caller) do(ctx context.Context, method, path string, body []byte, key string) answer {
	n, began := c.turn.Load(), time.Now()
	a := c.once(ctx, c.bases[int(n)%len(c.bases)], method, path, body, key)
	a.took = time.Since(began)
	if !a.known() {
		c.turn.CompareAndSwap(n, n+1)
	}
	return a
}

func (c *caller) once(ctx context.Context, base, method, path string, body []byte, key string) answer {
	request, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return answer{err: err}
	}
	return answer{status: response.StatusCode, header: response.Header, body: text}
}
