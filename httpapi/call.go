package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"meterline/command"
	"meterline/fleet"
)

// call is one request on its way through the API. It travels in the request's context because huma gives handlers
// nothing else; only this package sees it. One goroutine only.
type call struct {
	id      string // of the request
	r       *http.Request
	w       *response
	control *http.ResponseController
	by      fleet.Token // who asks, once authenticated
	session string      // the secret of the session that who asks came in by; "": by a token
}

type callKey struct{}

// callOf is the call that ctx belongs to.
func callOf(ctx context.Context) *call {
	return ctx.Value(callKey{}).(*call)
}

// requestID is a client's own id of its request, where it is fit to be logged; otherwise a new one.
func requestID(given string) string {
	if wellFormedID.MatchString(given) {
		return given
	}
	return uuid.NewString()
}

var wellFormedID = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,128}$`)

// ServeHTTP answers one request. Whatever happens inside, the client gets an answer, or an aborted connection when half
// of one was sent already.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rw := &response{ResponseWriter: w}
	c := &call{id: requestID(r.Header.Get("X-Request-ID")), r: r, w: rw, control: http.NewResponseController(rw)}
	h := w.Header()
	h.Set("X-Request-ID", c.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")

	unmatched, pattern := a.mux.Handler(r)
	began := time.Now()
	defer func() { a.metrics.observe(pattern, r.Method, rw.status, time.Since(began)) }()
	defer func() { a.recovered(c, recover()) }()
	if pattern == "" {
		a.writeProblem(c, noRoute(unmatched, r, rw))
		c.discardBody(maxDiscard)
		return
	}
	ctx := context.WithValue(r.Context(), callKey{}, c)
	limit, rest := a.times.request, int64(maxDiscard)
	if known, ok := a.routes[pattern]; ok {
		if known.wait > 0 || known.streams {
			if a.waiting.Add(1) > a.mostWaiting {
				a.waiting.Add(-1)
				a.metrics.crowded.Inc()
				a.writeProblem(c, crowded())
				return
			}
			defer a.waiting.Add(-1)
		}
		limit += known.wait
		if known.streams {
			limit, rest = 0, maxImport
		}
	}
	// Every request sets its own, since a connection keeps the deadline of the request before.
	_ = c.control.SetWriteDeadline(deadline(limit, a.times.write))
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	r = r.WithContext(ctx)
	r.Body = io.NopCloser(r.Body) // huma would close it, and with it the connection when something is left
	a.mux.ServeHTTP(rw, r)
	c.discardBody(rest)
}

// mostWaiting bounds the requests that may take long because they wait for something: long polls, event streams, imports.
const mostWaiting = 10_000

func crowded() *Problem {
	p := newProblem(http.StatusServiceUnavailable, "TOO_MANY_WAITING", "too many requests wait for something already; try again")
	p.retryAfter = command.RetryAfter
	return p
}

const (
	// maxDiscard is how much of a body that nobody wanted is read after all, and discardTime how long.
	maxDiscard  = 4 << 20
	discardTime = 5 * time.Second
)

// discardBody reads what is left of the body: a connection that is closed over unread data is reset, and the client
// would see that instead of our answer.
func (c *call) discardBody(limit int64) {
	if c.r.ContentLength == 0 || c.r.Header.Get("Expect") != "" {
		return
	}
	_ = c.control.SetReadDeadline(time.Now().Add(discardTime))
	_, _ = io.CopyN(io.Discard, c.r.Body, limit)
}

// deadline is when the answer to a request must have been written; never, for one that streams and sets its own.
func deadline(limit, write time.Duration) time.Time {
	if limit == 0 {
		return time.Time{}
	}
	return time.Now().Add(limit + write)
}

// recovered turns a panic into an answer, or into an aborted connection when one was begun.
func (a *API) recovered(c *call, panicked any) {
	if panicked == nil {
		return
	}
	err, _ := panicked.(error)
	if errors.Is(err, http.ErrAbortHandler) {
		c.w.status = statusClientGone
		panic(http.ErrAbortHandler)
	}
	if _, gone := errors.AsType[net.Error](err); gone {
		a.logger.Info("client went away", "request_id", c.id, "error", err)
	} else {
		a.logger.Error("request panicked", "request_id", c.id, "method", c.r.Method, "path", c.r.URL.Path,
			"panic", panicked, "stack", string(debug.Stack()))
	}
	if c.w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	a.writeProblem(c, newProblem(http.StatusInternalServerError, codeInternal, "something went wrong; the request id names it in our logs"))
}

// noRoute is the problem with a request that no route takes: the path or the method.
func noRoute(unmatched http.Handler, r *http.Request, w http.ResponseWriter) *Problem {
	probe := &probe{header: http.Header{}}
	unmatched.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		w.Header().Set("Allow", allow)
		return newProblem(probe.status, "METHOD_NOT_ALLOWED", "this path takes "+allow)
	}
	return newProblem(http.StatusNotFound, codeNotFound, "there is nothing at this path")
}

// probe takes what ServeMux would have answered.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// response notes the status of an answer.
type response struct {
	http.ResponseWriter
	status int
}

func (r *response) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *response) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find the connection.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// writeProblem answers with p. It is for whatever happens outside the handlers.
func (a *API) writeProblem(c *call, p *Problem) {
	p.RequestID = c.id
	for name, values := range p.GetHeaders() {
		c.w.Header()[name] = values
	}
	c.w.Header().Set("Content-Type", problemType)
	c.w.WriteHeader(p.Status)
	_ = json.NewEncoder(c.w).Encode(p) // a client that has gone away wants to hear no more
}

// checkQuery complains about a query that is not text: databases refuse NUL and what is not UTF-8.
func checkQuery(u *url.URL) *Problem {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return invalid(complaint("?", "cannot be understood: percent-encode what is not a letter or a digit"))
	}
	for name, values := range query {
		for _, v := range append(values, name) {
			if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				return invalid(complaint("?"+strings.ToValidUTF8(name, "?"), "must be UTF-8 without NUL characters"))
			}
		}
	}
	return nil
}
