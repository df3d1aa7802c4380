package meterread

import "time"

// Version is the version of the wire format that this package speaks.
const Version = 1

// Result is what an endpoint says about one operation (up/result). Several travel in one message. Its Readings are as the
// meter gave them: neither stamped with their receipt nor judged by it (see Reading.Received).
type Result struct {
	CommandID CommandID
	DeviceID  DeviceID
	Attempt   int       // 0 when the endpoint did not say
	Status    string    // StatusOK, StatusError or StatusRejected
	Final     bool      // false: more parts follow
	Code      string    // of the endpoint's own choice, at most 64 bytes; often empty for StatusOK, and it may be for others
	Message   string    // at most 1024 bytes
	Readings  []Reading // those that could be understood; DeviceID and CommandID are filled in
	Bad       []Bad     // readings of this result that could not; Index is within its readings
	Raw       []byte    // this result as it came: a part of the payload, not a copy
	Index     int       // place within the message
}

// Results is one up/result message.
type Results struct {
	MessageID string
	Results   []Result
	Bad       []Bad // whole results that could not be understood; Index is within all results of the message
}

// The statuses of results and acks on the wire.
const (
	StatusOK       = "ok"
	StatusError    = "error"
	StatusRejected = "rejected"
	StatusAccepted = "accepted"
	StatusProgress = "progress"
)

// Ack is one up/ack message: the endpoint took the operations up, is at work on them, or refuses them.
type Ack struct {
	CommandID CommandID
	DeviceIDs []DeviceID
	Status    string // StatusAccepted, StatusProgress or StatusRejected
	Code      string
	Message   string
}

// Readings is one up/readings message: values nobody asked for.
type Readings struct {
	MessageID string
	Readings  []Reading // those that could be understood, without CommandID
	Bad       []Bad     // those that could not; Index is within all readings of the message
}

// Event is one up/event message: hello, alarm, diagnostics.
type Event struct {
	MessageID string
	Type      string
	DeviceID  DeviceID  // empty: the endpoint itself
	At        time.Time // the device's clock, microseconds; zero when it did not say
	Data      []byte    // a JSON object that every JSON column takes, nil when there is none; may be a part of the payload
}

// Bad is a part of a message that could not be understood, with the code of its dead letter.
type Bad struct {
	Index  int    // place of the part, from 0
	Code   string // one of the codes below
	Detail string // for people
	Raw    []byte // the part as it came: a part of the payload, not a copy
}

// Poison is the error of a message that could not be understood as a whole.
type Poison struct {
	Code   string // one of the codes below
	Detail string // for people
}

func (p *Poison) Error() string { return p.Code + ": " + p.Detail }

// The codes of dead letters.
const (
	CodeBadJSON            = "BAD_JSON"
	CodeBadUTF8            = "BAD_UTF8"
	CodeUnsupportedVersion = "UNSUPPORTED_VERSION"
	CodeBadResult          = "BAD_RESULT"
	CodeBadAck             = "BAD_ACK"
	CodeBadEvent           = "BAD_EVENT"
	CodeBadReading         = "BAD_READING"
	CodeValueMissing       = "VALUE_MISSING"
	CodeValueNotNumber     = "VALUE_NOT_A_NUMBER"
	CodeValueOutOfRange    = "VALUE_OUT_OF_RANGE"
	CodeItemUnknown        = "ITEM_UNKNOWN"
	CodeReadAtMissing      = "READ_AT_MISSING"
	CodeReadAtInvalid      = "READ_AT_INVALID"
	CodeQualityUnknown     = "QUALITY_UNKNOWN"
	CodeDeviceInvalid      = "DEVICE_INVALID"
)
