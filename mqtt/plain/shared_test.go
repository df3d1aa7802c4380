package plain

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// payloads takes all PUBLISHes of a client, acknowledged if ack is set.
func (c *client) payloads(acknowledge bool) (all []string) {
	c.t.Helper()
	for {
		pk, ok := c.take()
		if !ok {
			return all
		}
		if pk.FixedHeader.Type != packets.Publish {
			c.t.Fatalf("unexpected %s", packets.PacketNames[pk.FixedHeader.Type])
		}
		all = append(all, string(pk.Payload))
		if acknowledge && pk.FixedHeader.Qos == 1 {
			c.do(ack(packets.Puback, pk.PacketID))
		}
	}
}

func (r *rig) send(topic string, qos byte, from, to int) {
	for i := from; i < to; i++ {
		r.Publish(Message{Topic: topic, Payload: fmt.Append(nil, i), QoS: qos})
	}
}

func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSharedTakeTurns(t *testing.T) { // [4.8.2]
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		a, b, other, plain := fresh("a"), fresh("b"), fresh("other"), fresh("plain")
		a.subscribe("$share/g/t/+", 1)
		b.subscribe("$share/g/t/+", 1)
		other.subscribe("$share/h/t/+", 1)
		plain.subscribe("t/+", 1)
		r.send("t/x", 1, 0, 10)
		one, two := a.payloads(true), b.payloads(true)
		if len(one) != 5 || len(two) != 5 {
			t.Errorf("%v, %v", one, two)
		}
		same(t, append(one, two...), numbers(0, 10))
		same(t, other.payloads(true), numbers(0, 10))
		same(t, plain.payloads(true), numbers(0, 10))
	})
}

func TestSharedQoSIsTheMembersOwn(t *testing.T) { // [MQTT-4.8.2-3]
	r := newRig(t, Options{})
	a, b := r.v5("a"), r.v5("b")
	a.subscribe("$share/g/t", 0, subID(1))
	b.subscribe("$share/g/t", 2, subID(2))
	r.send("t", 2, 0, 2)
	a.want("t=0 q0 [1]")
	b.want("t=1 q2 [2]")
}

// What a member leaves without PUBACK goes to the others as soon as it is gone.
func TestSharedMoveWhenAMemberDies(t *testing.T) {
	both(t, func(t *testing.T, r *rig, fresh, resume func(string) *client) {
		for name, connect := range map[string]func(string) *client{"fresh": fresh, "resumed": resume} {
			a, b := connect("a"), fresh("b")
			a.subscribe("$share/g/t", 1)
			b.subscribe("$share/g/t", 1)
			r.send("t", 1, 0, 200)
			got := b.payloads(true)
			if n := len(a.payloads(false)); n != 100 || len(got) != 100 {
				t.Fatalf("%s: %d and %d", name, n, len(got))
			}
			a.drop()
			moved := b.payloads(true)
			if !slices.IsSortedFunc(moved, func(x, y string) int { return len(x) - len(y) }) {
				t.Errorf("%s: out of order: %v", name, moved)
			}
			same(t, append(got, moved...), numbers(0, 200))
			connect("a").nothing()
			b.drop()
			fresh("a").drop()
			r.empty()
		}
	})
}

// [MQTT-4.8.2-4] [MQTT-4.8.2-5]
func TestSharedAtQoS2StayWithTheirMember(t *testing.T) {
	r := newRig(t, Options{})
	a, b := r.resume5("a"), r.v5("b")
	a.subscribe("$share/g/t", 2)
	r.send("t", 2, 0, 2)
	a.payloads(false)
	b.subscribe("$share/g/t", 2)
	a.drop()
	b.nothing()
	a = r.resume5("a")
	a.want("t=0 q2 dup", "t=1 q2 dup")
	a.drop()
	r.v5("a") // ends the session
	b.nothing()
}

func TestSharedRefusedIsNotSentToOthers(t *testing.T) { // [MQTT-4.8.2-6]
	r := newRig(t, Options{})
	a, b := r.v5("a"), r.v5("b")
	a.subscribe("$share/g/t", 1)
	r.send("t", 1, 0, 1)
	b.subscribe("$share/g/t", 1)
	no := ack(packets.Puback, a.expect(packets.Publish).PacketID)
	no.ReasonCode = 0x80
	a.do(no)
	a.drop()
	b.nothing()
}

// With nobody there messages wait; whoever comes first gets them, the one who had them before under the same id.
func TestSharedWaitForAMember(t *testing.T) {
	both(t, func(t *testing.T, r *rig, fresh, resume func(string) *client) {
		a := resume("a")
		a.subscribe("$share/g/t", 1)
		r.send("t", 1, 0, 2)
		first := a.expect(packets.Publish)
		a.payloads(false)
		a.drop()
		r.send("t", 1, 2, 4)
		r.send("t", 0, 99, 100) // at QoS 0 nobody waits
		a = resume("a")
		again := a.expect(packets.Publish)
		if again.PacketID != first.PacketID || describe(again) != "t=0 q1 dup" {
			t.Errorf("%+v", again)
		}
		a.want("t=1 q1 dup", "t=2 q1", "t=3 q1")
		a.drop()

		b := fresh("b") // did not know of the group before
		b.subscribe("$share/g/t", 1)
		if got := b.payloads(true); !slices.Equal(got, numbers(0, 4)) {
			t.Errorf("b got %v", got)
		}
		resume("a").nothing()
	})
}

func TestSharedMemberWithoutSessionLeavesNothingStranded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := running(t, Options{})
		hello := Connect{Key: "a", Version: 5, SessionExpiry: 10}
		a, b := r.link(&wire{}, hello), r.resume5("b")
		a.subscribe("$share/g/t", 1)
		b.subscribe("$share/g/t", 1)
		b.drop()
		r.send("t", 1, 0, 3)
		a.payloads(false)
		a.drop()
		r.send("t", 1, 3, 6)
		after(time.Minute) // a's session is over
		b = r.resume5("b")
		same(t, b.payloads(true), numbers(0, 6))
		r.send("t", 1, 6, 9)
		same(t, b.payloads(true), numbers(6, 9))
		b.unsubscribe("$share/g/t")
		r.send("t", 1, 9, 12)
		b.nothing()
		r.v5("b").drop()
		r.empty()
	})
}

// A member whose window is full is passed over; what none can take waits for the first acknowledgement.
func TestSharedGoToWhoIsFree(t *testing.T) {
	r := newRig(t, Options{})
	slow := r.link(&wire{}, Connect{Key: "slow", Version: 5, ReceiveMaximum: 1})
	quick := r.link(&wire{}, Connect{Key: "quick", Version: 5, ReceiveMaximum: 2})
	slow.subscribe("$share/g/t", 1)
	quick.subscribe("$share/g/t", 1)
	r.send("t", 1, 0, 10)
	got := quick.payloads(true)
	if len(got) != 9 {
		t.Errorf("quick got %v", got)
	}
	same(t, append(got, slow.payloads(true)...), numbers(0, 10))

	quick.setFull(true)
	r.send("t", 1, 0, 2)
	slow.want("t=0 q1")
	quick.nothing()
	quick.setFull(false)
	quick.s.Resume()
	quick.want("t=1 q1")
}

func TestSharedLimits(t *testing.T) {
	r := newRig(t, Options{Queue: 3})
	a := r.resume5("a")
	a.subscribe("$share/g/t", 1)
	a.drop()
	r.send("t", 1, 0, 5)
	a = r.resume5("a")
	a.want("t=0 q1", "t=1 q1", "t=2 q1") // the newest are dropped
}

func TestSharedOnlyToWhoMayHaveThem(t *testing.T) {
	r := newRig(t, Options{Rules: &rules{mayReceive: func(who any, _ *Message) bool { return who == "a" }}})
	a, b := r.resume5("a"), r.v5("b")
	a.subscribe("$share/g/t", 1)
	b.subscribe("$share/g/t", 1)
	for range 4 {
		r.Publish(Message{Topic: "t", QoS: 1, About: 1})
	}
	if n := len(a.payloads(false)); n != 4 {
		t.Errorf("a got %d", n)
	}
	a.drop() // they may not move to b
	b.nothing()
	r.Publish(Message{Topic: "t", QoS: 1, About: 1})
	b.nothing()
	if n := len(r.resume5("a").payloads(true)); n != 5 {
		t.Errorf("a got %d", n)
	}
}
