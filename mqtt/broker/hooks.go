package broker

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// nothing is a packet that mochi has nothing to do for: an acknowledgement of what it never sent.
var nothing = packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}

// hooks is where mochi asks us. To mochi every client is a stranger with a clean session, who sends PINGREQ and nothing
// else of interest: all other packets are taken away from it here. Each hook survives a panic below it: that client is
// stopped, and nobody else notices.
type hooks struct {
	mochi.HookBase
	life      context.Context // of the broker, the drain at its end included
	said      *sparing
	metrics   *metrics
	endpoints *endpoints
	services  *services
}

var provided = [256]bool{
	mochi.OnConnectAuthenticate: true, mochi.OnSessionEstablish: true, mochi.OnSessionEstablished: true,
	mochi.OnPacketRead: true, mochi.OnPacketEncode: true,
}

// ID names the hook for mochi.
func (h *hooks) ID() string { return "meterline" }

// Provides says which hooks there are.
func (h *hooks) Provides(b byte) bool { return provided[b] }

// guard stops the client when the hook panics. It must be deferred directly.
func (h *hooks) guard(client *mochi.Client, where string) {
	if p := recover(); p != nil {
		h.metrics.panics.Inc()
		h.said.say(slog.LevelError, "panic", "recovered from a panic", "where", where, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if w, ok := client.Net.Conn.(*wire); ok {
			w.part(packets.ErrImplementationSpecificError)
		}
	}
}

// serials number the connections: mochi knows a client by its number.
var serials atomic.Uint64

// introduce is the CONNECT that mochi gets to read of an admitted client.
func introduce(version byte) []byte {
	id := strconv.FormatUint(serials.Add(1), 36)
	out := []byte{packets.Connect << 4, 0, 0, 4, 'M', 'Q', 'T', 'T', version, 2 /* clean */, 0, 0}
	if version >= 5 {
		out = append(out, 0) // no properties
	}
	out = append(append(out, 0, byte(len(id))), id...)
	out[1] = byte(len(out) - 2)
	return out
}

// sessionOf is nil for a client that is none of ours.
func sessionOf(client *mochi.Client) *session {
	if w, ok := client.Net.Conn.(*wire); ok {
		return w.session.Load()
	}
	return nil
}

// OnConnectAuthenticate admits whom front has admitted.
func (h *hooks) OnConnectAuthenticate(client *mochi.Client, _ packets.Packet) bool {
	return sessionOf(client) != nil
}

// OnSessionEstablish comes before CONNACK: the client's session before this one is over when it returns.
func (h *hooks) OnSessionEstablish(client *mochi.Client, _ packets.Packet) {
	defer h.guard(client, "establish")
	s := sessionOf(client)
	h.metrics.accepted.WithLabelValues(s.who.role.String()).Inc()
	if s.who.role == roleEndpoint {
		h.endpoints.begin(h.life, s)
	} else {
		h.services.begin(s)
	}
}

// OnPacketEncode replaces mochi's CONNACK.
func (h *hooks) OnPacketEncode(client *mochi.Client, pk packets.Packet) packets.Packet {
	defer h.guard(client, "encode")
	s := sessionOf(client)
	if pk.FixedHeader.Type != packets.Connack || s == nil || s.hello == nil {
		return pk
	}
	s.hello.answer.SessionPresent = s.resumed
	return s.hello.answer
}

// OnSessionEstablished comes after CONNACK.
func (h *hooks) OnSessionEstablished(client *mochi.Client, _ packets.Packet) {
	defer h.guard(client, "established")
	s := sessionOf(client)
	s.hello = nil // it is answered, and large
	if s.who.role == roleEndpoint {
		h.endpoints.established(s)
	} else {
		h.services.established(s)
	}
}

// OnPacketRead takes the packets away from mochi. An error would not reach mochi's caller; the connection is ended here.
func (h *hooks) OnPacketRead(client *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	defer h.guard(client, "packet")
	s := sessionOf(client)
	switch {
	case pk.FixedHeader.Type == packets.Connect, pk.FixedHeader.Type == packets.Pingreq:
		return pk, nil
	case s.who.role == roleEndpoint:
		h.endpoints.packet(h.life, s, pk)
	default:
		h.services.packet(s, pk)
	}
	return nothing, nil
}

// ended is called once when an admitted client's connection is gone.
func (h *hooks) ended(s *session) {
	if s.who.role == roleEndpoint {
		h.endpoints.end(h.life, s)
	} else {
		h.services.end(s)
	}
}
