package command

import (
	"errors"
	"fmt"
	"slices"

	"meterline/fault"
)

// State is where an operation is in its life.
type State string

// The states, in the order of their life; the last five are terminal and never change.
const (
	Queued    State = "queued"    // waits for its endpoint, its turn or its retry
	Sent      State = "sent"      // claimed and handed to the broker; written before publishing
	Delivered State = "delivered" // the endpoint's PUBACK
	Accepted  State = "accepted"  // the endpoint says it started
	Succeeded State = "succeeded"
	Failed    State = "failed"    // the device said why: a code
	Expired   State = "expired"   // the deadline passed
	Cancelled State = "cancelled" // at the server; Delivery says whether the device may still act
	Dead      State = "dead"      // attempts used up; listed in the dead letters
)

// States lists every state there is.
var States = []State{Queued, Sent, Delivered, Accepted, Succeeded, Failed, Expired, Cancelled, Dead}

// next is the state machine: forward steps may be skipped, since a result may overtake everything.
var next = map[State][]State{
	Queued:    {Sent, Delivered, Accepted, Succeeded, Failed, Expired, Cancelled, Dead},
	Sent:      {Queued, Delivered, Accepted, Succeeded, Failed, Expired, Cancelled, Dead},
	Delivered: {Queued, Accepted, Succeeded, Failed, Expired, Cancelled, Dead},
	Accepted:  {Queued, Succeeded, Failed, Expired, Cancelled, Dead},
}

// Open says whether an operation in this state has yet to end.
func (s State) Open() bool { return len(next[s]) > 0 }

// InFlight says whether an operation in this state takes a place in its endpoint's window.
func (s State) InFlight() bool { return s == Sent || s == Delivered || s == Accepted }

// CanBecome says whether the state machine allows the step from s to t.
func (s State) CanBecome(t State) bool {
	return slices.Contains(next[s], t) || !s.Open() && fault.Bug(fault.BugEndedMoves)
}

// Delivery says what is known of an operation's way to its endpoint.
type Delivery string

// The deliveries. They only ever rise.
const (
	NeverSent Delivery = "never_sent"
	MaybeSent Delivery = "maybe_sent" // committed before the first publish
	Acked     Delivery = "acked"      // the endpoint has it: its PUBACK, its ack or its answer was seen
)

// errMove is what a step outside the state machine answers; the operation is unchanged.
var errMove = errors.New("the state machine has no such step")

func moveError(from, to State) error { return fmt.Errorf("%s to %s: %w", from, to, errMove) }
