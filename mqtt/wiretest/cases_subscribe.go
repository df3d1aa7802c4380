package wiretest

import (
	"fmt"
	"slices"
)

var subscribeCases = []entry{
	{name: "subscribe/several filters, a code for each", v3: "3.8.4-1 3.8.4-2 3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2 2.3.1-7",
		v5: "3.8.4-1 3.8.4-2 3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2 2.2.1-6", run: func(t *T) {
			c := t.client()
			codes := c.subscribe([]filter{{t.topic("a"), 2}, {t.topic("b"), 0}, {t.topic("c"), 1}, {t.topic("a"), 1}, {t.topic("+/x"), 2}})
			if !slices.Equal(codes, []byte{2, 0, 1, 1, 2}) {
				t.fail("codes %v", codes)
			}
			c.pub(t.topic("a"), "the last one counts", 2)
			c.receive(t.topic("a"), "the last one counts", 1)
		}},
	{name: "subscribe/the same filter replaces the one before", v3: "3.8.4-3", v5: "3.8.4-3", run: func(t *T) {
		c := t.client()
		for _, qos := range []byte{0, 2, 1, 0} {
			c.sub(t.topic("a"), qos)
			c.pub(t.topic("a"), fmt.Sprint(qos), 2)
			c.receive(t.topic("a"), fmt.Sprint(qos), qos)
		}
		c.nothing(c)
	}},
	{name: "subscribe/nothing is lost while a subscription is replaced", v3: "3.8.4-3", v5: "3.8.4-4", run: func(t *T) {
		c, publisher := t.another(), t.another()
		c.sub(t.topic("a"), 1)
		for i, payload := range numbered("m", 40) {
			publisher.write(message{topic: t.topic("a"), payload: payload, qos: 1, id: uint16(i + 1)}.encode(t.v))
			c.write(subscribePacket(t.v, uint16(i+100), []filter{{t.topic("a"), 1}}))
		}
		same(t, "in all", c.payloads(40, 1), numbered("m", 40))
		publisher.ping()
	}},
	{name: "subscribe/overlapping filters", v3: "3.3.5-1", v5: "3.3.4-2", run: func(t *T) {
		c, publisher := t.another(), t.another()
		c.sub(t.topic("a/#"), 1).sub(t.topic("a/b"), 2).sub(t.topic("+/b"), 0)
		publisher.pub(t.topic("a/b"), "x", 2)
		marker := t.topic("end")
		c.sub(marker, 0)
		publisher.pub(marker, "end", 0)
		most, n := byte(0), 0
		for {
			p := c.message()
			if p.topic == marker {
				break
			}
			c.accept(p)
			most, n = max(most, p.qos), n+1
		}
		if most != 2 || n > 3 {
			t.fail("%d copies, QoS %d at most", n, most)
		}
	}},
	{name: "subscribe/overlapping filters give one copy", v3: "3.3.5", v5: "3.3.4", option: "either is allowed; what is sent once is handled once", run: func(t *T) {
		c, publisher := t.another(), t.another()
		c.sub(t.topic("a/#"), 1).sub(t.topic("a/b"), 2).sub(t.topic("+/b"), 0).sub(t.topic("#"), 0)
		publisher.pub(t.topic("a/b"), "x", 2)
		c.receive(t.topic("a/b"), "x", 2)
		c.unsubscribe(t.topic("#"))
		c.nothing(publisher)
	}},
	{name: "subscribe/no local", v5: "3.8.3-3", run: func(t *T) {
		c, other := t.another(), t.another()
		c.sub(t.topic("a"), 2|noLocal)
		other.sub(t.topic("a"), 2|noLocal)
		for qos := range byte(3) {
			c.pub(t.topic("a"), "mine", qos)
			other.receive(t.topic("a"), "mine", qos)
			c.nothing(other)
			other.pub(t.topic("a"), "another's", qos)
			c.receive(t.topic("a"), "another's", qos)
			other.nothing(c)
		}
	}},
	{name: "subscribe/no local, by client id and not by connection", v5: "3.8.3-3", run: func(t *T) {
		c := t.client(persist(60))
		c.sub(t.topic("a"), 1|noLocal)
		c.bye()
		c = t.client(persist(60)).present(true)
		c.pub(t.topic("a"), "mine", 1)
		c.nothing(c)
	}},
	{name: "subscribe/identifiers", v5: "3.3.4-3 3.8.2.1.2", run: func(t *T) {
		c, publisher := t.another(), t.another()
		for _, n := range []uint32{1, 127, 128, 16384, 268435455} {
			c.sub(t.topic("a"), 1, num(subscriptionIdentifier, n))
			publisher.pub(t.topic("a"), "x", 1)
			wantIdentifiers(t, c.receive(t.topic("a"), "x", 1), n)
		}
		c.sub(t.topic("a"), 1)
		publisher.pub(t.topic("a"), "x", 1)
		wantIdentifiers(t, c.receive(t.topic("a"), "x", 1))
	}},
	{name: "subscribe/identifiers of overlapping filters", v5: "3.3.4-3 3.3.4-4", run: func(t *T) {
		c, publisher := t.another(), t.another()
		c.sub(t.topic("a/#"), 1, num(subscriptionIdentifier, 5)).sub(t.topic("a/b"), 1, num(subscriptionIdentifier, 7))
		c.sub(t.topic("+/b"), 1, num(subscriptionIdentifier, 5)).sub(t.topic("#"), 1)
		publisher.pub(t.topic("a/b"), "x", 1)
		marker := t.topic("end")
		publisher.pub(marker, "end", 0)
		got := map[uint32]bool{}
		for {
			p := c.message()
			if p.topic == marker {
				break
			}
			c.accept(p)
			for _, id := range all(p.props, subscriptionIdentifier) {
				got[id.n] = true
			}
		}
		if len(got) != 2 || !got[5] || !got[7] {
			t.fail("identifiers %v", got)
		}
	}},
	{name: "subscribe/one identifier for all filters of a packet", v5: "3.8.2.1.2 3.3.4-3", run: func(t *T) {
		c := t.client()
		c.subscribe([]filter{{t.topic("a"), 1}, {t.topic("b"), 1}}, num(subscriptionIdentifier, 9))
		for _, name := range []string{"a", "b"} {
			c.pub(t.topic(name), "x", 1)
			wantIdentifiers(t, c.receive(t.topic(name), "x", 1), 9)
		}
	}},
	{name: "subscribe/identifiers outlive a connection", v5: "3.8.2.1.2 4.1.0-1", run: func(t *T) {
		c := t.client(persist(60))
		c.sub(t.topic("a"), 1, num(subscriptionIdentifier, 9))
		c.bye()
		publisher := t.another()
		publisher.pub(t.topic("a"), "offline", 1)
		c = t.client(persist(60)).present(true)
		wantIdentifiers(t, c.receive(t.topic("a"), "offline", 1), 9)
		publisher.pub(t.topic("a"), "online", 1)
		wantIdentifiers(t, c.receive(t.topic("a"), "online", 1), 9)
	}},
	{name: "subscribe/identifiers with retained messages", v5: "3.3.4-3", run: func(t *T) {
		c := t.client()
		c.retain(t.topic("a"), "kept", 1)
		c.sub(t.topic("a"), 1, num(subscriptionIdentifier, 9))
		wantIdentifiers(t, c.receive(t.topic("a"), "kept", 1), 9)
	}},
	{name: "subscribe/user properties", v5: "3.8.2.1.3 3.10.2.1.2", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 1, user("a", "b"), user("a", "b"), user("", ""))
		c.write(unsubscribePacket(t.v, 9, []string{t.topic("a")}, user("a", "b"), user("a", "b")))
		c.acked(unsubackType, 9)
	}},
	{name: "subscribe/200 filters in one packet", v3: "3.8.4-4 3.8.4-5", v5: "3.8.4-5 3.8.4-6", run: func(t *T) {
		c := t.client()
		var filters []filter
		for i := range 200 {
			filters = append(filters, filter{t.topic(fmt.Sprint(i)), byte(i % 3)})
		}
		for i, code := range c.subscribe(filters) {
			if code != byte(i%3) {
				t.fail("filter %d: %#x", i, code)
			}
		}
		for i := range 200 {
			c.pub(t.topic(fmt.Sprint(i)), "x", 0)
			c.receive(t.topic(fmt.Sprint(i)), "x", 0)
		}
	}},
}

func wantIdentifiers(t *T, p packet, want ...uint32) {
	var got []uint32
	for _, id := range all(p.props, subscriptionIdentifier) {
		got = append(got, id.n)
	}
	if !slices.Equal(got, want) {
		t.fail("identifiers %v, wanted %v", got, want)
	}
}

// badFilters are no topic filters (4.7.1).
var badFilters = []string{"a#", "#a", "a/#/b", "#/a", "a/b#", "+a", "a+", "a/+b", "a/b+/c", "++", "a/##", "+#", "#+"}

// filterRefused wants a filter to be refused in SUBACK, or the end of the connection.
func filterRefused(t *T, topic string, options byte, props ...prop) {
	c := t.another()
	c.write(subscribePacket(t.v, 1, []filter{{topic, options}}, props...))
	p, err := c.read(t.patience)
	switch {
	case err != nil && !gone(err):
		t.fail("%v", err)
	case err != nil && t.v == V5:
		t.fail("closed without DISCONNECT")
	case err != nil:
	case p.typ == subackType && len(p.codes) == 1 && p.codes[0] >= 0x80:
		c.ping()
	case p.typ == disconnectType && slices.Contains([]byte{0x81, 0x82, 0x8f, 0x9e}, p.code):
	default:
		t.fail("%v", p)
	}
}

var subscribeMalformedCases = []entry{
	{name: "subscribe/no filter", v3: "3.8.3-3", v5: "3.8.3-2", bad: true, run: func(t *T) {
		c := t.client()
		c.write(subscribePacket(t.v, 1, nil))
		c.dies(wrong...)
	}},
	{name: "subscribe/empty filter", v3: "4.7.3-1", v5: "4.7.3-1", bad: true, run: func(t *T) { filterRefused(t, "", 0) }},
	{name: "subscribe/QoS 3", v3: "3.8.3-4", v5: "3.8.3.1", bad: true, run: func(t *T) {
		c := t.client()
		c.write(subscribePacket(t.v, 1, []filter{{t.topic("a"), 3}}))
		c.dies(wrong...)
	}},
	{name: "subscribe/reserved bits", v3: "3.8.3-4", v5: "3.8.3-5", bad: true, run: func(t *T) {
		bits := map[Version][]byte{V3: {0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xfc}, V5: {0x40, 0x80, 0xc0}}
		each(t, "bits", bits[t.v], func(bits byte) {
			c := t.client()
			c.write(subscribePacket(t.v, 1, []filter{{t.topic("a"), 1 | bits}}))
			c.dies(wrong...)
		})
	}},
	{name: "subscribe/retain handling 3", v5: "3.8.3.1", bad: true, run: func(t *T) {
		c := t.client()
		c.write(subscribePacket(t.v, 1, []filter{{t.topic("a"), 0x30}}))
		c.dies(wrong...)
	}},
	{name: "subscribe/filters that are not UTF-8", v3: "1.5.3-1 1.5.3-2 3.8.3-1 4.7.3-2", v5: "1.5.4-1 1.5.4-2 3.8.3-1 4.7.3-2", bad: true, run: func(t *T) {
		each(t, "filter", badStrings, func(s string) {
			c := t.client()
			c.write(subscribePacket(t.v, 1, []filter{{s, 0}}))
			c.dies(0x81, 0x82, 0x8f)
		})
	}},
	{name: "subscribe/wildcards where they may not be", v3: "4.7.1-2 4.7.1-3", v5: "4.7.1-1 4.7.1-2", bad: true, run: func(t *T) {
		each(t, "filter", badFilters, func(f string) {
			filterRefused(t, f, 1)
			filterRefused(t, t.topic(f), 1)
		})
	}},
	{name: "subscribe/a filter without its options", v3: "3.8.3 4.8.0-1", v5: "3.8.3 4.13.1-1", bad: true, run: func(t *T) {
		c := t.client()
		b := subscribePacket(t.v, 1, []filter{{"a", 0}, {"b", 0}})
		c.write(frame(subscribeType, 2, b[2:len(b)-1]...))
		c.dies(wrong...)
	}},
	{name: "subscribe/identifier 0", v5: "3.8.2.1.2", bad: true, run: func(t *T) { badSubscribe(t, num(subscriptionIdentifier, 0)) }},
	{name: "subscribe/identifier twice", v5: "3.8.2.1.2", bad: true, run: func(t *T) {
		badSubscribe(t, num(subscriptionIdentifier, 1), num(subscriptionIdentifier, 2))
	}},
	{name: "subscribe/identifier of five bytes", v5: "1.5.5", bad: true, run: func(t *T) {
		for _, raw := range []string{"\x0b\x80\x80\x80\x80\x01", "\x0b\xff\xff\xff\xff\x7f", "\x0b\x81\x00"} {
			c := t.client()
			b := append([]byte{0, 1, byte(len(raw))}, raw...)
			c.write(frame(subscribeType, 2, append(appendString(b, t.topic("a")), 0)...))
			c.dies(wrong...)
		}
	}},
	{name: "subscribe/properties of other packets", v5: "2.2.2.2", bad: true, run: func(t *T) {
		for _, id := range propertyIDs() {
			if p := sample(id); !p.allowed(subscribeType) {
				badSubscribe(t, p)
			}
			if p := sample(id); !p.allowed(unsubscribeType) {
				c := t.client()
				c.write(unsubscribePacket(t.v, 1, []string{t.topic("a")}, p))
				c.dies(wrong...)
			}
		}
	}},
	{name: "subscribe/properties that are not UTF-8", v5: "1.5.7-1", bad: true, run: func(t *T) {
		badSubscribe(t, user("\xff", ""))
		badSubscribe(t, user("", "\x00"))
	}},
}

func badSubscribe(t *T, props ...prop) {
	each(t, "properties", [][]prop{props}, func(props []prop) {
		c := t.client()
		c.write(subscribePacket(t.v, 1, []filter{{t.topic("a"), 0}}, props...))
		c.dies(wrong...)
	})
}

var unsubscribeCases = []entry{
	{name: "unsubscribe/stops the messages", v3: "3.10.4-1 3.10.4-2 3.10.4-4", v5: "3.10.4-1 3.10.4-2 3.10.4-4 3.10.4-5", run: func(t *T) {
		c, publisher := t.another(), t.another()
		c.sub(t.topic("a"), 1).sub(t.topic("b/#"), 1)
		c.unsubscribe(t.topic("a"))
		publisher.pub(t.topic("a"), "x", 1)
		publisher.pub(t.topic("b"), "y", 1)
		c.receive(t.topic("b"), "y", 1)
		c.nothing(publisher)
	}},
	{name: "unsubscribe/filters are compared character by character", v3: "3.10.4-1 3.10.4-5", v5: "3.10.4-1 3.10.4-5 3.11.3-2", run: func(t *T) {
		c, publisher := t.another(), t.another()
		c.sub(t.topic("a/b"), 1).sub(t.topic("c/#"), 1)
		for i, code := range c.unsubscribe(t.topic("a/+"), t.topic("#"), t.topic("a"), t.topic("A/b"), t.topic("c/d"), t.topic("c/+")) {
			if code != 0x11 {
				t.fail("filter %d: %#x", i, code)
			}
		}
		publisher.pub(t.topic("a/b"), "x", 1)
		c.receive(t.topic("a/b"), "x", 1)
		publisher.pub(t.topic("c/d"), "y", 1)
		c.receive(t.topic("c/d"), "y", 1)
	}},
	{name: "unsubscribe/several filters, a code for each", v3: "3.10.4-6 3.10.4-5", v5: "3.10.4-6 3.11.3-1 3.11.3-2", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 1).sub(t.topic("b"), 1)
		codes := c.unsubscribe(t.topic("a"), t.topic("none"), t.topic("b"), t.topic("a"))
		if want := []byte{0, 0x11, 0, 0x11}; t.v == V5 && !slices.Equal(codes, want) {
			t.fail("codes %#x, wanted %#x", codes, want)
		}
		c.pub(t.topic("a"), "x", 1)
		c.pub(t.topic("b"), "x", 1)
		c.nothing(c)
	}},
	{name: "unsubscribe/what is being sent is completed", v3: "3.10.4-3", v5: "3.10.4-3", run: func(t *T) {
		c, publisher := t.another(), t.another()
		c.sub(t.topic("a"), 2)
		publisher.pub(t.topic("a"), "x", 2)
		p := c.expect(t.topic("a"), "x", 2)
		c.unsubscribe(t.topic("a"))
		c.accept(p)
		c.nothing(publisher)
	}},
	{name: "unsubscribe/what is being sent is completed after a reconnect", v3: "3.10.4-3 4.4.0-1", v5: "3.10.4-3 4.4.0-1", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("a"), 1)
		publisher.pub(t.topic("a"), "x", 1)
		c.expect(t.topic("a"), "x", 1)
		c.unsubscribe(t.topic("a"))
		c.drop()
		back(t).receive(t.topic("a"), "x", 1)
	}},
	{name: "unsubscribe/then subscribe again", v3: "3.10.4-1", v5: "3.10.4-1", run: func(t *T) {
		c := t.client()
		for range 3 {
			c.sub(t.topic("a"), 1)
			c.pub(t.topic("a"), "x", 1)
			c.receive(t.topic("a"), "x", 1)
			c.unsubscribe(t.topic("a"))
			c.pub(t.topic("a"), "y", 1)
			c.nothing(c)
		}
	}},
	{name: "unsubscribe/in a session that is resumed", v3: "3.10.4-1 3.1.2-4", v5: "3.10.4-1 3.1.2-5", run: func(t *T) {
		away(t, 1)
		c := back(t)
		c.unsubscribe(t.topic("a"))
		c.bye()
		publisher := t.another()
		publisher.pub(t.topic("a"), "x", 1)
		back(t).nothing(publisher)
	}},
	{name: "unsubscribe/no filter", v3: "3.10.3-2", v5: "3.10.3-2", bad: true, run: func(t *T) {
		c := t.client()
		c.write(unsubscribePacket(t.v, 1, nil))
		c.dies(wrong...)
	}},
	{name: "unsubscribe/filters that are not UTF-8", v3: "3.10.3-1 1.5.3-1", v5: "3.10.3-1 1.5.4-1", bad: true, run: func(t *T) {
		each(t, "filter", badStrings, func(s string) {
			c := t.client()
			c.write(unsubscribePacket(t.v, 1, []string{s}))
			c.dies(0x81, 0x82, 0x8f)
		})
	}},
}
