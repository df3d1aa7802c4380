package command

import (
	"slices"
	"time"

	"meterline/fault"
	"meterline/fleet"
	"meterline/meterread"
)

// Key names an operation: one command on one device.
type Key struct {
	CommandID ID
	DeviceID  meterread.DeviceID
}

// Operation is one command on one device. Its row is the queue entry: there is no second queue. Whoever moves it does so
// with the methods below, between loading and writing it in one transaction.
type Operation struct {
	// fixed when it is born
	CommandID   ID
	DeviceID    meterread.DeviceID
	Tenant      fleet.Tenant
	Kind        Kind
	Priority    int
	Seq         int64 // of its command: oldest first
	MaxAttempts int
	CreatedAt   time.Time
	ExpiresAt   time.Time

	// follow the device until it is sent
	EndpointID meterread.DeviceID
	Partition  int
	Device     fleet.Info

	// move
	State        State
	Delivery     Delivery
	Attempts     int
	NextAt       time.Time // not to be sent before
	Error        *Failure
	Readings     []meterread.Reading // its own result
	FromStock    bool
	LateResultAt time.Time
	Moves        []Move
	Version      int64 // 1, 2, 3 ... with every move
	Changed      int64 // the command's version when it last moved; set by the record
	UpdatedAt    time.Time

	// of the attempt in flight
	MessageID  string
	Gateway    string // "gateway/incarnation"
	Epoch      int64
	LeaseUntil time.Time // database clock

	// of the command, as loaded
	ShownExpired bool
}

// Failure is why an operation did not succeed.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Move is one step of an operation's life, the hop trace.
type Move struct {
	State    State              `json:"state"`
	At       time.Time          `json:"at"`
	Attempt  int                `json:"attempt,omitempty"`
	Endpoint meterread.DeviceID `json:"endpoint_id,omitempty"` // sent: to whom
	Gateway  string             `json:"gateway,omitempty"`     // sent: by which gateway
	Reason   string             `json:"reason,omitempty"`      // back to queued: why
}

// Key is the operation's name.
func (o *Operation) Key() Key { return Key{o.CommandID, o.DeviceID} }

// Copy is the operation as it was loaded, to be moved in its stead.
func (o *Operation) Copy() *Operation {
	c := *o
	c.Moves, c.Readings, c.ShownExpired = slices.Clip(o.Moves), slices.Clip(o.Readings), false
	return &c
}

// Born makes an operation of c on d. It waits until c may be sent, or is born ended when c was cancelled meanwhile or is over.
// That c was over comes first: somebody may have been shown it.
func Born(c Command, d Candidate, now time.Time) *Operation {
	o := &Operation{
		CommandID: c.ID, DeviceID: d.DeviceID, Tenant: c.Tenant, Kind: c.Kind, Priority: c.Priority, Seq: c.Seq,
		MaxAttempts: c.Attempts, CreatedAt: now, ExpiresAt: c.ExpiresAt,
		EndpointID: d.Info.EndpointID, Partition: d.Partition, Device: d.Info,
		State: Queued, Delivery: NeverSent, NextAt: now, Version: 1, UpdatedAt: now,
		Moves: []Move{{State: Queued, At: now}},
	}
	if c.NotBefore.After(now) {
		o.NextAt = c.NotBefore
	}
	switch {
	case !now.Before(c.ExpiresAt):
		o.must(o.move(Expired, now, Move{}))
	case !c.CancelledAt.IsZero():
		o.must(o.move(Cancelled, now, Move{}))
	case d.fresh(c, now):
		o.Readings, o.FromStock = d.Newest, true
		o.must(o.move(Succeeded, now, Move{}))
	}
	return o
}

// must holds what the state machine always allows.
func (o *Operation) must(err error) {
	if err != nil {
		panic(err)
	}
}

func (o *Operation) move(to State, at time.Time, m Move) error {
	if !o.State.CanBecome(to) {
		return moveError(o.State, to)
	}
	m.State, m.At = to, at.UTC()
	o.Moves = append(shorten(o.Moves), m)
	o.State, o.UpdatedAt = to, m.At
	o.Version++
	return nil
}

// mostMoves bounds the moves that an operation keeps.
const mostMoves = 64

// shorten drops a move from the middle of a long list: the beginning and the latest stay, and for every endpoint that it was
// sent to one move that says so.
func shorten(moves []Move) []Move {
	if len(moves) < mostMoves {
		return moves
	}
	for i := mostMoves / 4; i < len(moves); i++ {
		told := moves[i].State != Sent
		for j := 0; j < len(moves) && !told; j++ {
			told = j != i && moves[j].State == Sent && moves[j].Endpoint == moves[i].Endpoint
		}
		if told {
			return slices.Delete(slices.Clone(moves), i, i+1)
		}
	}
	return moves
}

// Claim takes the operation for one attempt over the session s: from now on it may be on its way.
func (o *Operation) Claim(at time.Time, s Session, messageID string, lease time.Duration) error {
	if o.State != Queued {
		return moveError(o.State, Sent)
	}
	o.Attempts++
	o.MessageID, o.Gateway, o.Epoch = messageID, s.name(), s.Epoch
	o.LeaseUntil = at.Add(lease)
	if o.Delivery == NeverSent {
		o.Delivery = MaybeSent
	}
	return o.move(Sent, at, Move{Attempt: o.Attempts, Endpoint: o.EndpointID, Gateway: s.Gateway})
}

// Deliver notes the endpoint's PUBACK for the attempt in flight.
func (o *Operation) Deliver(at time.Time, lease time.Duration) error {
	if o.State != Sent {
		return moveError(o.State, Delivered)
	}
	o.Delivery, o.LeaseUntil = Acked, at.Add(lease)
	return o.move(Delivered, at, Move{})
}

// Accept notes that the endpoint started.
func (o *Operation) Accept(at time.Time, lease time.Duration) error {
	if !o.State.CanBecome(Accepted) {
		return moveError(o.State, Accepted)
	}
	o.Delivery, o.LeaseUntil = Acked, at.Add(lease)
	return o.move(Accepted, at, Move{})
}

// Succeed ends the operation with its readings.
func (o *Operation) Succeed(at time.Time) error {
	return o.end(Succeeded, at, nil)
}

// Fail ends the operation for the reason the device gave.
func (o *Operation) Fail(at time.Time, why Failure) error {
	return o.end(Failed, at, &why)
}

// end is an end that the endpoint told us of, which also shows that it had the command.
func (o *Operation) end(s State, at time.Time, why *Failure) error {
	if !o.State.CanBecome(s) {
		return moveError(o.State, s)
	}
	if o.Attempts == 0 && o.Delivery != NeverSent {
		o.Attempts = 1 // it was taken for not delivered, and was
	}
	o.Delivery, o.Error = Acked, why
	return o.move(s, at, Move{})
}

// Requeue gives the operation back to its queue; it is sent again at the earliest at next. An attempt that never
// reached the endpoint need not be counted; one that did (delivered, accepted) always is.
func (o *Operation) Requeue(at, next time.Time, counted bool, reason string) error {
	if !o.State.InFlight() {
		return moveError(o.State, Queued)
	}
	if !counted && o.State == Sent {
		o.Attempts--
	}
	o.NextAt = next
	return o.move(Queued, at, Move{Reason: reason})
}

// Die ends the operation because its attempts are used up.
func (o *Operation) Die(at time.Time) error {
	if !o.State.CanBecome(Dead) {
		return moveError(o.State, Dead)
	}
	o.Error = &Failure{Code: CodeAttemptsUsedUp, Message: "no answer to any attempt"}
	return o.move(Dead, at, Move{})
}

// Expire ends the operation because its deadline passed; Cancel because a user, or the loss of its device, ended it.
func (o *Operation) Expire(at time.Time) error { return o.move(Expired, at, Move{}) }

// Cancel ends the operation at the server; Delivery says whether the device may still act.
func (o *Operation) Cancel(at time.Time, reason string) error {
	return o.move(Cancelled, at, Move{Reason: reason})
}

// Late notes a result that came after the end. The state stays.
func (o *Operation) Late(at time.Time) {
	if o.LateResultAt.IsZero() {
		o.LateResultAt = at.UTC()
		o.UpdatedAt = o.LateResultAt
		o.Version++
	}
}

// Over says whether a result appended at t comes too late to count: the operation has ended, its deadline had passed,
// or somebody was already told that it expired.
func (o *Operation) Over(t time.Time) bool {
	switch {
	case fault.Bug(fault.BugEndedMoves):
		return false
	case fault.Bug(fault.BugLateCounts):
		return !o.State.Open()
	case fault.Bug(fault.BugShownTakenBack):
		return !o.State.Open() || !t.Before(o.ExpiresAt)
	}
	return !o.State.Open() || !t.Before(o.ExpiresAt) || o.ShownExpired
}

// SpokenForBy says whether results may come from this endpoint: the one it is queued for now and every one an attempt
// was sent to, also when the device has moved since.
func (o *Operation) SpokenForBy(endpoint meterread.DeviceID) bool {
	if o.EndpointID == endpoint {
		return true
	}
	for _, m := range o.Moves {
		if m.State == Sent && m.Endpoint == endpoint {
			return true
		}
	}
	return false
}

// CodeAttemptsUsedUp is the error code of a dead operation.
const CodeAttemptsUsedUp = "ATTEMPTS_USED_UP"

// Candidate is a device that a command is about to be expanded to.
type Candidate struct {
	DeviceID  meterread.DeviceID
	Partition int // of its endpoint
	Info      fleet.Info
	Newest    []meterread.Reading // of the command's items; loaded only when the command has a MaxAge
}

// fresh says whether the newest readings of all items are younger than c asks for. A reading is as old as the older of
// its two times says, so that a meter with a fast clock cannot pass for fresh for ever.
func (d Candidate) fresh(c Command, now time.Time) bool {
	if c.MaxAge <= 0 || len(d.Newest) < len(c.Items) {
		return false
	}
	for _, r := range d.Newest {
		at := r.ReadAt
		if r.ReceivedAt.Before(at) {
			at = r.ReceivedAt
		}
		if now.Sub(at) > c.MaxAge || r.Quality == meterread.Invalid {
			return false
		}
	}
	return true
}
