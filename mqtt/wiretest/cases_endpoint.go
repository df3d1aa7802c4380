package wiretest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The topics of endpoints (docs/mqtt.md).
const endpointPrefix = "meterline/v1/"

// device makes the case's clients sessions of an endpoint, and its topics uplinks of that endpoint.
func (t *T) device() {
	if t.target.Devices == nil {
		t.skip("there is no device")
	}
	t.deviceID, t.secret = t.target.Devices()
}

func (t *T) uplink(channel string) string { return endpointPrefix + t.deviceID + "/up/" + channel }
func (t *T) commands() string             { return endpointPrefix + t.deviceID + "/down/command" }

// backend is a client that may send commands.
func (t *T) backend() *conn {
	if t.target.Backend == "" {
		t.skip("there is no password of a backend")
	}
	return t.client(func(h *hello) { h.id, h.will = t.unique+"-backend", nil }, signIn("backend", t.target.Backend))
}

// command publishes a command message and returns it.
func (c *conn) command(id string) (payload string) {
	b, err := json.Marshal(map[string]any{
		"v": 1, "message_id": id, "message_type": "unicast", "command_id": "c1", "kind": "meter.read", "traceparent": "00-1-2-01",
		"expires_at": time.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano), "targets": []any{},
	})
	if err != nil {
		c.t.fail("%w", err)
	}
	c.pub(c.t.commands(), string(b), 1)
	return string(b)
}

// asEndpoint makes cases for plain clients cases for endpoints: those where what is malformed does not depend on what a
// client may do.
func asEndpoint(lists ...[]entry) (cases []entry) {
	elsewhere := []string{ // what endpoints may not do at all is looked at first, or the case needs a plain client beside it
		"frame/packet identifier 0", "disconnect/what comes after", "disconnect/codes that a client may not",
		"disconnect/properties that are there twice", "auth/before CONNACK", "publish/topic with wildcards", "subscribe/wildcards where",
		"subscribe/empty filter", "alias/does not outlive", "alias/is each", "publish/QoS 3", "connect/will prop", "size/more than",
	}
	for _, e := range slices.Concat(lists...) {
		if !e.bad || slices.ContainsFunc(elsewhere, func(name string) bool { return strings.HasPrefix(e.name, name) }) {
			continue
		}
		run := e.run
		e.name = "endpoint " + e.name
		e.run = func(t *T) {
			t.device()
			run(t)
		}
		cases = append(cases, e)
	}
	return cases
}

// inbound is a case for an endpoint that is signed in.
func inbound(run func(t *T, c *conn)) func(*T) {
	return func(t *T) {
		t.device()
		run(t, t.client())
	}
}

var endpointCases = []entry{
	{name: "endpoint/sign-in", v3: "3.1.4-4", v5: "3.1.4-5", run: inbound(func(_ *T, c *conn) { c.present(false).ping() })},
	{name: "endpoint/wrong secret, unknown device", v3: "3.2.2-4 3.2.2-5", v5: "3.1.4-2 3.2.2-7", run: func(t *T) {
		t.device()
		t.knock(t.hello(signIn(t.deviceID, "wrong"))).refused(5, 0x86)
		t.knock(t.hello(func(h *hello) { h.id = "nobody" }, signIn("nobody", "wrong"))).refused(5, 0x86)
		t.knock(t.hello(signIn(t.deviceID, ""))).refused(5, 0x86)
	}},
	{name: "endpoint/somebody else's client id", v3: "3.1.3-9", v5: "3.1.3-8", run: func(t *T) {
		t.device()
		for _, id := range []string{"nobody", t.deviceID + "x", t.deviceID + ":", t.deviceID + ":" + strings.Repeat("x", 129), strings.ToUpper(t.deviceID)} {
			t.knock(t.hello(func(h *hello) { h.id = id })).refused(2, 0x85)
		}
	}},
	{name: "endpoint/empty client id", v3: "3.1.3-9", v5: "3.1.3-8", run: func(t *T) {
		t.device()
		t.knock(t.hello(func(h *hello) { h.id = "" })).refused(2, 0x85)
	}},
	{name: "endpoint/no will", v3: "3.1.4", v5: "3.1.4-2", run: func(t *T) {
		t.device()
		t.knock(t.hello(lastWill(will{topic: t.uplink("event"), payload: "{}"}))).refused(5, 0x87)
	}},
	{name: "endpoint/what CONNACK denies", v5: "3.2.2-9 3.2.2.3", run: inbound(func(t *T, c *conn) {
		want := map[byte]uint32{maximumQoS: 1, retainAvailable: 0, wildcardAvailable: 0, sharedAvailable: 0, identifiersAvailable: 0}
		for id, n := range want {
			if p, ok := find(c.ack.props, id); !ok || p.n != n {
				t.fail("%s: %v", rules[id].name, c.ack.props)
			}
		}
		if p, _ := find(c.ack.props, receiveMaximum); p.n != 128 {
			t.fail("%v", p)
		}
		if _, ok := find(c.ack.props, topicAliasMaximum); ok {
			t.fail("topic aliases in %v", c.ack.props)
		}
	})},
	{name: "endpoint/server keep alive", v5: "3.2.2.3.14", run: func(t *T) {
		t.device()
		for asked, told := range map[uint16]uint32{0: 600, 601: 600, 65535: 600, 600: 0, 60: 0} {
			if p, _ := find(t.client(keepAlive(asked)).ack.props, serverKeepAlive); p.n != told {
				t.fail("asked for %d, told %d", asked, p.n)
			}
		}
	}},
	{name: "endpoint/keep alive", v3: "3.1.2-24", v5: "3.1.2-22", run: func(t *T) {
		t.device()
		t.client(keepAlive(1)).expires(time.Second)
	}},
	{name: "endpoint/the newest session wins", v3: "3.1.4-2", v5: "3.1.4-3", run: func(t *T) {
		t.device()
		older := t.client()
		newer := t.client()
		older.dies(0x8e)
		newer.ping()
	}},
	{name: "endpoint/a session beside it", v3: "3.1.3-2 3.8.4-5", v5: "3.1.3-2 3.8.4-7", run: func(t *T) {
		t.device()
		own := t.client()
		beside := t.client(func(h *hello) { h.id += ":tool" })
		own.pub(t.uplink("event"), "{}", 1)
		beside.pub(t.uplink("event"), "{}", 1)
		if code := beside.subscribe([]filter{{t.commands(), 1}})[0]; code < 0x80 {
			t.fail("granted: %#x", code)
		}
		own.ping()
	}},
	{name: "endpoint/uplinks at QoS 1 and 0", v3: "3.3.4-1 2.3.1-6", v5: "3.3.4-1 2.2.1-5", run: inbound(func(t *T, c *conn) {
		for _, channel := range []string{"ack", "result", "readings", "event"} {
			c.pub(t.uplink(channel), `{"v":1}`, 0)
			for _, id := range []uint16{1, 65535} {
				if code := c.publish(message{topic: t.uplink(channel), payload: `{"v":1}`, qos: 1, id: id, dup: id > 1}); code != 0 {
					t.fail("PUBACK %#x", code)
				}
			}
		}
	})},
	{name: "endpoint/acknowledgements in order", v3: "4.6.0-2", v5: "4.6.0-2", run: inbound(func(t *T, c *conn) {
		for id := uint16(100); id > 0; id-- {
			c.write(message{topic: t.uplink("event"), payload: "{}", qos: 1, id: id}.encode(t.v))
		}
		for id := uint16(100); id > 0; id-- {
			if p := c.next(pubackType); p.id != id {
				t.fail("%v, wanted %d", p, id)
			}
		}
	})},
	{name: "endpoint/nonsense is acknowledged and kept", v3: "3.3.4-1", v5: "3.3.4-1", run: inbound(func(t *T, c *conn) {
		for _, payload := range []string{"", "\xff", "not JSON", strings.Repeat("[", 10000)} {
			c.pub(t.uplink("result"), payload, 1)
		}
	})},
	{name: "endpoint/QoS 2", v3: "3.3.5-2", v5: "3.2.2-11", bad: true, run: inbound(func(t *T, c *conn) {
		c.write(message{topic: t.uplink("event"), payload: "{}", qos: 2, id: 1}.encode(t.v))
		c.dies(0x9b)
	})},
	{name: "endpoint/QoS 3", v3: "3.3.1-4", v5: "3.3.1-4", bad: true, run: inbound(func(t *T, c *conn) {
		c.write(message{topic: t.uplink("event"), payload: "{}", qos: 3, id: 1}.encode(t.v))
		c.dies(0x81, 0x82, 0x9b)
	})},
	{name: "endpoint/retain", v3: "3.3.5-2", v5: "3.2.2-14", bad: true, run: func(t *T) {
		t.device()
		for qos := range byte(2) {
			c := t.client()
			c.write(message{topic: t.uplink("event"), payload: "{}", qos: qos, id: 1, retain: true}.encode(t.v))
			c.dies(0x9a)
		}
	}},
	{name: "endpoint/more than 256 KiB", v3: "3.3.5-2", v5: "3.2.2-15", bad: true, run: inbound(func(t *T, c *conn) {
		c.pub(t.uplink("event"), strings.Repeat("x", 256<<10), 1)
		c.write(message{topic: t.uplink("event"), payload: strings.Repeat("x", 256<<10+1), qos: 1, id: 9}.encode(t.v))
		c.dies(0x95)
	})},
	{name: "endpoint/topics of others", v3: "3.3.5-2", bad: true, run: func(t *T) {
		t.device()
		for _, topic := range foreignTopics(t) {
			c := t.client()
			c.write(message{topic: topic, payload: "{}", qos: 1, id: 1}.encode(t.v))
			c.dies()
		}
	}},
	{name: "endpoint/topics of others", v5: "3.4.2.1 4.13.2", bad: true, run: inbound(func(t *T, c *conn) {
		for _, topic := range foreignTopics(t) {
			c.pub(topic, "{}", 0)
			if code := c.publish(message{topic: topic, payload: "{}", qos: 1}); code != 0x87 {
				t.fail("%q: %#x", topic, code)
			}
		}
	})},
	{name: "endpoint/topic with wildcards", v3: "3.3.2-2", v5: "3.3.2-2", bad: true, run: func(t *T) {
		t.device()
		for _, topic := range []string{"#", "+", endpointPrefix + "+/up/event", t.uplink("#")} {
			c := t.client()
			c.write(message{topic: topic, payload: "{}", qos: 1, id: 1}.encode(t.v))
			c.dies(0x81, 0x82, 0x87, 0x90)
		}
	}},
	{name: "endpoint/subscriptions", v3: "3.8.4-5 3.8.4-6 3.9.3-1", v5: "3.8.4-6 3.8.4-7 3.9.3-1", run: inbound(func(t *T, c *conn) {
		refused := map[Version]byte{V3: 0x80, V5: 0x87}[t.v]
		filters := []filter{{t.commands(), 1}, {t.commands(), 2}, {t.commands(), 0}, {"#", 1}, {endpointPrefix + "+/down/command", 1}, {endpointPrefix + "other/down/command", 1},
			{t.uplink("event"), 1}, {"$SYS/#", 1}, {"a", 0}}
		want := []byte{1, 1, 0x80, refused, refused, refused, refused, refused, refused}
		if codes := c.subscribe(filters); !slices.Equal(codes, want) {
			t.fail("codes %#x, wanted %#x", codes, want)
		}
		if code := c.subscribe([]filter{{"$share/g/" + t.commands(), 1}})[0]; code < 0x80 {
			t.fail("shared: %#x", code)
		}
	})},
	{name: "endpoint/unsubscribe", v3: "3.10.4-4 3.10.4-5", v5: "3.10.4-4 3.11.3-1", run: inbound(func(t *T, c *conn) {
		c.sub(t.commands(), 1)
		if codes := c.unsubscribe("a", t.commands(), t.commands()); t.v == V5 && !slices.Equal(codes, []byte{0x11, 0, 0x11}) {
			t.fail("codes %#x", codes)
		}
	})},
	{name: "endpoint/PUBREC, PUBREL and PUBCOMP", v3: "4.8.0-1", v5: "4.13.1-1", bad: true, run: func(t *T) {
		t.device()
		for _, typ := range []byte{pubrecType, pubrelType, pubcompType} {
			c := t.client()
			c.write(ackOf(typ, 1))
			c.dies(0x82)
		}
	}},
	{name: "endpoint/packet identifier 0", v3: "2.3.1-1", v5: "2.2.1-3", bad: true, run: func(t *T) {
		t.device()
		for _, b := range [][]byte{message{topic: t.uplink("event"), qos: 1}.encode(t.v), subscribePacket(t.v, 0, []filter{{t.commands(), 1}}),
			unsubscribePacket(t.v, 0, []string{t.commands()})} {
			c := t.client()
			c.write(b)
			c.dies(wrong...)
		}
	}},
	{name: "endpoint/session present", v3: "3.1.2-4 3.2.2-2 3.2.2-1", v5: "3.1.2-5 3.2.2-3 3.2.2-2 4.1.0-2", run: func(t *T) {
		t.device()
		t.client(persist(60)).present(false).sub(t.commands(), 1).bye()
		t.client(persist(60)).present(true).bye()
		t.client().present(false).bye()
		t.client(persist(60)).present(false).bye()
	}},
	{name: "endpoint/session expiry", v5: "4.1.0-2 3.14.2.2.2", run: func(t *T) {
		t.device()
		t.client(fresh(60)).sub(t.commands(), 1).bye(num(sessionExpiry, 0))
		t.client(persist(1)).present(false).sub(t.commands(), 1).bye()
		t.pause(2200 * time.Millisecond)
		t.client(persist(0)).present(false).sub(t.commands(), 1).bye()
		t.client(persist(0)).present(false).bye()
	}},
	{name: "endpoint/session expiry from 0 in DISCONNECT", v5: "3.14.2.2.2", bad: true, run: inbound(func(t *T, c *conn) {
		c.write(disconnectPacket(t.v, 0, num(sessionExpiry, 10)))
		c.dies(0x82)
	})},
}

// foreignTopics are topics that an endpoint may not publish to.
func foreignTopics(t *T) []string {
	return []string{endpointPrefix + "other/up/event", t.commands(), t.uplink("none"), t.uplink("event/more"), endpointPrefix + t.deviceID, "plain", "$SYS/x",
		"/" + t.uplink("event"), strings.ToUpper(t.uplink("event"))}
}

var endpointCommandCases = []entry{
	{name: "endpoint/a command", v3: "3.3.4-1 2.3.1-1", v5: "3.3.4-1 3.3.2-17 3.3.2-6 2.2.1-4", run: inbound(func(t *T, c *conn) {
		c.sub(t.commands(), 1)
		payload := t.backend().command("m1")
		p := c.receive(t.commands(), payload, 1)
		if p.dup || p.retain {
			t.fail("%v", p)
		}
		if t.v == V5 {
			wantExpiry(t, p, 40, 60)
			for _, name := range []string{"command_id", "kind", "message_type", "traceparent"} {
				if !slices.ContainsFunc(p.props, func(p prop) bool { return p.s == name }) {
					t.fail("no %s in %v", name, p.props)
				}
			}
		}
	})},
	{name: "endpoint/at most 16 commands without PUBACK", v3: "4.6.0-6", v5: "3.3.4-9 4.6.0-5", run: inbound(func(t *T, c *conn) {
		c.sub(t.commands(), 1)
		b := t.backend()
		var want []string
		for _, id := range numbered("m", 40) {
			want = append(want, b.command(id))
		}
		var held []packet
		for i := range 16 {
			held = append(held, c.expect(t.commands(), want[i], 1))
		}
		c.write(pingreq)
		c.next(pingrespType)
		for _, p := range held {
			c.puback(p)
		}
		for _, payload := range want[16:] {
			c.receive(t.commands(), payload, 1)
		}
	})},
	{name: "endpoint/receive maximum", v5: "3.3.4-9 4.9.0-1", run: func(t *T) {
		t.device()
		c := t.client(with(num(receiveMaximum, 2)))
		c.sub(t.commands(), 1)
		b := t.backend()
		var want []string
		for _, id := range numbered("m", 10) {
			want = append(want, b.command(id))
		}
		for _, payload := range want { // that there are no more than two is checked for every message
			p := c.expect(t.commands(), payload, 1)
			c.ping()
			c.puback(p)
		}
	}},
	{name: "endpoint/maximum packet size", v5: "3.1.2-24", run: func(t *T) {
		t.device()
		c := t.client(with(num(maximumPacketSize, 100)))
		c.sub(t.commands(), 1)
		t.backend().command("too large")
		c.ping()
		if len(c.queue) > 0 {
			t.fail("%v", c.queue)
		}
	}},
	{name: "endpoint/identifiers of both directions are independent", v3: "2.3.1-2 2.3.1-4", v5: "2.2.1-3 2.2.1-4", run: inbound(func(t *T, c *conn) {
		c.sub(t.commands(), 1)
		b := t.backend()
		for i := range 5 {
			p := c.expect(t.commands(), b.command(fmt.Sprint("m", i)), 1)
			c.publish(message{topic: t.uplink("ack"), payload: "{}", qos: 1, id: p.id})
			c.ids = p.id - 1
			c.sub(t.commands(), 1)
			c.puback(p)
		}
	})},
	{name: "endpoint/refused commands", v5: "3.4.2.1 4.4.0-2", run: inbound(func(t *T, c *conn) {
		c.sub(t.commands(), 1)
		b := t.backend()
		p := c.expect(t.commands(), b.command("m1"), 1)
		c.write(ackCode(pubackType, p.id, 0x80, str(reasonString, "no")))
		delete(c.unacked, p.id)
		c.receive(t.commands(), b.command("m2"), 1)
	})},
	{name: "endpoint/commands in order", v3: "4.6.0-6", v5: "4.6.0-5", run: inbound(func(t *T, c *conn) {
		c.sub(t.commands(), 1)
		b := t.backend()
		for _, id := range numbered("m", 30) {
			c.receive(t.commands(), b.command(id), 1)
		}
	})},
}

var malformedEndpointCases = asEndpoint(frameCases, connectPropertyCases, publishCases, publishPropertyCases, ackCases, packetSizeCases, aliasCases,
	subscribeMalformedCases, unsubscribeCases, disconnectCases, authCases)
