package plain

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestWrongPublishes(t *testing.T) {
	with := func(f func(p *packets.Properties)) packets.Packet {
		pk := publish("t", "x", 0, 0)
		f(&pk.Properties)
		return pk
	}
	dup := publish("t", "x", 0, 0)
	dup.FixedHeader.Dup = true
	for _, c := range []struct {
		name    string
		pk      packets.Packet
		version byte // 0: both
		want    packets.Code
	}{
		{"QoS 3 [MQTT-3.3.1-4]", publish("t", "x", 3, 1), 0, packets.ErrProtocolViolation},
		{"QoS 1 without packet id [MQTT-2.2.1-3]", publish("t", "x", 1, 0), 0, packets.ErrProtocolViolation},
		{"QoS 2 without packet id [MQTT-2.2.1-3]", publish("t", "x", 2, 0), 0, packets.ErrProtocolViolation},
		{"DUP at QoS 0 [MQTT-3.3.1-2]", dup, 0, packets.ErrProtocolViolation},
		{"no topic, of 3.1.1 [MQTT-4.7.3-1]", publish("", "x", 0, 0), 4, packets.ErrTopicNameInvalid},
		{"neither topic nor alias [3.3.2.1]", publish("", "x", 0, 0), 5, packets.ErrProtocolViolation},
		{"wildcard + [MQTT-3.3.2-2]", publish("a/+", "x", 0, 0), 0, packets.ErrTopicNameInvalid},
		{"wildcard # [MQTT-3.3.2-2]", publish("#", "x", 1, 1), 0, packets.ErrTopicNameInvalid},
		{"wildcard within a level [MQTT-3.3.2-2]", publish("a#b", "x", 2, 1), 0, packets.ErrTopicNameInvalid},
		{"NUL [MQTT-4.7.3-2]", publish("a\x00", "x", 0, 0), 0, packets.ErrTopicNameInvalid},
		{"subscription identifier [MQTT-3.3.4-6]", with(func(p *packets.Properties) { p.SubscriptionIdentifier = []int{1} }), 5, packets.ErrProtocolViolation},
		{"wildcard in the response topic [MQTT-3.3.2-14]", with(func(p *packets.Properties) { p.ResponseTopic = "a/#" }), 5, packets.ErrProtocolViolation},
		{"payload format 2 [3.3.2.3.2]", with(func(p *packets.Properties) { p.PayloadFormat, p.PayloadFormatFlag = 2, true }), 5, packets.ErrMalformedPacket},
		{"alias 0 [MQTT-3.3.2-8]", with(func(p *packets.Properties) { p.TopicAliasFlag = true }), 5, packets.ErrTopicAliasInvalid},
		{"alias above the maximum [MQTT-3.3.2-9]", with(func(p *packets.Properties) { p.TopicAlias, p.TopicAliasFlag = 33, true }), 5, packets.ErrTopicAliasInvalid},
	} {
		for version := byte(4); version <= 5; version++ {
			if c.version != 0 && c.version != version {
				continue
			}
			t.Run(fmt.Sprintf("%s, %d", c.name, version), func(t *testing.T) {
				r := newRig(t, Options{})
				watcher := r.v5("watcher")
				watcher.subscribe("#", 2)
				k := r.link(&wire{}, Connect{Version: version})
				k.fails(c.pk, c.want)
				k.nothing()
				watcher.nothing()
			})
		}
	}
}

func TestTopicsOfAnyShape(t *testing.T) {
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		c := fresh("c")
		c.subscribe("#", 0)
		for _, topic := range []string{"a", "/", "//", "a b", "ж/日本", "\u0001", "a/$b", strings.Repeat("a", 65535), strings.Repeat("/", 65535)} {
			c.publish(topic, "", 0)
			if pk := c.expect(packets.Publish); pk.TopicName != topic || len(pk.Payload) != 0 {
				t.Errorf("%.20q came as %.20q", topic, pk.TopicName)
			}
		}
	})
}

func TestTopicAliasesOfTheClient(t *testing.T) { // [3.3.2.3.4]
	r := newRig(t, Options{TopicAliasMaximum: 3})
	watcher, c := r.v5("watcher"), r.resume5("c")
	watcher.subscribe("#", 2)
	send := func(topic string, alias uint16, qos byte) packets.Packet {
		pk := publish(topic, "x", qos, c.nextID()*uint16(min(qos, 1)))
		pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = alias, true
		return pk
	}
	c.fails(send("", 1, 0), packets.ErrProtocolViolation) // unknown
	c.do(send("a", 3, 0))
	c.do(send("", 3, 0))
	c.do(send("b", 1, 0))
	c.do(send("", 3, 1))
	c.expect(packets.Puback)
	c.do(send("c", 3, 0)) // another topic from now on
	c.do(send("", 3, 0))
	c.fails(send("", 2, 0), packets.ErrProtocolViolation)
	c.fails(send("a/+", 2, 0), packets.ErrTopicNameInvalid)
	c.fails(send("", 2, 0), packets.ErrProtocolViolation)
	for _, topic := range []string{"a", "a", "b", "a", "c", "c"} {
		if pk := watcher.expect(packets.Publish); pk.TopicName != topic || pk.Properties.TopicAliasFlag { // not forwarded
			t.Errorf("%s, want %s", describe(pk), topic)
		}
	}
	c.drop()
	c = r.resume5("c") // [MQTT-3.3.2-7]: an alias is of its connection
	c.fails(send("", 1, 0), packets.ErrProtocolViolation)
}

func TestTopicAliasesOfOurs(t *testing.T) { // [MQTT-3.1.2-26] [MQTT-3.1.2-27]
	r := newRig(t, Options{})
	hello := Connect{Key: "c", Version: 5, SessionExpiry: 10, TopicAliasMaximum: 2}
	c := r.link(&wire{}, hello)
	c.subscribe("#", 1)
	expect := func(topic string, alias uint16) {
		t.Helper()
		pk := c.expect(packets.Publish)
		if pk.TopicName != topic || pk.Properties.TopicAlias != alias || pk.Properties.TopicAliasFlag != (alias > 0) {
			t.Errorf("topic %q alias %d, want %q %d", pk.TopicName, pk.Properties.TopicAlias, topic, alias)
		}
	}
	for _, topic := range []string{"a", "a", "b", "c", "b", "a"} {
		r.Publish(Message{Topic: topic, QoS: 1})
	}
	expect("a", 1)
	expect("", 1)
	expect("b", 2)
	expect("c", 0)
	expect("", 2)
	expect("", 1)
	c.drop()
	c = r.link(&wire{}, hello) // all in flight are sent again; aliases begin anew
	expect("a", 1)
	expect("", 1)
	expect("b", 2)
	expect("c", 0)
	none := r.v5("none")
	none.subscribe("a", 0)
	r.Publish(Message{Topic: "a"})
	if pk := none.expect(packets.Publish); pk.TopicName != "a" || pk.Properties.TopicAliasFlag {
		t.Errorf("%+v", pk)
	}
}

// [MQTT-3.3.2-4] [MQTT-3.3.2-15] to [MQTT-3.3.2-20]
func TestPropertiesAreForwardedUnaltered(t *testing.T) {
	r := newRig(t, Options{})
	c, old := r.v5("c"), r.v4("old")
	c.subscribe("t", 2)
	old.subscribe("t", 2)
	want := packets.Properties{
		PayloadFormat: 1, PayloadFormatFlag: true, ContentType: "text/plain", ResponseTopic: "answer/here",
		CorrelationData: []byte{0, 1, 2}, User: []packets.UserProperty{{Key: "b", Val: "1"}, {Key: "a", Val: "2"}, {Key: "b", Val: "1"}},
	}
	for qos := byte(0); qos <= 2; qos++ {
		c.publish("t", "x", qos, retain, func(pk *packets.Packet) { pk.Properties = want })
		got := c.expect(packets.Publish)
		if !reflect.DeepEqual(got.Properties, want) || !got.Mods.AllowResponseInfo {
			t.Errorf("QoS %d: %+v", qos, got.Properties)
		}
		if got := old.expect(packets.Publish); !reflect.DeepEqual(got.Properties, packets.Properties{}) || got.ProtocolVersion != 4 {
			t.Errorf("3.1.1, QoS %d: %+v", qos, got.Properties)
		}
	}
	late := r.v5("late")
	late.subscribe("t", 0)
	if got := late.expect(packets.Publish); !reflect.DeepEqual(got.Properties, want) {
		t.Errorf("retained: %+v", got.Properties)
	}
}

func TestMessageExpiry(t *testing.T) { // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		p := r.v5("p")
		hello := Connect{Key: "c", Version: 5, SessionExpiry: 1000, ReceiveMaximum: 1}
		c := r.link(&wire{}, hello)
		c.subscribe("t", 1)
		c.subscribe("$share/g/t", 1)
		p.publish("t", "now", 1, expiry(10))
		first := c.expect(packets.Publish)
		if first.Properties.MessageExpiryInterval != 10 {
			t.Errorf("%d s", first.Properties.MessageExpiryInterval)
		}
		p.publish("t", "short", 1, expiry(10)) // these wait
		p.publish("t", "long", 1, expiry(100))
		p.publish("t", "for ever", 1)
		time.Sleep(10 * time.Second)
		c.drop()
		c = r.link(&wire{}, hello)
		again := c.expect(packets.Publish) // was begun in time
		if describe(again) != "t=now q1 dup" || again.Properties.MessageExpiryInterval != 1 {
			t.Errorf("%s %+v", describe(again), again.Properties)
		}
		got := map[string]uint32{}
		for more := true; more; {
			c.do(ack(packets.Puback, again.PacketID))
			if again, more = c.take(); more {
				got[string(again.Payload)] = again.Properties.MessageExpiryInterval + uint32(len(got))*0
			}
		}
		if want := map[string]uint32{"long": 90, "for ever": 0}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestOrder(t *testing.T) { // [MQTT-4.6.0-5] [MQTT-4.6.0-6]
	both(t, func(t *testing.T, r *rig, fresh, resume func(string) *client) {
		p, c := fresh("p"), resume("c")
		c.subscribe("#", 2)
		n := 0
		send := func(count int) {
			for range count {
				p.publish(fmt.Sprint("t/", n%3), fmt.Sprint(n), byte(1+n%2))
				n++
			}
		}
		send(20)
		c.payloads(true)
		c.drop()
		send(3000) // more than may be in flight
		c = resume("c")
		next := 0
		for {
			pk, ok := c.take()
			if !ok {
				break
			}
			switch {
			case pk.FixedHeader.Type == packets.Pubrel:
				c.do(ack(packets.Pubcomp, pk.PacketID))
				continue
			case pk.FixedHeader.Dup: // of QoS 2, from before
				next = 20
			case string(pk.Payload) != fmt.Sprint(max(next, 20)):
				t.Fatalf("got %s after %d", pk.Payload, next)
			default:
				next = max(next, 20) + 1
			}
			kind := packets.Puback
			if pk.FixedHeader.Qos == 2 {
				kind = packets.Pubrec
			}
			c.do(ack(kind, pk.PacketID))
		}
		if next != 3020 {
			t.Errorf("got up to %d", next)
		}
	})
}
