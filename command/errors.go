package command

import (
	"errors"
	"strings"
	"time"
)

// The errors that callers decide on. The record, the live state and the service wrap them.
var (
	ErrNotFound       = errors.New("not found")
	ErrLost           = errors.New("the partition has another owner") // the transaction was rolled back
	ErrKeyReused      = errors.New("the idempotency key was used with another body")
	ErrStillRunning   = errors.New("a request with this idempotency key is still running")
	ErrUnavailable    = errors.New("the record cannot be reached") // nothing was committed, or it is not known; a retry is safe
	ErrTooManyOpen    = errors.New("too many open operations")
	ErrForbidden      = errors.New("the token's scopes do not allow this")
	ErrGatewayGone    = errors.New("no connection to that gateway") // from a Publisher: the message was surely not handed over
	ErrAlreadyDecided = errors.New("the dead letter was replayed or discarded already")
)

// Invalid is the error of a request that names what is wrong with it.
type Invalid struct {
	Fields []FieldError
}

// FieldError is one complaint about one field.
type FieldError struct {
	Pointer string `json:"pointer"` // RFC 6901, into the request's body; "?name" for a query parameter
	Detail  string `json:"detail"`
}

func (e *Invalid) Error() string {
	var b strings.Builder
	for i, f := range e.Fields {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Pointer + ": " + f.Detail)
	}
	return b.String()
}

// add notes a complaint.
func (e *Invalid) add(pointer, detail string) {
	e.Fields = append(e.Fields, FieldError{pointer, detail})
}

// orNil is e as an error, nil when there is nothing to complain about.
func (e *Invalid) orNil() error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

// RetryAfter is how long a caller should wait after ErrUnavailable, ErrStillRunning and ErrTooManyOpen.
const RetryAfter = time.Second
