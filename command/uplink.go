package command

import (
	"cmp"
	"strings"
	"time"

	"meterline/meterread"
)

// UplinkKind says what an entry of the uplink log is.
type UplinkKind string

// The kinds: the first four are what endpoints publish (topic up/*), the others what the gateway itself saw. Those are
// hints: they may be shed under pressure, and leases and heartbeats cover for them.
const (
	UplinkAck      UplinkKind = "ack"
	UplinkResult   UplinkKind = "result"
	UplinkReadings UplinkKind = "readings"
	UplinkEvent    UplinkKind = "event"

	UplinkConnected     UplinkKind = "connected"     // the endpoint's newest session is subscribed to its commands
	UplinkDisconnected  UplinkKind = "disconnected"  // that session is over
	UplinkDelivered     UplinkKind = "delivered"     // Payload: the message id the endpoint sent its PUBACK for
	UplinkUndeliverable UplinkKind = "undeliverable" // Payload: a message id that no session could take
	UplinkSecurity      UplinkKind = "security"      // Payload: an event (meterread.Event JSON) the gateway saw, e.g. a refused topic
)

// Hint says whether the kind is a hint of the gateway's, not a message of the endpoint's.
func (k UplinkKind) Hint() bool {
	switch k {
	case UplinkConnected, UplinkDisconnected, UplinkDelivered, UplinkUndeliverable:
		return true
	}
	return false
}

// Session is one MQTT session of an endpoint on one gateway. A later session of the same endpoint has a larger Epoch,
// on whatever gateway, also after Redis was flushed.
type Session struct {
	Endpoint    meterread.DeviceID
	Gateway     string
	Incarnation string // changes with every start of the gateway
	Epoch       int64
	Since       time.Time
	RemoteAddr  string
}

// name is how uplinks and operations name the gateway that holds the session: "gateway/incarnation".
func (s Session) name() string { return s.Gateway + "/" + s.Incarnation }

// Uplink is one entry of the uplink log.
type Uplink struct {
	Partition  int
	Endpoint   meterread.DeviceID // who sent it: the MQTT session, never a field of the payload
	Epoch      int64              // of the session it came by; 0 for a suffixed session, which has no presence
	Gateway    string             // "gateway/incarnation" that took it
	Kind       UplinkKind
	Payload    []byte
	Position   Position  // given by the log when it is appended
	Entry      Position  // names the entry in a log whose Position depends on how far others were read; "" means Position
	AppendedAt time.Time // given by the log when it is appended, by the log's clock
	Corrupt    bool      // the entry's checksum did not match: kept as a dead letter, never interpreted
}

// Position is a place in one partition of the uplink log. Only the log that gave it can compare it; "" is before the first.
type Position string

// entry names the entry among those of its partition.
func (u Uplink) entry() Position { return cmp.Or(u.Entry, u.Position) }

// GatewayID is the gateway that took the uplink.
func (u Uplink) GatewayID() string { id, _, _ := strings.Cut(u.Gateway, "/"); return id }

// GatewayIncarnation is the incarnation of the gateway that took the uplink.
func (u Uplink) GatewayIncarnation() string { _, inc, _ := strings.Cut(u.Gateway, "/"); return inc }
