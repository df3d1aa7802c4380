package broker

import (
	"bytes"
	"context"
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/frame"
)

// serve is the life of an endpoint's connection, from its CONNACK until it has to end; end comes after it. It runs in the
// only goroutine that the connection has: whatever is sent to it is written by whoever sends it. A packet may be long in
// handling, in take, and so holds up its own connection only. A panic ends the connection as well.
//
// What is not the daily work of a device is left to mochi's codec.
func (e *endpoints) serve(ctx context.Context, w *wire, s *session) {
	for {
		packet, err := w.next()
		if err != nil {
			return
		}
		e.packet(ctx, w, s, packet)
	}
}

// welcome makes s a session, and answers CONNECT. It is false when the connection has to end instead.
func (e *endpoints) welcome(ctx context.Context, w *wire, s *session) bool {
	e.begin(ctx, s)
	err := w.send(s.hello.welcome(s.resumed))
	w.answered.Store(true)
	s.hello = nil // it is answered, and large
	if err != nil {
		return false
	}
	e.established(s)
	return true
}

// packet handles a packet.
func (e *endpoints) packet(ctx context.Context, w *wire, s *session, packet []byte) {
	switch packet[0] >> 4 {
	case packets.Publish:
		e.publish(ctx, s, frame.OpenPublish(w.version, packet))
	case packets.Puback:
		id, reason := frame.OpenPuback(packet)
		e.delivery.acknowledged(s, id, reason)
	case packets.Pingreq:
		_ = w.put(pingresp)
	case packets.Subscribe:
		e.subscribe(s, decode(w.version, packet))
	case packets.Unsubscribe:
		e.unsubscribe(s, decode(w.version, packet))
	case packets.Disconnect:
		e.disconnect(s, decode(w.version, packet))
	default: // PUBREC, PUBREL, PUBCOMP: we neither send nor take QoS 2
		e.refuse(s, packets.ErrProtocolViolation)
	}
}

var pingresp = []byte{packets.Pingresp << 4, 0}

// decode decodes one of the packets that frame has found well-formed and does not open.
func decode(version byte, packet []byte) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packet[0] >> 4}, ProtocolVersion: version}
	body := bytes.Clone(frame.Body(packet)) // the codec's texts lie in it
	pk.FixedHeader.Remaining = len(body)
	var err error
	switch pk.FixedHeader.Type {
	case packets.Subscribe:
		err = pk.SubscribeDecode(body)
	case packets.Unsubscribe:
		err = pk.UnsubscribeDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	if err != nil {
		panic(fmt.Sprintf("mochi's codec does not take what is well-formed: %v", err)) // FuzzFrame looks for it
	}
	return pk
}
