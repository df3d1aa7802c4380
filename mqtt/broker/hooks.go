package broker

import (
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// nothing is a packet that mochi has nothing to do for: an acknowledgement of what it never sent.
var nothing = packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}

// hooks is where mochi asks us about service clients and backends; of endpoints it does not know. To mochi every client is a
// stranger with a clean session, who sends PINGREQ and nothing else of interest: all other packets are taken away from it
// here. Each hook survives a panic below it: that client is stopped, and nobody else notices.
type hooks struct {
	mochi.HookBase
	guard    *guard
	services *services
}

var provided = [256]bool{
	mochi.OnConnectAuthenticate: true, mochi.OnSessionEstablish: true, mochi.OnSessionEstablished: true,
	mochi.OnPacketRead: true, mochi.OnPacketEncode: true,
}

// ID names the hook for mochi.
func (h *hooks) ID() string { return "meterline" }

// Provides says which hooks there are.
func (h *hooks) Provides(b byte) bool { return provided[b] }

// survive stops the client when the hook panics. It must be deferred directly.
func (h *hooks) survive(client *mochi.Client, where string) {
	if p := recover(); p != nil {
		_ = h.guard.caught(where, p)
		if c, ok := client.Net.Conn.(*mochiConn); ok {
			c.part(packets.ErrImplementationSpecificError)
		}
	}
}

// sessionOf is nil for a client that is none of ours.
func sessionOf(client *mochi.Client) *session {
	if c, ok := client.Net.Conn.(*mochiConn); ok {
		return c.session.Load()
	}
	return nil
}

// OnConnectAuthenticate admits whom front has admitted.
func (h *hooks) OnConnectAuthenticate(client *mochi.Client, _ packets.Packet) bool {
	return sessionOf(client) != nil
}

// OnSessionEstablish comes before CONNACK: the client's session before this one is over when it returns.
func (h *hooks) OnSessionEstablish(client *mochi.Client, _ packets.Packet) {
	defer h.survive(client, "establish")
	h.services.begin(sessionOf(client))
}

// OnPacketEncode replaces mochi's CONNACK.
func (h *hooks) OnPacketEncode(client *mochi.Client, pk packets.Packet) packets.Packet {
	defer h.survive(client, "encode")
	s := sessionOf(client)
	if pk.FixedHeader.Type != packets.Connack || s == nil || s.hello == nil {
		return pk
	}
	return s.hello.welcome(s.resumed)
}

// OnSessionEstablished comes after CONNACK.
func (h *hooks) OnSessionEstablished(client *mochi.Client, _ packets.Packet) {
	defer h.survive(client, "established")
	s := sessionOf(client)
	s.hello = nil // it is answered, and large
	h.services.established(s)
}

// OnPacketRead takes the packets away from mochi. An error would not reach mochi's caller; the connection is ended here.
func (h *hooks) OnPacketRead(client *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	defer h.survive(client, "packet")
	if pk.FixedHeader.Type != packets.Connect && pk.FixedHeader.Type != packets.Pingreq {
		h.services.packet(sessionOf(client), pk)
		return nothing, nil
	}
	return pk, nil
}
