package plain

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// rules allow what they say nothing of.
type rules struct {
	mayPublish   func(who any, topic string) bool
	maySubscribe func(who any, filter string) bool
	mayReceive   func(who any, m *Message) bool
	take         func(who any, m *Message) bool
}

func (r *rules) MayPublish(who any, topic string) bool {
	return r.mayPublish == nil || r.mayPublish(who, topic)
}

func (r *rules) MaySubscribe(who any, filter string) bool {
	return r.maySubscribe == nil || r.maySubscribe(who, filter)
}

func (r *rules) MayReceive(who any, m *Message) bool {
	return r.mayReceive == nil || r.mayReceive(who, m)
}

func (r *rules) Take(who any, m *Message) bool { return r.take != nil && r.take(who, m) }

func TestForbiddenPublishes(t *testing.T) {
	o := Options{Rules: &rules{mayPublish: func(_ any, topic string) bool { return topic != "no" }}}
	for _, topic := range []string{"no", "$SYS/x", "$share/g/x"} {
		r := newRig(t, o)
		watcher := r.v5("watcher")
		for _, f := range []string{"#", "$SYS/#", "$share/g/$share/g/x"} {
			watcher.subscribe(f, 0)
		}
		c := r.v5("c")
		for qos := byte(0); qos <= 2; qos++ {
			for range 2 { // nothing stays of a refused publish: the id is free again [MQTT-4.3.3-9]
				c.id = 0
				if code := c.publish(topic, "x", qos, retain); qos > 0 && code != packets.ErrNotAuthorized.Code {
					t.Errorf("%s at QoS %d: %#x", topic, qos, code)
				}
			}
		}
		c.alive()
		old := r.v4("old")
		old.publish(topic, "x", 0, retain)
		if topic == "no" { // of 3.1.1 [MQTT-3.3.5-2]
			old.fails(publish(topic, "x", 1, 1), packets.ErrNotAuthorized)
			old.fails(publish(topic, "x", 2, 1), packets.ErrNotAuthorized)
		} else { // acknowledged, and goes nowhere
			old.publish(topic, "x", 1)
			old.publish(topic, "x", 2)
		}
		watcher.nothing()
		if n, _ := r.retained.size(); n != 0 {
			t.Errorf("%d retained", n)
		}
	}
}

func TestForbiddenFilters(t *testing.T) {
	r := newRig(t, Options{Rules: &rules{maySubscribe: func(who any, filter string) bool { return filter != "no" && filter != "$share/g/no" }}})
	for c, want := range map[*client]byte{r.v4("a"): 0x80, r.v5("b"): 0x87} {
		for filter, code := range map[string]byte{"no": want, "$share/g/no": want, "yes": 1} {
			if got := c.subscribe(filter, 1); got != code {
				t.Errorf("version %d, %s: %#x, want %#x", c.version, filter, got, code)
			}
		}
	}
	r.Publish(Message{Topic: "no"})
}

func TestMayReceiveIsAskedAtEveryDelivery(t *testing.T) {
	allowed := map[any]bool{"a": true, "b": true}
	asked := 0
	r := newRig(t, Options{Rules: &rules{mayReceive: func(who any, m *Message) bool {
		asked++
		return m.About == "secret" && allowed[who]
	}}})
	a, b := r.resume5("a"), r.resume5("b")
	a.subscribe("t", 1)
	b.subscribe("t", 1)
	r.Publish(Message{Topic: "t", Payload: []byte("free"), QoS: 1})
	if asked > 0 {
		t.Error("asked about a message without About")
	}
	pk := a.expect(packets.Publish)
	b.want("t=free q1")
	a.do(ack(packets.Puback, pk.PacketID))
	delete(allowed, "b")
	r.Publish(Message{Topic: "t", Payload: []byte("1"), QoS: 1, About: "secret", Retain: true})
	a.want("t=1 q1")
	b.nothing()
	a.drop()
	r.Publish(Message{Topic: "t", Payload: []byte("2"), QoS: 1, About: "secret"})
	delete(allowed, "a") // before it comes back: neither what was in flight nor what is queued
	a = r.resume5("a")
	a.subscribe("t", 1) // nor retained
	a.nothing()
	if n := r.Hub.inflight.Load(); n != 1 { // b's first
		t.Errorf("%d in flight", n)
	}
}

func TestTake(t *testing.T) {
	r := newRig(t, Options{Rules: &rules{take: func(who any, m *Message) bool { return m.Topic == "command" && who == "c" }}})
	watcher := r.v5("watcher")
	watcher.subscribe("#", 0)
	c := r.v5("c")
	for qos := byte(0); qos <= 2; qos++ {
		if code := c.publish("command", "x", qos, retain); code != 0 {
			t.Errorf("QoS %d: %#x", qos, code)
		}
	}
	watcher.nothing()
	if n, _ := r.retained.size(); n != 0 {
		t.Error("retained")
	}
}

func TestInterested(t *testing.T) {
	r := newRig(t, Options{Watch: func(filter string) bool { return filter[0] == 'm' || filter == "#" }})
	c, d := r.resume5("c"), r.v5("d")
	check := func(want bool) {
		t.Helper()
		if r.Interested() != want {
			t.Errorf("interested: %v", !want)
		}
	}
	c.subscribe("other", 0)
	check(false)
	c.subscribe("m", 0)
	c.subscribe("m", 1)
	d.subscribe("$share/g/m/1", 0)
	check(true)
	c.unsubscribe("m", "m", "other")
	check(true)
	d.drop()
	check(false)
	c.subscribe("#", 1)
	c.drop()
	check(true)
	r.v5("c").drop()
	check(false)
	r.empty()
}
