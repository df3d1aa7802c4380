package command

import (
	"encoding/json"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// ID names a command.
type ID = meterread.CommandID

// Kind is what a command asks of its devices.
type Kind string

// The kinds. All live the same life.
const (
	MeterRead     Kind = "meter.read"
	MeterTimeSync Kind = "meter.time_sync"
	MeterRelay    Kind = "meter.relay" // needs scope commands:control
	DevicePing    Kind = "device.ping" // the only kind an IPC itself is a target of
)

// Kinds lists every kind there is.
var Kinds = []Kind{MeterRead, MeterTimeSync, MeterRelay, DevicePing}

// Mode says how the outcome is asked for.
type Mode string

// The modes.
const (
	Realtime Mode = "realtime" // polled about once a second: 30 s, priority 8 unless said otherwise
	Async    Mode = "async"    // asked for later: 24 h, priority 5, waits for offline devices
)

// RealtimePriority is the priority from which on an operation may use an endpoint's reserve for real-time work.
const RealtimePriority = 8

// Selector names the targets of a command: exactly one field is set.
type Selector struct {
	DeviceIDs []meterread.DeviceID `json:"device_ids,omitempty"`
	Group     string               `json:"group,omitempty"`
	Tags      map[string]string    `json:"tags,omitempty"` // all must match
	All       bool                 `json:"all,omitempty"`
}

// Counts says how many operations of a command are in which state. Open is the sum of the first four.
type Counts struct {
	Total     int `json:"total"`
	Queued    int `json:"queued"` // includes those not expanded yet
	Sent      int `json:"sent"`
	Delivered int `json:"delivered"`
	Accepted  int `json:"accepted"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Expired   int `json:"expired"`
	Cancelled int `json:"cancelled"`
	Dead      int `json:"dead"`
}

// Asked is by which request a command was issued, and what whoever made it was called then.
type Asked struct {
	Name, RequestID, RemoteAddr string
}

// Command is what a user asked for, once.
type Command struct {
	ID          ID
	Seq         int64 // order of acceptance, by the record
	Tenant      fleet.Tenant
	ParentID    ID // of a retry or a replay
	Kind        Kind
	Mode        Mode
	Priority    int // 0..9
	Selector    Selector
	Items       []meterread.Item
	Params      json.RawMessage
	MaxAge      time.Duration // answers younger than this are taken from stock; 0: always ask
	Attempts    int           // at most, per operation
	IssuedBy    string        // the actor's id
	Asked       Asked         // kept for the audit log; not read back
	TraceParent string
	CreatedAt   time.Time
	NotBefore   time.Time // zero: at once
	ExpiresAt   time.Time

	Expanding   bool               // operations are still being made from the selector
	Expanded    meterread.DeviceID // the last device that has been
	CancelledAt time.Time          // zero: no; operations made later are born cancelled

	Version      int64 // rises with every transaction that moves an operation of it
	Counts       Counts
	Errors       map[string]int
	FinishedAt   time.Time // zero while an operation is open
	ShownExpired bool      // somebody was told that it expired: results that come now are late, whenever they were appended
}

// Running says whether an operation is still open, by the record (see At for what the deadline does to it).
func (c Command) Running() bool { return c.FinishedAt.IsZero() }
