package plain

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// matching has the examples of 4.7, and more.
var matching = []struct {
	filter, topic string
	want          bool
}{
	{"a", "a", true}, {"a", "A", false}, {"a", "/a", false}, {"/a", "/a", true}, {"a/", "a", false}, {"a/", "a/", true},
	{"sport/tennis/player1/#", "sport/tennis/player1", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
	{"sport/tennis/player1/#", "sport/tennis/player10", false},
	{"sport/#", "sport", true}, {"#", "a/b/c", true}, {"#", "/", true}, {"/#", "/", true}, {"/#", "a", false},
	{"sport/tennis/+", "sport/tennis/player1", true}, {"sport/tennis/+", "sport/tennis/player1/ranking", false},
	{"sport/+", "sport", false}, {"sport/+", "sport/", true}, {"+", "a", true}, {"+", "/a", false}, {"+", "a/", false},
	{"+/+", "/finance", true}, {"/+", "/finance", true}, {"+/tennis/#", "x/tennis", true}, {"+/tennis/#", "x/tennis/y/z", true},
	{"+/+/+", "//", true}, {"a/+/c", "a//c", true}, {"a/+/c", "a/b/c/d", false}, {"+/#", "a", true}, {"+/#", "/", true},
	{"#", "$SYS/a", false}, {"+/a", "$SYS/a", false}, {"+/#", "$SYS/a", false}, {"$SYS/#", "$SYS/a", true}, {"$SYS/#", "$SYS", true},
	{"$SYS/+", "$SYS/a", true}, {"$SYS/a", "$SYS/a", true}, {"a/#", "a/$b", true}, {"a/+", "a/$b", true}, {"a/b", "a/b/c", false},
	{"ж/+", "ж/я", true}, {"a b", "a b", true},
}

func TestMatching(t *testing.T) {
	for _, c := range matching {
		t.Run(c.filter+" "+c.topic, func(t *testing.T) {
			r := newRig(t, Options{})
			one, shared := r.v5("one"), r.v4("shared")
			one.subscribe(c.filter, 0)
			shared.subscribe("$share/g/"+c.filter, 0)
			r.Publish(Message{Topic: c.topic, Payload: []byte("x"), Retain: true}) // from inside, $ is allowed
			late := r.v5("late")
			late.subscribe(c.filter, 0)
			if c.want {
				one.want(c.topic + "=x q0")
				shared.want(c.topic + "=x q0")
				late.want(c.topic + "=x q0 retain")
			}
			one.nothing()
			shared.nothing()
			late.nothing()
			for _, k := range []*client{one, shared, late} {
				k.drop()
			}
			r.empty()
		})
	}
}

func TestInvalidFilters(t *testing.T) { // [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2]
	for _, filter := range []string{
		"", "a#", "#/a", "a/#/b", "a+", "+a", "a/b+/c", "##", "++", "a/\x00", "#a", strings.Repeat("a", 65536),
		"$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a", "$share/g/a#", "$share/g/#/a",
	} {
		r := newRig(t, Options{})
		five, four := r.v5("5"), r.v4("4")
		if code := five.subscribe(filter, 1); code != packets.ErrTopicFilterInvalid.Code {
			t.Errorf("%q: %#x", filter, code)
		}
		if code := four.subscribe(filter, 1); code != 0x80 {
			t.Errorf("3.1.1 %q: %#x", filter, code)
		}
		if codes := five.unsubscribe(filter).ReasonCodes; codes[0] != packets.ErrTopicFilterInvalid.Code {
			t.Errorf("UNSUBSCRIBE %q: %#x", filter, codes)
		}
		r.v5("5").drop()
		r.v4("4").drop()
		r.empty()
	}
}

func TestWrongSubscribePackets(t *testing.T) {
	sub := func(f packets.Subscription, with ...func(*packets.Packet)) packets.Packet {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1, Filters: packets.Subscriptions{f}}
		for _, w := range with {
			w(&pk)
		}
		return pk
	}
	for _, c := range []struct {
		name    string
		pk      packets.Packet
		version byte // 0: both
	}{
		{"no packet id [MQTT-2.2.1-3]", sub(packets.Subscription{Filter: "a"}, func(pk *packets.Packet) { pk.PacketID = 0 }), 0},
		{"no filter [MQTT-3.8.3-2]", packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1}, 0},
		{"QoS 3 [3.8.3.1]", sub(packets.Subscription{Filter: "a", Qos: 3}), 0},
		{"retain handling 3 [3.8.3.1]", sub(packets.Subscription{Filter: "a", RetainHandling: 3}), 5},
		{"no local and shared [MQTT-3.8.3-4]", sub(packets.Subscription{Filter: "$share/g/a", NoLocal: true}), 5},
		{"identifier 0 [3.8.2.1.2]", sub(packets.Subscription{Filter: "a"}, subID(0)), 5},
		{"identifier too large [3.8.2.1.2]", sub(packets.Subscription{Filter: "a"}, subID(268_435_456)), 5},
		{"two identifiers [3.8.2.1.2]", sub(packets.Subscription{Filter: "a"}, func(pk *packets.Packet) {
			pk.Properties.SubscriptionIdentifier = []int{1, 2}
		}), 5},
		{"UNSUBSCRIBE without packet id [MQTT-2.2.1-3]", packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, Filters: packets.Subscriptions{{Filter: "a"}},
		}, 0},
		{"UNSUBSCRIBE without filter [MQTT-3.10.3-2]", packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for version := byte(4); version <= 5; version++ {
				if c.version == 0 || c.version == version {
					k := newRig(t, Options{}).link(&wire{}, Connect{Version: version})
					k.fails(c.pk, packets.ErrProtocolViolation)
					k.nothing()
				}
			}
		})
	}
}

func TestManyFiltersInOnePacket(t *testing.T) { // [MQTT-3.8.4-5] [MQTT-3.8.4-6], [MQTT-3.10.4-6]
	r := newRig(t, Options{})
	c := r.v5("c")
	c.do(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 9,
		Filters: packets.Subscriptions{{Filter: "a", Qos: 2}, {Filter: "#b"}, {Filter: "$share/g/c", Qos: 1}, {Filter: "a", Qos: 0}},
	})
	if a := c.expect(packets.Suback); a.PacketID != 9 || string(a.ReasonCodes) != "\x02\x8f\x01\x00" {
		t.Errorf("SUBACK %+v", a)
	}
	if codes := c.unsubscribe("a", "b", "#b", "$share/g/c", "a").ReasonCodes; string(codes) != "\x00\x11\x8f\x00\x11" {
		t.Errorf("UNSUBACK %x", codes)
	}
	c.drop()
	r.empty()
	old := r.v4("old")
	old.subscribe("a", 0)
	if a := old.unsubscribe("a", "b"); len(a.ReasonCodes) != 0 { // [of 3.1.1 MQTT-3.10.4-4] [MQTT-3.10.4-5]
		t.Errorf("UNSUBACK %+v", a)
	}
}

func TestUnsubscribedGetsNothingNew(t *testing.T) { // [MQTT-3.10.4-2] [MQTT-3.10.4-3]
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		c := fresh("c")
		c.subscribe("a", 2)
		r.Publish(Message{Topic: "a", QoS: 2})
		c.unsubscribe("A", "+", "#") // filters are compared as text [MQTT-3.10.4-1]
		r.Publish(Message{Topic: "a", QoS: 2})
		c.unsubscribe("a")
		r.Publish(Message{Topic: "a", QoS: 2})
		for range 2 {
			c.do(ack(packets.Pubrec, c.expect(packets.Publish).PacketID))
		}
		c.expect(packets.Pubrel)
		c.expect(packets.Pubrel)
		c.nothing()
	})
}

// One copy for overlapping filters, at the highest QoS [MQTT-3.3.4-2], with all identifiers [MQTT-3.3.4-4].
func TestOverlappingFilters(t *testing.T) {
	r := newRig(t, Options{})
	c, other := r.v5("c"), r.v5("other")
	other.subscribe("#", 0, subID(9))
	c.subscribe("a/b", 0, subID(1))
	c.subscribe("a/+", 2, subID(2))
	c.subscribe("a/#", 1)
	c.subscribe("#", 1, subID(268_435_455))
	c.subscribe("x", 1, subID(77))
	r.Publish(Message{Topic: "a/b", Payload: []byte("x"), QoS: 2})
	c.want("a/b=x q2 [1 2 268435455]")
	other.want("a/b=x q0 [9]")
	c.subscribe("a/+", 2) // without identifier now [MQTT-3.8.4-3]
	c.unsubscribe("#")
	r.Publish(Message{Topic: "a/b", Payload: []byte("y"), QoS: 1})
	c.want("a/b=y q1 [1]")
}

func TestSubscribingAgainReplaces(t *testing.T) { // [MQTT-3.8.4-3]
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		c := fresh("c")
		c.subscribe("t", 2)
		c.subscribe("t", 0)
		r.Publish(Message{Topic: "t", QoS: 2})
		c.want("t= q0")
		if n := r.subscriptions.Load(); n != 1 {
			t.Errorf("%d subscriptions", n)
		}
		c.subscribe("$share/g/t", 0)
		c.subscribe("$share/g/t", 1)
		r.Publish(Message{Topic: "t", QoS: 2})
		c.want("t= q0", "t= q1") // a shared one is beside the others
	})
}

func TestNoLocal(t *testing.T) { // [MQTT-3.8.3-3]
	r := newRig(t, Options{})
	noLocal := option(func(s *packets.Subscription) { s.NoLocal = true })
	c, other := r.v5("c"), r.v5("other")
	c.subscribe("t", 2, noLocal)
	other.subscribe("t", 2, noLocal)
	if code := c.publish("t", "x", 1, retain); code != 0 {
		t.Errorf("PUBACK %#x", code)
	}
	c.nothing()
	other.want("t=x q1")
	c.subscribe("t", 2, noLocal) // nor the retained one
	c.nothing()
	c.subscribe("#", 0, option(func(s *packets.Subscription) { s.RetainHandling = 2 }), subID(3))
	c.publish("t", "y", 1)
	c.want("t=y q0 [3]") // by the other filter alone
	r.Publish(Message{Topic: "t", QoS: 2})
	c.want("t= q2 [3]")
	old := r.v4("old")
	old.subscribe("u", 0, noLocal) // 3.1.1 has no such bit
	old.publish("u", "x", 0)
	old.want("u=x q0")
}

func TestNoMatchingSubscribers(t *testing.T) { // [3.4.2.1] [3.5.2.1]
	r := newRig(t, Options{})
	c, old := r.v5("c"), r.v4("old")
	for qos := byte(1); qos <= 2; qos++ {
		if code := c.publish("t", "x", qos); code != packets.CodeNoMatchingSubscribers.Code {
			t.Errorf("QoS %d: %#x", qos, code)
		}
		if code := old.publish("t", "x", qos); code != 0 {
			t.Errorf("3.1.1, QoS %d: %#x", qos, code)
		}
	}
	old.subscribe("$share/g/t", 0)
	if code := c.publish("t", "x", 1); code != 0 {
		t.Errorf("with a shared subscription: %#x", code)
	}
}

func TestSubscriptionLimits(t *testing.T) {
	r := newRig(t, Options{Subscriptions: 3, FilterBytes: 100, Levels: 4})
	five, four := r.v5("5"), r.v4("4")
	for c, full := range map[*client]byte{five: 0x97, four: 0x80} {
		for i, want := range []byte{0, 0, 0, full} {
			if code := c.subscribe(fmt.Sprint(i), 0); code != want {
				t.Errorf("filter %d: %#x, want %#x", i, code, want)
			}
		}
		if code := c.subscribe("$share/g/x", 0); code != full {
			t.Errorf("shared: %#x", code)
		}
		if code := c.subscribe("1", 2); code != 2 {
			t.Errorf("one that is there: %#x", code)
		}
		c.unsubscribe("2")
		if code := c.subscribe(strings.Repeat("a", 99), 0); code != full {
			t.Errorf("long: %#x", code)
		}
		if code := c.subscribe("a/b/c/d/e", 0); code != full {
			t.Errorf("deep: %#x", code)
		}
		if code := c.subscribe("a/b/c/#", 0); code != 0 {
			t.Errorf("deep enough: %#x", code)
		}
	}
	r.Publish(Message{Topic: "a/b/c" + strings.Repeat("/d", 30_000)}) // topics may be as deep as they like
	if pk := five.expect(packets.Publish); len(pk.TopicName) != 60_005 {
		t.Errorf("%d bytes", len(pk.TopicName))
	}
	five.drop()
	four.drop()
	r.empty()
}
