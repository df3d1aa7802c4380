package command

import (
	"encoding/json"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// DeadLetter is what could not be understood, or was given up. Its key makes the same one twice one. Of what the record
// lists the payload may be cut; PayloadBytes is how long it is.
type DeadLetter struct {
	ID         string             `json:"id"`
	Tenant     fleet.Tenant       `json:"tenant"`
	Source     string             `json:"source" enum:"uplink,operation"`
	Cause      string             `json:"cause" doc:"a code"`
	Detail     string             `json:"detail"`
	EndpointID meterread.DeviceID `json:"endpoint_id,omitempty" doc:"who sent the uplink; where the operation was to go"`
	DeviceID   meterread.DeviceID `json:"device_id,omitempty"`
	CommandID  ID                 `json:"command_id,omitempty"`
	Kind       UplinkKind         `json:"kind,omitempty" doc:"of the uplink"`
	Topic      string             `json:"topic,omitempty" doc:"that the uplink was published to"`
	Epoch      int64              `json:"session_epoch,omitempty" doc:"of the session that the uplink came by"`
	Gateway    string             `json:"gateway,omitempty" doc:"that took the uplink"`
	ReceivedAt time.Time          `json:"received_at" doc:"when the uplink was appended to the log, or the operation was given up"`
	CreatedAt  time.Time          `json:"created_at"`

	Payload      []byte  `json:"payload,omitempty" doc:"of the uplink, or of the part of it that was bad, as it came, in base64; a list shows its beginning"`
	PayloadText  *string `json:"payload_text,omitempty" doc:"the same as text, where it is UTF-8; of a single letter only"`
	PayloadBytes int     `json:"payload_bytes"`
	PayloadCut   bool    `json:"payload_cut,omitempty" doc:"payload is shorter than what is kept"`

	ParentID string `json:"parent_id,omitempty" doc:"the dead letter that was replayed and failed as this one"`
	Attempt  int    `json:"attempt" doc:"1, or one more than that of its parent"`

	Status     string          `json:"status" enum:"open,replayed,discarded"`
	DecidedBy  string          `json:"decided_by,omitempty" doc:"the id of the token that replayed or discarded it"`
	DecidedAt  *time.Time      `json:"decided_at,omitempty"`
	Decision   *LetterDecision `json:"decision,omitempty"`
	HandledAt  *time.Time      `json:"handled_at,omitempty" doc:"when a replayed one was handled again; none: it waits"`
	Again      int             `json:"again,omitempty" doc:"how many dead letters it became when it was handled again"`
	NewCommand ID              `json:"new_command_id,omitempty" doc:"of a replayed operation"`

	Links map[string]string `json:"links,omitempty"`
	Key   string            `json:"-"` // unique
}

// LetterDecision is who replayed or discarded a dead letter, and by which request.
type LetterDecision struct {
	ID         string `json:"id" doc:"of the call: all letters that it decided have the same"`
	TokenID    string `json:"token_id"`
	TokenName  string `json:"token_name" doc:"as it was then"`
	RequestID  string `json:"request_id"`
	RemoteAddr string `json:"remote_addr"`
}

// final says why the letter can only be discarded; "" when it can be replayed.
func (l DeadLetter) final() string {
	switch {
	case l.Source == LetterOperation:
		return ""
	case l.Cause == CauseCorrupt:
		return "its bytes are not what was sent: it can only be discarded"
	case l.Kind == UplinkAck || l.Kind == UplinkResult || l.Kind == UplinkReadings || l.Kind == UplinkEvent:
		return ""
	}
	return "it was only true at its time: it can only be discarded"
}

// Replayable says whether the letter is one that can be replayed, when it is open.
func (l DeadLetter) Replayable() bool { return l.final() == "" }

// The sources of dead letters and what becomes of them.
const (
	LetterUplink    = "uplink"
	LetterOperation = "operation"

	LetterOpen      = "open"
	LetterReplayed  = "replayed" // or to be: see HandledAt
	LetterDiscarded = "discarded"
)

// The causes of dead letters that are not codes of meterread.
const (
	CauseCorrupt        = "CORRUPT_ENTRY"
	CauseUnknownCommand = "UNKNOWN_COMMAND"
	CauseUnknownDevice  = "UNKNOWN_DEVICE"
	CausePanic          = "HANDLER_PANIC"
	CauseRefused        = "RECORD_REFUSED"
	CauseTooMany        = "TOO_MANY_BAD_PARTS" // the last letter of an uplink that leaves too many; it holds it all
)

// Causes lists every cause there is.
var Causes = []string{
	meterread.CodeBadJSON, meterread.CodeBadUTF8, meterread.CodeUnsupportedVersion, meterread.CodeBadResult, meterread.CodeBadAck,
	meterread.CodeBadEvent, meterread.CodeBadReading, meterread.CodeValueMissing, meterread.CodeValueNotNumber,
	meterread.CodeValueOutOfRange, meterread.CodeItemUnknown, meterread.CodeReadAtMissing, meterread.CodeReadAtInvalid,
	meterread.CodeQualityUnknown, meterread.CodeDeviceInvalid,
	CauseUnknownCommand, CauseUnknownDevice, CauseTooMany, CauseCorrupt, CausePanic, CauseRefused, CodeAttemptsUsedUp,
}

// Event is what an endpoint reported, or what went against the rules. Its key makes the same one twice one.
type Event struct {
	ID         string             `json:"id"`
	Tenant     fleet.Tenant       `json:"tenant"`
	EndpointID meterread.DeviceID `json:"endpoint_id"`
	DeviceID   meterread.DeviceID `json:"device_id"`
	Type       string             `json:"type"`
	At         time.Time          `json:"at"`
	ReceivedAt time.Time          `json:"received_at"`
	Data       jsonObject         `json:"data"`
	Key        string             `json:"-"` // unique per endpoint
}

// EventGivenUp is the type of the event of a command that could not be expanded: the operations that were made were cancelled.
const EventGivenUp = "command_given_up"

// EventHello is the type of the event that an endpoint sends when it has connected.
const EventHello = "hello"

// EventSecurity is the type of events that went against the rules.
const EventSecurity = "security"

// jsonObject is a JSON object as it came.
type jsonObject = json.RawMessage
