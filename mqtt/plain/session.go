package plain

import "github.com/mochi-mqtt/server/v2/packets"

// A Session is a connection's hold on the session of its key. Packet and End are called by its reader, one at a time;
// Start, Resume and all that other clients cause may run beside them. After a takeover all methods do nothing.
type Session struct{}

// Start is called once, when CONNACK has been handed to the link: what was not acknowledged is sent again (PUBREL, then
// PUBLISH with DUP, under the same packet ids and in the same order [MQTT-4.4.0-1]), then what has waited.
func (s *Session) Start() {}

// Packet handles a packet of the client. It must be decoded and well-formed; the hub keeps its strings and slices. An
// error is a packets.Code: the connection must end with it, and End be called. CONNECT and what only servers send are
// protocol errors, AUTH too; PINGREQ is for the caller. After DISCONNECT, which it takes too, the caller closes.
func (s *Session) Packet(pk packets.Packet) error { return nil }

// Resume says that a Link which has Flow has room again.
func (s *Session) Resume() {}

// End says that the connection is over; only the first call counts. graceful says that a DISCONNECT was read: the will is
// then discarded, unless Packet was given that DISCONNECT and it asked for the will (0x04 and errors).
func (s *Session) End(graceful bool) {}
