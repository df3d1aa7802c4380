package meterread

import "time"

// Quality says how far a reading can be trusted.
type Quality string

// The qualities; an endpoint that names none means Valid.
const (
	Valid     Quality = "valid"
	Estimated Quality = "estimated"
	Suspect   Quality = "suspect" // the meter's clock is far off, or another value is stored for the same time
	Invalid   Quality = "invalid"
)

// Reading is one value of one item of one device. It is unique by (device, item, read_at, revision): the same value
// again is the same reading, another value for the same time is the next revision.
type Reading struct {
	DeviceID   DeviceID  `json:"device_id"`
	Item       Item      `json:"item"`
	Value      string    `json:"value"` // decimal, never a float: digits survive as the meter wrote them
	Unit       string    `json:"unit"`
	ReadAt     time.Time `json:"read_at"`     // the meter's clock, microseconds
	ReceivedAt time.Time `json:"received_at"` // when the uplink log took it
	Quality    Quality   `json:"quality"`
	Late       bool      `json:"late"`                 // came after its operation had ended
	CommandID  CommandID `json:"command_id,omitempty"` // who asked; empty when nobody did
}

// A meter clock this far ahead of, or behind, the time of receipt makes its reading suspect. Load profiles may be
// handed in months later, so the past is given more room than the future.
const (
	clockAhead  = 24 * time.Hour
	clockBehind = 2 * 365 * 24 * time.Hour
)

// Received stamps r with its time of receipt (cut to microseconds, what the store keeps) and marks it suspect when the
// meter's clock is far off.
func (r Reading) Received(at time.Time) Reading {
	r.ReceivedAt = at.UTC().Truncate(time.Microsecond)
	off := r.ReadAt.Sub(r.ReceivedAt)
	if r.Quality == Valid && (off > clockAhead || off < -clockBehind) {
		r.Quality = Suspect
	}
	return r
}
