package wiretest

import (
	"fmt"
	"slices"
)

// connectProps sends CONNECT with properties that are encoded by hand.
func connectProps(t *T, raw []byte) *conn {
	h := t.hello()
	body := append(appendString(nil, h.name), h.level, h.flags(), 0, 60)
	body = append(append(appendVar(body, len(raw)), raw...), appendString(nil, h.id)...)
	if h.user != nil {
		body = appendString(appendString(body, *h.user), *h.pass)
	}
	return t.raw(frame(connectType, 0, body...))
}

var connectPropertyCases = []entry{
	{name: "connect/all properties", v5: "3.1.2.11 3.1.4-5", run: func(t *T) {
		t.client(with(num(sessionExpiry, 10), num(receiveMaximum, 10), num(maximumPacketSize, 1000), num(topicAliasMaximum, 10),
			num(requestResponseInfo, 1), num(requestProblemInfo, 0), user("a", "b"), user("a", "b"), user("", "")),
			lastWill(will{topic: t.topic("w"), payload: "w", props: []prop{num(willDelay, 1), num(payloadFormat, 1),
				num(messageExpiry, 1), str(contentType, "t"), str(responseTopic, t.topic("r")), str(correlationData, "\xff"), user("a", "b")}})).bye()
	}},
	{name: "connect/values that are not allowed", v5: "3.1.2.11.3 3.1.2.11.4 3.1.2.11.6 3.1.2.11.7", bad: true, run: func(t *T) {
		bad := []prop{num(receiveMaximum, 0), num(maximumPacketSize, 0), num(requestResponseInfo, 2), num(requestProblemInfo, 2),
			num(requestProblemInfo, 255)}
		each(t, "property", bad, func(p prop) { t.knock(t.hello(with(p))).dies(0x82, 0x81) })
	}},
	{name: "connect/properties that are there twice", v5: "3.1.2.11", bad: true, run: func(t *T) {
		for _, id := range propertyIDs() {
			if p := sample(id); p.allowed(connectType) && id != userProperty {
				opts := []opt{with(p, p)}
				if id == authData {
					opts = append(opts, with(str(authMethod, "m")))
				}
				c := t.knock(t.hello(opts...))
				c.dies(0x82, 0x81)
			}
		}
	}},
	{name: "connect/properties of other packets", v5: "2.2.2.2 3.1.4-1", bad: true, run: func(t *T) {
		for _, id := range propertyIDs() {
			if p := sample(id); !p.allowed(connectType) {
				each(t, "property", []prop{p}, func(p prop) { t.knock(t.hello(with(p))).dies(wrong...) })
			}
		}
	}},
	{name: "connect/will properties of other packets", v5: "2.2.2.2 3.1.3.2", bad: true, run: func(t *T) {
		for _, id := range propertyIDs() {
			if p := sample(id); !p.allowed(willOf) {
				each(t, "property", []prop{p}, func(p prop) {
					t.knock(t.hello(lastWill(will{topic: "w", payload: "w", props: []prop{p}}))).dies(wrong...)
				})
			}
		}
	}},
	{name: "connect/will properties that are there twice", v5: "3.1.3.2", bad: true, run: func(t *T) {
		for _, id := range propertyIDs() {
			if p := sample(id); p.allowed(willOf) && id != userProperty {
				each(t, "property", []prop{p}, func(p prop) {
					t.knock(t.hello(lastWill(will{topic: "w", payload: "w", props: []prop{p, p}}))).dies(0x82, 0x81)
				})
			}
		}
	}},
	{name: "connect/will properties with values that are not allowed", v5: "3.1.3.2.3 3.3.2-14 1.5.7-1", bad: true, run: func(t *T) {
		bad := []prop{num(payloadFormat, 2), str(responseTopic, "a/#"), str(responseTopic, "+"), str(contentType, "\xff"), user("\xff", ""), user("", "\x00")}
		each(t, "property", bad, func(p prop) {
			t.knock(t.hello(lastWill(will{topic: t.topic("w"), payload: "w", props: []prop{p}}))).dies(0x81, 0x82, 0x90)
		})
	}},
	{name: "connect/properties that are not UTF-8", v5: "1.5.4-1 1.5.4-2 1.5.7-1", bad: true, run: func(t *T) {
		each(t, "string", badStrings, func(s string) {
			t.knock(t.hello(with(user(s, "a")))).dies(wrong...)
			t.knock(t.hello(with(user("a", s)))).dies(wrong...)
		})
	}},
	{name: "connect/unknown properties", v5: "2.2.2.2", bad: true, run: func(t *T) {
		for _, id := range []byte{0x00, 0x04, 0x0a, 0x10, 0x14, 0x1b, 0x20, 0x2b, 0x7f} {
			connectProps(t, []byte{id, 0, 0, 0, 0}).dies(wrong...)
		}
		connectProps(t, []byte{0x80, 0x01, 0}).dies(wrong...) // identifiers are variable byte integers
	}},
	{name: "connect/property length that is wrong", v5: "2.2.2.1 3.1.4-1", bad: true, run: func(t *T) {
		h := t.hello(with(num(sessionExpiry, 1)))
		body := h.body(h.flags())
		for _, length := range []byte{0, 1, 4, 6, 0x7e} {
			b := slices.Clone(body)
			b[10] = length
			t.raw(frame(connectType, 0, b...)).dies(wrong...)
		}
	}},
	{name: "connect/property length in more bytes than needed", v5: "1.5.5-1", bad: true, run: func(t *T) {
		h := t.hello()
		body := h.body(h.flags())
		b := append(slices.Clone(body[:10]), 0x80, 0x00)
		t.raw(frame(connectType, 0, append(b, body[11:]...)...)).dies(wrong...)
	}},
	{name: "connect/property length of five bytes", v5: "1.5.5", bad: true, run: func(t *T) {
		h := t.hello()
		body := h.body(h.flags())
		b := append(slices.Clone(body[:10]), 0x80, 0x80, 0x80, 0x80, 0x00)
		t.raw(frame(connectType, 0, append(b, body[11:]...)...)).dies(wrong...)
	}},
	{name: "connect/authentication data without a method", v5: "3.1.2.11.10", bad: true, run: func(t *T) {
		t.knock(t.hello(with(str(authData, "data")))).dies(0x82)
	}},
	{name: "connect/authentication method that there is not", v5: "4.12.0-1 3.1.2-30 3.2.2-8", run: func(t *T) {
		t.knock(t.hello(with(str(authMethod, "none that there is"), str(authData, "data")))).dies(0x8c, 0x87)
	}},
}

var connackCases = []entry{
	{name: "connack/assigned client identifier", v5: "3.1.3-6 3.1.3-7 3.2.2-16", run: func(t *T) {
		var ids []string
		for _, o := range []opt{fresh(30), persist(30)} {
			c := t.client(o, func(h *hello) { h.id = "" }).present(false)
			p, ok := find(c.ack.props, assignedClientID)
			if !ok || p.s == "" || slices.Contains(ids, p.s) {
				t.fail("assigned client identifier %v after %q", p, ids)
			}
			ids = append(ids, p.s)
			c.sub(t.topic(fmt.Sprint(len(ids))), 1)
			c.bye()
			t.client(persist(0), func(h *hello) { h.id = p.s }).present(true).bye()
		}
	}},
	{name: "connack/no response information unless asked for", v5: "3.1.2-28", run: func(t *T) {
		for _, opts := range [][]opt{nil, {with(num(requestResponseInfo, 0))}, {with(num(requestResponseInfo, 1))}} {
			t.client(opts...).bye() // what may be there is checked for every CONNACK
		}
	}},
	{name: "connack/no authentication method unless asked for", v5: "4.12.0-6", run: func(t *T) {
		c := t.client()
		if _, ok := find(c.ack.props, authMethod); ok {
			t.fail("%v", c.ack.props)
		}
	}},
	{name: "connack/what it does not deny works", v5: "3.2.2.3 3.2.2-9 3.2.2-10", run: func(t *T) {
		c := t.client()
		can := func(id byte) bool { p, ok := find(c.ack.props, id); return !ok || p.n > 0 }
		for qos := range byte(3) {
			c.sub(t.topic(fmt.Sprint(qos)), qos)
		}
		if can(wildcardAvailable) {
			c.sub(t.topic("a/#"), 0)
		}
		if can(identifiersAvailable) {
			c.sub(t.topic("b"), 0, num(subscriptionIdentifier, 1))
		}
		if can(sharedAvailable) {
			c.sub("$share/g/"+t.topic("c"), 0)
		}
		if can(retainAvailable) {
			c.retain(t.topic("d"), "kept", 0)
		}
		if q, ok := find(c.ack.props, maximumQoS); !ok {
			c.pub(t.topic("e"), "2", 2)
		} else {
			c.pub(t.topic("e"), "most", byte(q.n))
		}
	}},
	{name: "connack/everything that is optional is offered", v5: "3.2.2.3", option: "paho tries shared subscriptions, identifiers and retained messages",
		run: func(t *T) {
			c := t.client()
			for _, id := range []byte{wildcardAvailable, identifiersAvailable, sharedAvailable, retainAvailable} {
				if p, ok := find(c.ack.props, id); ok && p.n == 0 {
					t.fail("%s is 0", rules[id].name)
				}
			}
			if p, ok := find(c.ack.props, maximumQoS); ok {
				t.fail("%v", p)
			}
		}},
	{name: "connack/no reason strings for those who do not want them", v5: "3.1.2-29", run: func(t *T) {
		c := t.client(with(num(requestProblemInfo, 0)))
		c.sub(t.topic("a"), 1)
		c.unsubscribe(t.topic("none"))
		c.publish(message{topic: t.topic("nobody"), payload: "x", qos: 1})
		c.publish(message{topic: t.topic("nobody"), payload: "x", qos: 2})
		c.write(ackOf(pubrelType, 77))
		c.acked(pubcompType, 77)
		c.write(ackOf(pubrecType, 78))
		c.ping()
	}},
}
