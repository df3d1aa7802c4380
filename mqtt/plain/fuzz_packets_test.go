package plain

import (
	"bytes"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// FuzzPackets gives a hub whatever the codec takes for packets, from three clients. Nothing may panic, and when all have
// gone nothing may be left but retained messages.
func FuzzPackets(f *testing.F) {
	for _, pk := range []packets.Packet{
		publish("a/b", "x", 2, 1), publish("$SYS/a", "", 1, 7), ack(packets.Puback, 1), ack(packets.Pubrec, 1),
		ack(packets.Pubrel, 1), ack(packets.Pubcomp, 1), ack(packets.Disconnect, 0),
		{
			FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1,
			Filters: packets.Subscriptions{{Filter: "a/+", Qos: 2}, {Filter: "$share/g/#", Qos: 1}, {Filter: "#/x"}},
		},
		{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "a/+"}}},
	} {
		for version := byte(4); version <= 5; version++ {
			pk.ProtocolVersion = version
			f.Add(append([]byte{version}, encode(f, pk)...))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newRig(t, Options{Queue: 20, Retained: 5, Subscriptions: 8, ReceiveMaximum: 3, Levels: 6})
		hello := func(i byte) Connect {
			return Connect{
				Key: string(rune('a' + i%3)), Version: 4 + i&1, SessionExpiry: uint32(i & 2), ReceiveMaximum: 2, TopicAliasMaximum: 2,
				Will: &Will{Message: Message{Topic: "a/b", Retain: true, QoS: i % 3}, Delay: uint32(i & 4)},
			}
		}
		clients := []*client{r.link(&wire{}, hello(0)), r.link(&wire{}, hello(1)), r.link(&wire{}, hello(2))}
		for len(in) > 2 {
			which, header, size := in[0], in[1], min(int(in[2]), len(in)-3)
			body := bytes.Clone(in[3 : 3+size])
			in = in[3+size:]
			c := clients[which%3]
			pk, ok := decode(c.version, header, body)
			if !ok {
				continue
			}
			if c.s.Packet(pk) != nil || pk.FixedHeader.Type == packets.Disconnect {
				c.s.End(which&64 > 0)
				clients[which%3] = r.link(&wire{}, hello(which))
			}
		}
		for i := range byte(3) {
			h := hello(i)
			h.Version, h.Clean, h.Will = 4, true, nil
			r.link(&wire{}, h).drop()
		}
		r.empty()
	})
}

// encode is a packet as the target reads it: first byte, length, rest.
func encode(f *testing.F, pk packets.Packet) []byte {
	f.Helper()
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Subscribe:
		err = pk.SubscribeEncode(&buf)
	case packets.Unsubscribe:
		err = pk.UnsubscribeEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	default:
		err = pk.PubackEncode(&buf)
	}
	if err != nil || buf.Len() > 127 {
		f.Fatalf("%d bytes, %v", buf.Len(), err)
	}
	return buf.Bytes()
}

// decode is what mochi makes of a packet; its decoder panics on some.
func decode(version, header byte, body []byte) (pk packets.Packet, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	pk.ProtocolVersion = version
	if pk.FixedHeader.Decode(header) != nil {
		return pk, false
	}
	pk.FixedHeader.Remaining = len(body)
	var err error
	switch pk.FixedHeader.Type {
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		err = pk.PubackDecode(body)
	case packets.Subscribe:
		err = pk.SubscribeDecode(body)
	case packets.Unsubscribe:
		err = pk.UnsubscribeDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err == nil
}
