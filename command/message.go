package command

import (
	"encoding/json"
	"time"

	"meterline/meterread"
)

// Message is one down/command message: operations of one command that travel together to one endpoint.
// Its JSON form is the wire format.
type Message struct {
	V           int              `json:"v"`
	MessageID   string           `json:"message_id"`
	MessageType string           `json:"message_type"` // unicast, multicast or broadcast
	CommandID   ID               `json:"command_id"`
	Kind        Kind             `json:"kind"`
	IssuedAt    time.Time        `json:"issued_at"`
	ExpiresAt   time.Time        `json:"expires_at"` // absolute: an endpoint drops what is over
	Priority    int              `json:"priority"`
	Attempt     int              `json:"attempt"` // the highest of its targets'
	TraceParent string           `json:"traceparent,omitempty"`
	Items       []meterread.Item `json:"items"`
	Params      json.RawMessage  `json:"params"`
	Targets     []Target         `json:"targets"`
}

// Target is one operation of a Message.
type Target struct {
	DeviceID meterread.DeviceID `json:"device_id"`
	Route    json.RawMessage    `json:"route,omitempty"`
	Items    []meterread.Item   `json:"items,omitempty"`
}
