package httpapi

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"meterline/command"
	"meterline/fleet"
)

// Problem is every answer that is not a success (RFC 9457), with a code for programs.
type Problem struct {
	Type      string       `json:"type" doc:"about:blank: the code says more"`
	Title     string       `json:"title" doc:"the status in words"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail" doc:"what went wrong this time, for people"`
	Code      string       `json:"code" doc:"what went wrong, for programs"`
	RequestID string       `json:"request_id" doc:"names the request in the server's logs"`
	Errors    []fieldError `json:"errors,omitempty" doc:"each thing that is wrong with the request"`

	retryAfter time.Duration
	challenge  string // of a 401
}

// fieldError is one complaint; see command.FieldError for what the pointer points at.
type fieldError = command.FieldError

func complaint(pointer, detail string) fieldError {
	return fieldError{Pointer: pointer, Detail: detail}
}

const (
	problemType      = "application/problem+json"
	statusClientGone = 499

	codeInternal = "INTERNAL"
	codeNotFound = "NOT_FOUND"
	codeInvalid  = "INVALID"
)

func newProblem(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: title(status), Status: status, Code: code, Detail: detail}
}

func title(status int) string {
	if status == statusClientGone {
		return "Client Closed Request"
	}
	return http.StatusText(status)
}

// invalid is the problem with a request that was understood, but cannot be done as it is.
func invalid(fields ...fieldError) *Problem {
	p := newProblem(http.StatusUnprocessableEntity, codeInvalid, "the request cannot be done as it is")
	p.Errors = fields
	if len(fields) == 1 {
		p.Detail = fields[0].Detail
		if fields[0].Pointer != "" {
			p.Detail = fields[0].Pointer + " " + p.Detail
		}
	}
	return p
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus is huma's way to ask for the status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is huma's way to ask how an answer is labelled.
func (p *Problem) ContentType(string) string { return problemType }

// GetHeaders is huma's way to ask for the headers that go with p.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	return h
}

// statuses is the one place where errors become statuses. The first that fits counts.
var statuses = []struct {
	err    error
	status int
	code   string
	detail string
	again  bool // with Retry-After
}{
	{command.ErrNotFound, http.StatusNotFound, codeNotFound, "there is no such thing", false},
	{fleet.ErrNotFound, http.StatusNotFound, codeNotFound, "there is no such thing", false},
	{command.ErrForbidden, http.StatusForbidden, codeScope, command.ErrForbidden.Error(), false},
	{fleet.ErrScope, http.StatusForbidden, codeScope, fleet.ErrScope.Error(), false},
	{fleet.ErrTaken, http.StatusConflict, "ID_TAKEN", fleet.ErrTaken.Error(), false},
	{fleet.ErrInUse, http.StatusConflict, "IN_USE", fleet.ErrInUse.Error(), false},
	{command.ErrAlreadyDecided, http.StatusConflict, "ALREADY_DECIDED", command.ErrAlreadyDecided.Error(), false},
	{command.ErrStillRunning, http.StatusConflict, "STILL_RUNNING", command.ErrStillRunning.Error(), true},
	{command.ErrKeyReused, http.StatusUnprocessableEntity, "IDEMPOTENCY_KEY_REUSED", command.ErrKeyReused.Error(), false},
	{command.ErrTooManyOpen, http.StatusTooManyRequests, "TOO_MANY_OPEN", command.ErrTooManyOpen.Error(), true},
	{command.ErrUnavailable, http.StatusServiceUnavailable, "UNAVAILABLE", "try again: nothing is known to have been done", true},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "TIMEOUT", "it took too long; try again", true},
	{context.Canceled, statusClientGone, "CLIENT_GONE", "the client went away", false},
}

// problem classifies an error, and logs those that are nobody's but ours.
func (a *API) problem(c *call, err error) *Problem {
	p := classify(err)
	p.RequestID = c.id
	if p.Status < http.StatusInternalServerError {
		return p
	}
	args := []any{"request_id", c.id, "method", c.r.Method, "path", c.r.URL.Path, "status", p.Status, "error", err}
	if p.Status == http.StatusServiceUnavailable {
		out, ok := a.outage.turn(time.Now())
		if !ok {
			return p
		}
		if out > 0 {
			args = append(args, "left_out", out)
		}
	}
	a.logger.Error("request failed", args...)
	return p
}

const (
	outageBurst = 20          // lines at once
	outagePause = time.Second // and then from one to the next
)

// outage holds back the log: while the database is away every request fails for the same reason, and a line for each would
// hide the others and fill the disk. Metrics count them all.
type outage struct {
	mu    sync.Mutex
	limit *rate.Limiter
	out   int // lines left out since the last one
}

func newOutage() *outage {
	return &outage{limit: rate.NewLimiter(rate.Every(outagePause), outageBurst)}
}

// turn says whether a line is logged now, and how many were not before it.
func (o *outage) turn(now time.Time) (out int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.limit.AllowN(now, 1) {
		o.out++
		return 0, false
	}
	out, o.out = o.out, 0
	return out, true
}

func classify(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if wrong, ok := errors.AsType[*fleet.Invalid](err); ok {
		return invalid(wrong.Fields...)
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(large.Limit)
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			p := newProblem(s.status, s.code, s.detail)
			if s.again {
				p.retryAfter = command.RetryAfter
			}
			return p
		}
	}
	return newProblem(http.StatusInternalServerError, codeInternal, "something went wrong; the request id names it in our logs")
}

func tooLarge(limit int64) *Problem {
	return newProblem(http.StatusRequestEntityTooLarge, "BODY_TOO_LARGE",
		"the body must be at most "+strconv.FormatInt(limit>>20, 10)+" MiB")
}

// huma says what is wrong with parameters and bodies through these, which it looks up at run time.
func init() {
	huma.NewError = humaProblem
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
		p := humaProblem(status, message, errs...).(*Problem)
		if c, ok := ctx.Context().Value(callKey{}).(*call); ok {
			p.RequestID = c.id
		}
		return p
	}
	huma.DefaultArrayNullable = false // lists that hold nothing are shown as []
}

const wantsTime = "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)"

func humaProblem(status int, message string, errs ...error) huma.StatusError {
	switch status {
	case http.StatusBadRequest:
		return newProblem(status, "BAD_REQUEST", message)
	case http.StatusRequestTimeout:
		return newProblem(status, "BODY_TIMEOUT", message)
	case http.StatusRequestEntityTooLarge:
		return tooLarge(maxBody)
	case http.StatusUnprocessableEntity:
		var fields []fieldError
		for _, err := range errs {
			detail, ok := errors.AsType[*huma.ErrorDetail](err)
			if !ok {
				detail = &huma.ErrorDetail{Message: err.Error()}
			}
			if strings.HasPrefix(detail.Message, "invalid date/time") { // it goes on with a layout that only Go programmers can read
				detail.Message = wantsTime
			}
			fields = append(fields, fieldError{Pointer: pointer(detail.Location), Detail: detail.Message})
		}
		return invalid(fields...)
	}
	return newProblem(status, codeInternal, message)
}

// pointer is huma's name of a place as a pointer of ours. Bodies are not huma's to check.
func pointer(location string) string {
	kind, name, _ := strings.Cut(location, ".")
	switch kind {
	case "query":
		return "?" + name
	case "header":
		return "header:" + name
	}
	return ""
}
