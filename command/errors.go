package command

import (
	"errors"
	"time"

	"meterline/fleet"
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

// Invalid is the error of a request that names what is wrong with it: the same type for all requests.
type Invalid = fleet.Invalid

// FieldError says what is wrong with one place of a request.
type FieldError = fleet.FieldError

// RetryAfter is how long a caller should wait after ErrUnavailable, ErrStillRunning and ErrTooManyOpen.
const RetryAfter = time.Second
