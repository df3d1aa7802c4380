package wiretest

import (
	"fmt"
)

// ackHas waits for an acknowledgement and wants one of the codes, 0 in 3.1.1.
func (c *conn) ackHas(typ byte, id uint16, codes ...byte) {
	p := c.acked(typ, id)
	for _, code := range codes {
		if p.code == code || c.v < V5 && p.code == 0 {
			return
		}
	}
	c.t.fail("%v, wanted one of %#x", p, codes)
}

var qosCases = []entry{
	{name: "qos2/sent again before PUBREL", v3: "4.3.3-2 3.3.1-1", v5: "4.3.3-10", run: func(t *T) {
		c, reader := t.another(), t.another()
		reader.sub(t.topic("a"), 2)
		m := message{topic: t.topic("a"), payload: "once", qos: 2, id: 5}
		for range 3 {
			c.write(m.encode(t.v))
			c.ackHas(pubrecType, 5, 0)
			m.dup = true
		}
		c.release(5)
		reader.receive(t.topic("a"), "once", 2)
		reader.nothing(c)
	}},
	{name: "qos2/the identifier is free after PUBCOMP", v3: "4.3.3-2 2.3.1-2", v5: "4.3.3-12", run: func(t *T) {
		c, reader := t.another(), t.another()
		reader.sub(t.topic("a"), 2)
		for _, payload := range numbered("message", 3) {
			c.publish(message{topic: t.topic("a"), payload: payload, qos: 2, id: 5})
			reader.receive(t.topic("a"), payload, 2)
		}
		reader.nothing(c)
	}},
	{name: "qos2/PUBREL again", v3: "4.3.3-2", v5: "4.3.3-11", run: func(t *T) {
		c := t.client()
		c.publish(message{topic: t.topic("a"), payload: "x", qos: 2, id: 5})
		c.write(ackOf(pubrelType, 5))
		c.ackHas(pubcompType, 5, 0, 0x92)
	}},
	{name: "qos2/PUBREL for nothing", v3: "4.3.3-2", v5: "4.3.3-11 3.7.2-1", run: func(t *T) {
		c := t.client()
		c.write(ackOf(pubrelType, 500))
		c.ackHas(pubcompType, 500, 0x92, 0)
	}},
	{name: "qos/an acknowledgement of another kind", v3: "4.3.2-1 4.3.3-1 4.8.0-1", v5: "4.3.2 4.3.3 4.13.1-1", run: func(t *T) {
		for _, wrong := range []struct{ qos, ack byte }{{1, pubrecType}, {1, pubcompType}, {2, pubackType}, {2, pubcompType}} {
			c := t.another()
			topic := t.topic(fmt.Sprint(wrong))
			c.sub(topic, wrong.qos)
			t.another().pub(topic, "x", wrong.qos)
			p := c.expect(topic, "x", wrong.qos)
			c.try(ackOf(wrong.ack, p.id))
			c.dies(0x82)
		}
	}},
	{name: "qos2/unknown identifiers are told in PUBCOMP and PUBREL", v5: "3.7.2.1 3.6.2.1", option: "0x92 tells the client that something was lost", run: func(t *T) {
		c := t.client()
		c.write(ackOf(pubrelType, 500))
		c.ackHas(pubcompType, 500, 0x92)
		c.write(ackOf(pubrecType, 501))
		c.ackHas(pubrelType, 501, 0x92)
	}},
	{name: "qos2/across a reconnect before PUBREL", v3: "4.3.3-2 4.4.0-1 3.1.2-4", v5: "4.3.3-10 4.1.0-1 3.1.2-5", run: func(t *T) {
		c, reader := t.client(as("a"), persist(60)), t.another()
		reader.sub(t.topic("a"), 2)
		m := message{topic: t.topic("a"), payload: "once", qos: 2, id: 5}
		c.write(m.encode(t.v))
		c.ackHas(pubrecType, 5, 0)
		c.drop()
		c = t.client(as("a"), persist(60)).present(true)
		m.dup = true
		c.write(m.encode(t.v))
		c.ackHas(pubrecType, 5, 0)
		if code := c.release(5); code != 0 {
			t.fail("PUBCOMP %#x", code)
		}
		reader.receive(t.topic("a"), "once", 2)
		reader.nothing(c)
	}},
	{name: "qos2/PUBREL across a reconnect", v3: "4.3.3-2 4.4.0-1", v5: "4.3.3-11 4.1.0-1", run: func(t *T) {
		c, reader := t.client(as("a"), persist(60)), t.another()
		reader.sub(t.topic("a"), 2)
		c.write(message{topic: t.topic("a"), payload: "once", qos: 2, id: 5}.encode(t.v))
		c.ackHas(pubrecType, 5, 0)
		c.drop()
		c = t.client(as("a"), persist(60)).present(true)
		if code := c.release(5); code != 0 {
			t.fail("PUBCOMP %#x", code)
		}
		reader.receive(t.topic("a"), "once", 2)
		reader.nothing(c)
	}},
	{name: "qos2/a clean start forgets what was begun", v3: "3.1.2-6", v5: "3.1.2-4", run: func(t *T) {
		c, reader := t.client(as("a"), persist(60)), t.another()
		reader.sub(t.topic("a"), 2)
		c.write(message{topic: t.topic("a"), payload: "first", qos: 2, id: 5}.encode(t.v))
		c.ackHas(pubrecType, 5, 0)
		c.drop()
		c = t.client(as("a"))
		c.publish(message{topic: t.topic("a"), payload: "second", qos: 2, id: 5})
		c.pub(t.topic("a"), "third", 1)
		var got []string
		for len(got) == 0 || got[len(got)-1] != "third" { // the first may have been given out at PUBREC
			p := reader.message()
			reader.accept(p)
			got = append(got, p.payload)
		}
		if n := len(got); n < 2 || got[n-2] != "second" {
			t.fail("got %q", got)
		}
	}},
	{name: "qos2/PUBREC again is answered", v3: "4.3.3-1", v5: "4.3.3-4", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 2)
		c.pub(t.topic("a"), "x", 2)
		p := c.expect(t.topic("a"), "x", 2)
		c.pubrec(p)
		c.pubrec(p)
		c.complete(p)
		c.ping()
	}},
	{name: "qos2/many at a time", v3: "4.3.3-1 4.3.3-2", v5: "4.3.3-4 4.3.3-11", run: func(t *T) {
		c, reader := t.another(), t.another()
		reader.sub(t.topic("a"), 2)
		for i := range uint16(10) {
			c.write(message{topic: t.topic("a"), payload: fmt.Sprint("message ", i), qos: 2, id: 100 + i}.encode(t.v))
		}
		for i := range uint16(10) {
			c.acked(pubrecType, 100+i)
		}
		for i := range uint16(10) {
			c.write(ackOf(pubrelType, 109-i))
		}
		for i := range uint16(10) {
			c.acked(pubcompType, 109-i)
		}
		got := map[string]bool{}
		for _, payload := range reader.payloads(10, 2) {
			got[payload] = true
		}
		if len(got) != 10 {
			t.fail("got %v", got)
		}
		reader.nothing(c)
	}},
	{name: "qos1/the identifier is free after PUBACK, DUP or not", v3: "4.3.2-2", v5: "4.3.2-5", run: func(t *T) {
		c, reader := t.another(), t.another()
		reader.sub(t.topic("a"), 1)
		for i, payload := range numbered("message", 3) {
			c.publish(message{topic: t.topic("a"), payload: payload, qos: 1, id: 5, dup: i > 0})
			reader.receive(t.topic("a"), payload, 1)
		}
		reader.nothing(c)
	}},
	{name: "qos/identifiers of both directions are independent", v3: "2.3.1-2 2.3.1-4 2.3.1-6", v5: "2.2.1-3 2.2.1-4 2.2.1-5", run: func(t *T) {
		for qos := byte(1); qos < 3; qos++ {
			c, publisher := t.another(), t.another()
			c.sub(t.topic("down"), qos)
			publisher.pub(t.topic("down"), "down", qos)
			p := c.expect(t.topic("down"), "down", qos)
			for up := byte(1); up < 3; up++ {
				c.publish(message{topic: t.topic("up"), payload: "up", qos: up, id: p.id})
			}
			c.accept(p)
			publisher.pub(t.topic("down"), "down again", qos)
			c.receive(t.topic("down"), "down again", qos)
		}
	}},
	{name: "qos/an identifier that is used both ways survives a reconnect", v3: "2.3.1-4 4.4.0-1", v5: "2.2.1-4 4.4.0-1", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("down"), 1)
		publisher.pub(t.topic("down"), "down", 1)
		p := c.expect(t.topic("down"), "down", 1)
		c.publish(message{topic: t.topic("up"), payload: "up", qos: 1, id: p.id})
		c.drop()
		c = t.client(as("a"), persist(60)).present(true)
		if again := c.receive(t.topic("down"), "down", 1); again.id != p.id || !again.dup {
			t.fail("%v, first %v", again, p)
		}
	}},
	{name: "qos/SUBSCRIBE and UNSUBSCRIBE with an identifier of the server's", v3: "2.3.1-7 3.8.4-2", v5: "2.2.1-6 3.8.4-2", run: func(t *T) {
		c, publisher := t.another(), t.another()
		c.sub(t.topic("a"), 1)
		publisher.pub(t.topic("a"), "x", 1)
		p := c.expect(t.topic("a"), "x", 1)
		c.ids = p.id - 1
		c.sub(t.topic("b"), 1)
		c.ids = p.id - 1
		c.unsubscribe(t.topic("b"))
		c.accept(p)
		publisher.pub(t.topic("a"), "y", 1)
		c.receive(t.topic("a"), "y", 1)
	}},
}

var ackCases = []entry{
	{name: "ack/acknowledgements of nothing are passed over", v3: "4.3.2-1", v5: "3.4.2.1 4.3.2-3", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 1)
		for _, typ := range []byte{pubackType, pubcompType} {
			c.write(ackOf(typ, 777))
		}
		c.pub(t.topic("a"), "still there", 1)
		c.receive(t.topic("a"), "still there", 1)
		c.nothing(c)
	}},
	{name: "ack/every form there is", v5: "3.4.2 3.5.2 3.6.2 3.7.2", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 2)
		forms := [][]prop{nil, {str(reasonString, "because")}, {user("a", "b"), user("a", "b")}}
		for i, props := range forms {
			for _, short := range []bool{false, true} {
				form := func(typ byte, id uint16) []byte {
					if b := ackOf(typ, id); short {
						return frame(typ, b[0]&15, b[2], b[3], 0)
					}
					return ackCode(typ, id, 0, props...)
				}
				payload := fmt.Sprint(i, short)
				c.pub(t.topic("a"), payload, 1)
				c.write(form(pubackType, c.expect(t.topic("a"), payload, 1).id))
				c.write(message{topic: t.topic("a"), payload: payload, qos: 2, id: 900}.encode(t.v))
				c.acked(pubrecType, 900)
				c.write(form(pubrelType, 900))
				c.acked(pubcompType, 900)
				p := c.expect(t.topic("a"), payload, 2)
				c.write(form(pubrecType, p.id))
				c.acked(pubrelType, p.id)
				c.write(form(pubcompType, p.id))
				clear(c.unacked)
			}
		}
		c.nothing(c)
	}},
	{name: "ack/reason codes that are not of the packet", v5: "3.4.2-1 3.5.2-1 3.6.2-1 3.7.2-1", bad: true, run: func(t *T) {
		codes := map[byte][]byte{
			pubackType: {0x01, 0x11, 0x92, 0xff}, pubrecType: {0x01, 0x11, 0x92, 0xff}, pubrelType: {0x01, 0x10, 0x80, 0x91}, pubcompType: {0x01, 0x10, 0x80, 0x91},
		}
		for typ, list := range codes {
			each(t, typeNames[typ], list, func(code byte) {
				c := t.client()
				c.write(ackCode(typ, 1, code))
				c.dies(wrong...)
			})
		}
	}},
	{name: "ack/properties of other packets", v5: "2.2.2.2", bad: true, run: func(t *T) {
		for _, typ := range []byte{pubackType, pubrecType, pubrelType, pubcompType} {
			for _, p := range []prop{num(sessionExpiry, 1), num(topicAlias, 1), str(contentType, "t"), num(subscriptionIdentifier, 1)} {
				each(t, typeNames[typ], []prop{p}, func(p prop) {
					c := t.client()
					c.write(ackCode(typ, 1, 0, p))
					c.dies(wrong...)
				})
			}
			c := t.client()
			c.write(ackCode(typ, 1, 0, str(reasonString, "a"), str(reasonString, "b")))
			c.dies(wrong...)
		}
	}},
	{name: "ack/properties that are not UTF-8", v5: "1.5.4-1 1.5.7-1", bad: true, run: func(t *T) {
		for _, typ := range []byte{pubackType, pubrecType, pubrelType, pubcompType} {
			for _, p := range []prop{str(reasonString, "\xff"), user("\x00", "a"), user("a", "\xed\xa0\x80")} {
				c := t.client()
				c.write(ackCode(typ, 1, 0, p))
				c.dies(wrong...)
			}
		}
	}},
	{name: "ack/a message that the client refuses is done with", v5: "4.4.0-2 4.3.3-9 4.8.2-6", run: func(t *T) {
		c := t.client(as("a"), persist(60))
		publisher := t.another()
		c.sub(t.topic("a"), 2)
		for qos, typ := range map[byte]byte{1: pubackType, 2: pubrecType} {
			publisher.pub(t.topic("a"), "refused", qos)
			p := c.expect(t.topic("a"), "refused", qos)
			c.write(ackCode(typ, p.id, 0x97))
			delete(c.unacked, p.id)
			c.nothing(publisher)
		}
		c.drop()
		c = t.client(as("a"), persist(60)).present(true)
		c.nothing(publisher)
	}},
	{name: "ack/nobody listens", v5: "3.4.2.1 3.5.2.1", option: "0x10 tells the publisher", run: func(t *T) {
		c := t.client()
		for qos := byte(1); qos < 3; qos++ {
			c.write(message{topic: t.topic("nobody"), qos: qos, id: 9}.encode(t.v))
			c.ackHas(map[byte]byte{1: pubackType, 2: pubrecType}[qos], 9, 0x10)
			if qos == 2 {
				c.release(9)
			}
		}
	}},
}
