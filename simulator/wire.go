package simulator

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"meterline/meterread"
)

// What an endpoint publishes, in the JSON of the wire.

type reading struct {
	DeviceID meterread.DeviceID `json:"device_id,omitempty"` // in up/readings only
	Item     meterread.Item     `json:"item"`
	Value    string             `json:"value"`
	Unit     string             `json:"unit"`
	ReadAt   time.Time          `json:"read_at"`
	Quality  meterread.Quality  `json:"quality"`
}

type trace struct {
	ReceivedAt time.Time  `json:"received_at"`
	AskedAt    *time.Time `json:"asked_at,omitempty"` // nil: the meter was never asked
	AnsweredAt time.Time  `json:"answered_at"`
}

type result struct {
	CommandID meterread.CommandID `json:"command_id"`
	DeviceID  meterread.DeviceID  `json:"device_id"`
	Attempt   int                 `json:"attempt"`
	Status    string              `json:"status"`
	Final     bool                `json:"final"`
	Code      string              `json:"code,omitempty"`
	Message   string              `json:"message,omitempty"`
	Readings  []reading           `json:"readings,omitempty"`
	Trace     trace               `json:"trace"`
}

type resultMessage struct {
	V         int       `json:"v"`
	MessageID string    `json:"message_id"`
	Results   []*result `json:"results"`
}

type ackMessage struct {
	V         int                  `json:"v"`
	CommandID meterread.CommandID  `json:"command_id"`
	DeviceIDs []meterread.DeviceID `json:"device_ids"`
	Status    string               `json:"status"`
}

type readingsMessage struct {
	V         int       `json:"v"`
	MessageID string    `json:"message_id"`
	Readings  []reading `json:"readings"`
}

type eventMessage struct {
	V         int                `json:"v"`
	MessageID string             `json:"message_id"`
	Type      string             `json:"type"`
	DeviceID  meterread.DeviceID `json:"device_id"`
	At        time.Time          `json:"at"`
	Data      map[string]any     `json:"data"`
}

// The codes of results that the simulator gives.
const (
	codeBusTimeout      = "BUS_TIMEOUT"
	codeBusError        = "BUS_ERROR"
	codeCRCError        = "CRC_ERROR"
	codeNoSuchMeter     = "NO_SUCH_METER"
	codeNoSuchItem      = "NO_SUCH_ITEM"
	codeMeterRefused    = "METER_REFUSED"
	codeExpired         = "EXPIRED_AT_ENDPOINT"
	codeUnsupportedKind = "UNSUPPORTED_KIND"
)

// Sizes of one up/result message: it is sent before it would pass either of them.
const (
	maxResultBytes = 100 << 10
	resultBytes    = 320 // an estimate of one result without readings
	readingBytes   = 140 // an estimate of one reading
)

func (r *result) size() int { return resultBytes + len(r.Message) + readingBytes*len(r.Readings) }

func newMessageID() string { return uuid.Must(uuid.NewV7()).String() }

// encode marshals what this package made itself, which cannot fail.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("simulator: encode uplink: " + err.Error())
	}
	return b
}
