package plain

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// [MQTT-3.8.4-8]: the lesser of the QoS published and granted.
func TestQoSIsTheLesser(t *testing.T) {
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		p := fresh("publisher")
		for granted := byte(0); granted <= 2; granted++ {
			c := fresh("subscriber")
			if code := c.subscribe("t", granted); code != granted {
				t.Errorf("granted %d, want %d", code, granted)
			}
			for qos := byte(0); qos <= 2; qos++ {
				p.publish("t", "x", qos)
				c.want(fmt.Sprintf("t=x q%d", min(qos, granted)))
			}
		}
	})
}

// [MQTT-4.3.3-10]: whatever DUP says, until PUBREL the same id is the same message; [MQTT-4.3.3-12]: after it a new one.
func TestQoS2InboundIsExactlyOnce(t *testing.T) {
	both(t, func(t *testing.T, r *rig, fresh, resume func(string) *client) {
		c, p := fresh("subscriber"), resume("publisher")
		c.subscribe("t", 2)
		for _, dup := range []bool{false, true, false} {
			pk := publish("t", "x", 2, 7)
			pk.FixedHeader.Dup = dup
			p.do(pk)
			if rec := p.expect(packets.Pubrec); rec.PacketID != 7 || rec.ReasonCode != 0 {
				t.Errorf("PUBREC %+v", rec)
			}
		}
		p.drop()
		p = resume("publisher") // also over a new connection
		p.do(publish("t", "x", 2, 7))
		p.expect(packets.Pubrec)
		p.do(ack(packets.Pubrel, 7))
		if comp := p.expect(packets.Pubcomp); comp.PacketID != 7 || comp.ReasonCode != 0 {
			t.Errorf("PUBCOMP %+v", comp)
		}
		c.want("t=x q2")
		p.do(publish("t", "y", 2, 7))
		p.expect(packets.Pubrec)
		c.want("t=y q2")
	})
}

func TestPubrelForAnUnknownID(t *testing.T) { // [3.7.2.1]
	r := newRig(t, Options{})
	for c, want := range map[*client]byte{r.v4("a"): 0, r.v5("b"): 0x92} {
		c.do(ack(packets.Pubrel, 9))
		if comp := c.expect(packets.Pubcomp); comp.PacketID != 9 || comp.ReasonCode != want {
			t.Errorf("PUBCOMP %+v, want %#x", comp, want)
		}
	}
}

func TestQoS2Outbound(t *testing.T) { // [4.3.3]
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		c := fresh("c")
		c.subscribe("t", 2)
		r.Publish(Message{Topic: "t", QoS: 2})
		pk := c.expect(packets.Publish)
		for range 2 { // PUBREC may come again
			c.do(ack(packets.Pubrec, pk.PacketID))
			if rel := c.expect(packets.Pubrel); rel.PacketID != pk.PacketID || rel.FixedHeader.Qos != 1 || rel.ReasonCode != 0 {
				t.Errorf("PUBREL %+v", rel)
			}
		}
		if n := r.Hub.inflight.Load(); n != 1 {
			t.Errorf("%d in flight", n)
		}
		c.do(ack(packets.Pubcomp, pk.PacketID))
		if n := r.Hub.inflight.Load(); n != 0 {
			t.Errorf("%d in flight", n)
		}
		c.nothing()
	})
}

func TestAcknowledgementsOfNothingChangeNothing(t *testing.T) {
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		c := fresh("c")
		for _, kind := range []byte{packets.Puback, packets.Pubcomp} {
			c.do(ack(kind, 1))
			c.do(ack(kind, 65535))
		}
		c.nothing()
	})
}

// The message stays, and is sent again to whoever comes back.
func TestAcknowledgementsOfTheWrongKindEndTheConnection(t *testing.T) {
	for _, c := range []struct {
		name string
		qos  byte
		kind byte
	}{
		{"PUBREC of QoS 1", 1, packets.Pubrec},
		{"PUBCOMP of QoS 1", 1, packets.Pubcomp},
		{"PUBACK of QoS 2", 2, packets.Puback},
		{"PUBCOMP before PUBREC", 2, packets.Pubcomp},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(_ *testing.T, r *rig, _, resume func(string) *client) {
				wrong := resume("c")
				wrong.subscribe("t", 2)
				r.Publish(Message{Topic: "t", QoS: c.qos})
				id := wrong.expect(packets.Publish).PacketID
				wrong.fails(ack(c.kind, id), packets.ErrProtocolViolation)
				again := resume("c").expect(packets.Publish)
				if again.PacketID != id || !again.FixedHeader.Dup {
					t.Errorf("sent again: id %d, dup %v", again.PacketID, again.FixedHeader.Dup)
				}
			})
		})
	}
}

func TestPubackAfterPubrecEndsTheConnection(t *testing.T) {
	both(t, func(_ *testing.T, r *rig, fresh, _ func(string) *client) {
		c := fresh("c")
		c.subscribe("t", 2)
		r.Publish(Message{Topic: "t", QoS: 2})
		id := c.expect(packets.Publish).PacketID
		c.do(ack(packets.Pubrec, id))
		c.expect(packets.Pubrel)
		c.fails(ack(packets.Puback, id), packets.ErrProtocolViolation)
	})
}

func TestPubrecOfWhatWeDoNotKnowIsReleased(t *testing.T) { // [3.6.2.1]
	r := newRig(t, Options{})
	for c, want := range map[*client]byte{r.v4("a"): 0, r.v5("b"): 0x92} {
		c.do(ack(packets.Pubrec, 5))
		if rel := c.expect(packets.Pubrel); rel.PacketID != 5 || rel.ReasonCode != want {
			t.Errorf("PUBREL %+v, want %#x", rel, want)
		}
	}
	c := r.v5("c")
	refusal := ack(packets.Pubrec, 5)
	refusal.ReasonCode = 0x80
	c.do(refusal)
	c.nothing()
}

func TestARefusalEndsTheFlow(t *testing.T) { // [MQTT-4.3.3-4] [4.3.2]
	r := newRig(t, Options{})
	c := r.resume5("c")
	c.subscribe("t", 2)
	for qos, kind := range map[byte]byte{1: packets.Puback, 2: packets.Pubrec} {
		r.Publish(Message{Topic: "t", QoS: qos})
		no := ack(kind, c.expect(packets.Publish).PacketID)
		no.ReasonCode = packets.ErrQuotaExceeded.Code
		c.do(no)
		c.nothing()
	}
	c.drop()
	r.resume5("c").nothing()
}

// [MQTT-2.2.1-4]: ids of the two directions have nothing to do with each other.
func TestPacketIDsOfBothDirectionsMayBeEqual(t *testing.T) {
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		c := fresh("c")
		c.subscribe("t", 2)
		r.Publish(Message{Topic: "t", Payload: []byte("in"), QoS: 2})
		id := c.expect(packets.Publish).PacketID
		c.id = id - 1
		if code := c.subscribe("other", 1); code != 1 {
			t.Errorf("SUBSCRIBE with id %d: %#x", id, code)
		}
		c.id = id - 1
		c.unsubscribe("other")
		c.do(publish("u", "out", 2, id))
		c.expect(packets.Pubrec)
		c.do(ack(packets.Pubrec, id))
		c.expect(packets.Pubrel)
		c.do(ack(packets.Pubrel, id))
		c.expect(packets.Pubcomp)
		c.do(ack(packets.Pubcomp, id))
		c.do(publish("u", "out", 1, id))
		c.expect(packets.Puback)
		if n := r.Hub.inflight.Load(); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

func TestPacketIDInUse(t *testing.T) { // 0x91
	r := newRig(t, Options{})
	c := r.v5("c")
	c.do(publish("t", "x", 2, 3))
	c.expect(packets.Pubrec)
	c.do(publish("t", "y", 1, 3))
	if code := c.expect(packets.Puback).ReasonCode; code != packets.ErrPacketIdentifierInUse.Code {
		t.Errorf("PUBACK %#x", code)
	}
	c.id = 2
	if code := c.subscribe("a", 1); code != packets.ErrPacketIdentifierInUse.Code {
		t.Errorf("SUBACK %#x", code)
	}
	c.id = 2
	if codes := c.unsubscribe("a").ReasonCodes; codes[0] != packets.ErrPacketIdentifierInUse.Code {
		t.Errorf("UNSUBACK %#x", codes)
	}
	old := r.v4("old")
	old.do(publish("t", "x", 2, 3))
	old.expect(packets.Pubrec)
	old.id = 2
	if code := old.subscribe("a", 1); code != 1 {
		t.Errorf("3.1.1 SUBACK %#x", code)
	}
}

func TestPacketIDsWrapAndSkipWhatIsInFlight(t *testing.T) {
	r := newRig(t, Options{})
	c := r.v5("c")
	c.subscribe("t", 1)
	r.Publish(Message{Topic: "t", QoS: 1})
	first := c.expect(packets.Publish).PacketID
	for i := range 1 << 16 {
		r.Publish(Message{Topic: "t", QoS: 1})
		id := c.expect(packets.Publish).PacketID
		if id == first || id == 0 {
			t.Fatalf("message %d has id %d", i, id)
		}
		c.do(ack(packets.Puback, id))
	}
}

// [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.6.0-4]
func TestRedelivery(t *testing.T) {
	both(t, func(t *testing.T, r *rig, _, resume func(string) *client) {
		c := resume("c")
		c.subscribe("t", 2)
		var ids []uint16
		for i := range 6 {
			r.Publish(Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: byte(1 + i%2)})
			ids = append(ids, c.expect(packets.Publish).PacketID)
		}
		c.do(ack(packets.Pubrec, ids[5]))
		c.do(ack(packets.Pubrec, ids[1]))
		c.do(ack(packets.Puback, ids[2]))
		c.drop()
		r.Publish(Message{Topic: "t", Payload: []byte("later"), QoS: 2})
		r.Publish(Message{Topic: "t", Payload: []byte("lost"), QoS: 0})
		for range 2 { // as often as it takes
			c = resume("c")
			if !c.present {
				t.Error("no session present")
			}
			for _, id := range []uint16{ids[5], ids[1]} {
				if rel := c.expect(packets.Pubrel); rel.PacketID != id {
					t.Errorf("PUBREL %d, want %d", rel.PacketID, id)
				}
			}
			for _, i := range []int{0, 3, 4} {
				pk := c.expect(packets.Publish)
				if got, want := describe(pk), fmt.Sprintf("t=%d q%d dup", i, 1+i%2); got != want || pk.PacketID != ids[i] {
					t.Errorf("id %d %s, want id %d %s", pk.PacketID, got, ids[i], want)
				}
			}
			c.drop()
		}
		if got := c.message(); got != "t=later q2 dup" {
			t.Errorf("got %s", got)
		}
	})
}

func TestReceiveMaximumOfTheClient(t *testing.T) { // [MQTT-3.3.4-9]
	r := newRig(t, Options{})
	hello := Connect{Key: "c", Version: 5, SessionExpiry: 100, ReceiveMaximum: 2}
	c := r.link(&wire{}, hello)
	c.subscribe("t", 2)
	for i := range 5 {
		r.Publish(Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: byte(1 + i%2)})
	}
	one, two := c.expect(packets.Publish), c.expect(packets.Publish)
	c.nothing()
	r.Publish(Message{Topic: "t", Payload: []byte("now"), QoS: 0}) // is not held up [4.9]
	c.want("t=now q0")
	c.do(ack(packets.Pubrec, two.PacketID)) // does not give room, PUBCOMP does
	c.expect(packets.Pubrel)
	c.nothing()
	c.do(ack(packets.Pubcomp, two.PacketID))
	c.want("t=2 q1")
	c.fails(ack(packets.Pubrec, one.PacketID), packets.ErrProtocolViolation)
	c.nothing()
	c.drop()
	hello.ReceiveMaximum = 1
	c = r.link(&wire{}, hello)
	again := c.expect(packets.Publish)
	if got := describe(again); got != "t=0 q1 dup" {
		t.Errorf("got %s", got)
	}
	c.nothing()
	for _, want := range []string{"t=2 q1 dup", "t=3 q2"} {
		c.do(ack(packets.Puback, again.PacketID))
		again = c.expect(packets.Publish)
		if got := describe(again); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		c.nothing()
	}
	no := ack(packets.Pubrec, again.PacketID)
	no.ReasonCode = 0x83 // gives room at once
	c.do(no)
	c.want("t=4 q1")
}

func TestReceiveMaximumOfOurs(t *testing.T) { // [3.3.4] 0x93
	r := newRig(t, Options{ReceiveMaximum: 2})
	c := r.resume5("c")
	for id := uint16(1); id <= 2; id++ {
		c.do(publish("t", "x", 2, id))
		c.expect(packets.Pubrec)
	}
	c.do(publish("t", "x", 2, 2)) // again
	c.expect(packets.Pubrec)
	c.do(publish("t", "x", 0, 0))
	for qos := byte(1); qos <= 2; qos++ {
		c.fails(publish("t", "x", qos, 3), packets.ErrReceiveMaximum)
	}
	c.drop()
	c = r.resume5("c") // has its quota back [4.9]
	for id := uint16(3); id <= 4; id++ {
		c.do(publish("t", "x", 2, id))
		c.expect(packets.Pubrec)
	}
	c.do(ack(packets.Pubrel, 3))
	c.expect(packets.Pubcomp)
	c.do(publish("t", "x", 2, 5))
	c.expect(packets.Pubrec)
	c.fails(publish("t", "x", 2, 6), packets.ErrReceiveMaximum)

	old := r.v4("old") // knows of none
	for id := uint16(1); id <= 10; id++ {
		old.do(publish("t", "x", 2, id))
		old.expect(packets.Pubrec)
	}
}

func TestTooLargeForTheClientCountsAsDelivered(t *testing.T) { // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
	r := newRig(t, Options{})
	w := &wire{refuse: func(pk packets.Packet) error {
		if len(pk.Payload) > 10 {
			return packets.ErrPacketTooLarge
		}
		return nil
	}}
	hello := Connect{Key: "c", Version: 5, SessionExpiry: 100, ReceiveMaximum: 1, TopicAliasMaximum: 5}
	c := r.link(w, hello)
	c.subscribe("t", 2)
	for qos := byte(0); qos <= 2; qos++ {
		r.Publish(Message{Topic: "t", Payload: make([]byte, 11), QoS: qos})
		c.nothing()
	}
	r.Publish(Message{Topic: "t", Payload: []byte("small"), QoS: 1})
	pk := c.expect(packets.Publish)
	if pk.TopicName != "t" || pk.Properties.TopicAlias != 1 { // the alias was not introduced by what was not sent
		t.Errorf("%+v", pk)
	}
	c.drop()
	w = &wire{refuse: func(packets.Packet) error { return packets.ErrPacketTooLarge }}
	r.link(w, hello).drop()
	r.resume5("c").nothing()
	if n := r.Hub.inflight.Load(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}

func TestABrokenLinkLosesNothing(t *testing.T) {
	r := newRig(t, Options{})
	w := &wire{}
	c := r.link(w, Connect{Key: "c", Version: 4})
	c.subscribe("t", 1)
	w.refuse = func(packets.Packet) error { return errors.New("broken") }
	r.Publish(Message{Topic: "t", Payload: []byte("x"), QoS: 1})
	c.drop()
	r.resume4("c").want("t=x q1 dup")
}
