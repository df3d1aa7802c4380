package history

import (
	"encoding/json"
	"time"
)

// Kind is what an event is about; beside each stands what its phases mean.
type Kind string

// The kinds. Those of devices have a Message, those of clients of the API a Call, those of whoever breaks things a Fault.
const (
	Begin    Kind = "begin"    // ok: a process began to write; T is counted from a moment that all files of a run share
	Load     Kind = "load"     // invoke: all devices are connected and at work; ok: from now on none hands in what nobody asked for
	Connect  Kind = "connect"  // ok: an endpoint is subscribed to its commands; fail: its connection ended
	Twin     Kind = "twin"     // invoke: a second session of an endpoint begins to connect; ok: it is subscribed
	Uplink   Kind = "uplink"   // invoke: published for the first time, with its payload; ok: its PUBACK came
	Resend   Kind = "resend"   // invoke: the same message published once more
	Received Kind = "received" // ok: a command reached an endpoint
	Taken    Kind = "taken"    // ok: its PUBACK is about to be written
	Executed Kind = "executed" // ok: a meter was asked to do it
	Repeated Kind = "repeated" // ok: an operation asked for again: answered from memory, or still in progress
	Post     Kind = "post"     // invoke: a command is posted; ok: 2xx; fail: it was refused; unknown: it may have been taken
	Poll     Kind = "poll"     // ok: the states that an answer showed; fail: no answer, or another than 200
	Cancel   Kind = "cancel"   // invoke, ok, fail and unknown like Post
	Probe    Kind = "probe"    // ok: what a client was told about what belongs to another tenant
	Break    Kind = "fault"    // invoke: armed; ok: it really happened, with evidence; fail: it did not
	Heal     Kind = "heal"     // ok: what was broken is whole again
)

// Phase is how far what an event is about has come.
type Phase string

// The phases. Unknown means that it may have happened or not.
const (
	Invoke  Phase = "invoke"
	OK      Phase = "ok"
	Fail    Phase = "fail"
	Unknown Phase = "unknown"
)

// Event is one line.
type Event struct {
	T       time.Duration `json:"t"` // ns since the run's start, by the monotonic clock
	At      time.Time     `json:"at"`
	Process string        `json:"process"`
	Actor   string        `json:"actor"` // an endpoint, a client, an injector
	Kind    Kind          `json:"kind"`
	Phase   Phase         `json:"phase"`
	// ID joins events of one thing: a message id, an idempotency key, the id of a command or of a fault.
	ID string `json:"id,omitempty"`

	Message *Message `json:"message,omitempty"`
	Call    *Call    `json:"call,omitempty"`
	Fault   *Fault   `json:"fault,omitempty"`

	Line Line `json:"-"` // where it stands; set by readers
}

// Line is a place in a history, as file:number.
type Line string

// Message is what devices tell of uplinks and commands.
type Message struct {
	Channel string          `json:"channel,omitempty"` // of an uplink: ack, result, readings or event
	Payload json.RawMessage `json:"payload,omitempty"` // of an uplink, when it is JSON
	Bytes   []byte          `json:"bytes,omitempty"`   // of an uplink, when it is not
	Intent  Intent          `json:"intent,omitempty"`  // of an uplink that breaks the rules
	Copies  int             `json:"copies,omitempty"`  // of one publish on the wire, when more than one
	Broker  string          `json:"broker,omitempty"`
	Reason  string          `json:"reason,omitempty"`

	CommandID string    `json:"command_id,omitempty"`
	DeviceIDs []string  `json:"device_ids,omitempty"`
	Attempt   int       `json:"attempt,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Body is the payload, whichever way it was written.
func (m *Message) Body() []byte {
	if m.Payload != nil {
		return m.Payload
	}
	return m.Bytes
}

// SetBody keeps the payload as it is, readable where it is JSON in one line.
func (m *Message) SetBody(b []byte) {
	if plain(b) {
		m.Payload = b
		return
	}
	m.Bytes = b
}

// Intent says which rule an uplink breaks on purpose.
type Intent string

// The intents. An uplink without one keeps the rules.
const (
	Poison         Intent = "poison"          // cannot be understood: a dead letter
	UnknownCommand Intent = "unknown_command" // a result of a command that does not exist: a dead letter
	Foreign        Intent = "foreign"         // about a device that the sender does not speak for: a security event
	AfterEnd       Intent = "after_end"       // a result of an operation that has ended: stored as late
)

// Call is a request to the API and its answer.
type Call struct {
	Tenant   string        `json:"tenant,omitempty"`
	Path     string        `json:"path,omitempty"` // of a probe
	BodyHash string        `json:"body_hash,omitempty"`
	Status   int           `json:"status,omitempty"`  // of the answer; 0: none came
	Took     time.Duration `json:"took_ns,omitempty"` // until the answer, or until it was given up
	// RetryAfter is that header of the answer.
	RetryAfter string            `json:"retry_after,omitempty"`
	CommandID  string            `json:"command_id,omitempty"`
	ParentID   string            `json:"parent_id,omitempty"` // the command that is tried again
	Replayed   bool              `json:"replayed,omitempty"`
	Shown      string            `json:"shown,omitempty"`  // the status of the command
	States     map[string]string `json:"states,omitempty"` // of its operations, by device
	Error      string            `json:"error,omitempty"`
	Leaks      []string          `json:"leaks,omitempty"` // what the answer held of another tenant
}

// Fault is something broken on purpose.
type Fault struct {
	Name     string `json:"name"`               // such as "kill gateway" or [Flush]
	Target   string `json:"target,omitempty"`   // the process, the link
	Evidence string `json:"evidence,omitempty"` // how it is known that it happened
}

// Flush is the name of the fault after which acknowledged uplinks that are not yet stored may be gone: those acknowledged
// before its last event, which is to be written when it is done.
const Flush = "redis flushall"
