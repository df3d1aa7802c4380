//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"strconv"
	"time"

	"meterline/testkit"
)

// client asks over one HTTP connection, one question at a time: prepared as bytes, for net/http would cost as much as what is
// measured.
type client struct {
	addr, token string
	conn        net.Conn
	r           *bufio.Reader
	body        bytes.Buffer
}

func newClient(addr, token string) (*client, error) {
	c := &client{addr: addr, token: token}
	return c, c.dial()
}

func (c *client) dial() (err error) {
	if c.conn, err = net.Dial("tcp", c.addr); err != nil {
		return err
	}
	c.r = bufio.NewReaderSize(c.conn, 64<<10)
	return nil
}

func (c *client) close() { _ = c.conn.Close() }

// question is a request as bytes; prefer is the header Prefer, "" for none.
func (c *client) question(method, path string, body []byte, prefer string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n", method, path, c.addr, c.token, len(body))
	if len(body) > 0 {
		b.WriteString("Content-Type: application/json\r\n")
	}
	if prefer != "" {
		b.WriteString("Prefer: " + prefer + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// answer is what came back. Its body is good until the next question.
type answer struct {
	status   int
	location string
	later    time.Duration // Retry-After
	body     []byte
}

// ask sends a question and reads the answer.
func (c *client) ask(question []byte) (a answer, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return a, err
	}
	if _, err := c.conn.Write(question); err != nil {
		return a, err
	}
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	c.body.Reset()
	if _, err := c.body.ReadFrom(response.Body); err != nil {
		return a, err
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	return answer{response.StatusCode, response.Header.Get("Location"), time.Duration(seconds) * time.Second, c.body.Bytes()}, nil
}

// insist asks until the answer is another than "later", and takes only a 2xx.
func (c *client) insist(ctx context.Context, question []byte) (answer, error) {
	for {
		a, err := c.ask(question)
		switch {
		case err != nil:
			return a, err
		case a.status/100 == 2:
			return a, nil
		case a.status != http.StatusTooManyRequests && a.status != http.StatusServiceUnavailable:
			return a, fmt.Errorf("status %d: %.300s", a.status, a.body)
		}
		if err := testkit.Pause(ctx, max(a.later, lookEvery)); err != nil {
			return a, err
		}
	}
}

// issue posts a command and gives its id. The bodies of answers are not looked at.
func (c *client) issue(ctx context.Context, order []byte) (id string, err error) {
	a, err := c.insist(ctx, c.question(http.MethodPost, "/v1/commands", order, ""))
	if err != nil {
		return "", fmt.Errorf("issue a command: %w", err)
	}
	if a.location == "" {
		return "", errors.New("issue a command: an answer without its place")
	}
	return path.Base(a.location), nil
}

var running = []byte(`"status":"running"`)

// read counts the operations of a command that are shown as succeeded, with a reading: as bytes, for to decode an answer of a thousand
// would cost more than to make it.
func (a answer) read() int {
	_, counts, _ := bytes.Cut(a.body, []byte(`"counts":`))
	_, after, _ := bytes.Cut(counts, []byte(`"succeeded":`))
	n, _, _ := bytes.Cut(after, []byte(","))
	succeeded, _ := strconv.Atoi(string(n))
	return min(succeeded, bytes.Count(a.body, []byte(`"value":"`)))
}

// finish polls a command, waiting in the request, until it has come to its end, and says how many of its operations were read.
func (c *client) finish(ctx context.Context, id string) (done int, err error) {
	question := c.question(http.MethodGet, "/v1/commands/"+id+"?wait=10", nil, "")
	for ctx.Err() == nil {
		a, err := c.insist(ctx, question)
		if err != nil {
			return 0, fmt.Errorf("poll a command: %w", err)
		}
		if !bytes.Contains(a.body, running) {
			return a.read(), nil
		}
	}
	return 0, ctx.Err()
}

// users are clients with a goroutine each, which do until they return; the first error ends all.
func (r *rig) users(ctx context.Context, n int, do func(ctx context.Context, i int, c *client) error) error {
	return together(ctx, n, func(ctx context.Context, i int) error {
		c, err := newClient(r.backend.Address, r.Token)
		if err != nil {
			return err
		}
		defer c.close()
		defer context.AfterFunc(ctx, c.close)() // also out of an answer that does not come
		return do(ctx, i, c)
	})
}
