package command

import (
	"encoding/json"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// DeadLetter is what could not be understood, or was given up. Its key makes the same one twice one.
type DeadLetter struct {
	ID         string             `json:"id"`
	Tenant     fleet.Tenant       `json:"tenant"`
	Source     string             `json:"source"` // LetterUplink or LetterOperation
	Cause      string             `json:"cause"`  // a code
	Detail     string             `json:"detail"`
	EndpointID meterread.DeviceID `json:"endpoint_id,omitempty"`
	DeviceID   meterread.DeviceID `json:"device_id,omitempty"`
	CommandID  ID                 `json:"command_id,omitempty"`
	Kind       UplinkKind         `json:"kind,omitempty"` // of the uplink
	Payload    []byte             `json:"payload,omitempty"`
	Key        string             `json:"-"` // unique
	CreatedAt  time.Time          `json:"created_at"`
	Status     string             `json:"status"` // open, replayed or discarded
	DecidedBy  string             `json:"decided_by,omitempty"`
	DecidedAt  *time.Time         `json:"decided_at,omitempty"`
	NewCommand ID                 `json:"new_command_id,omitempty"` // of a replayed operation
}

// The sources of dead letters and what becomes of them.
const (
	LetterUplink    = "uplink"
	LetterOperation = "operation"

	LetterOpen      = "open"
	LetterReplayed  = "replayed"
	LetterDiscarded = "discarded"
)

// The causes of dead letters that are not codes of meterread.
const (
	CauseCorrupt        = "CORRUPT_ENTRY"
	CauseUnknownCommand = "UNKNOWN_COMMAND"
	CauseUnknownDevice  = "UNKNOWN_DEVICE"
	CausePanic          = "HANDLER_PANIC"
	CauseRefused        = "RECORD_REFUSED"
)

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
