package wiretest

import (
	"fmt"
	"slices"
	"time"
)

// away subscribes a persistent client to topic "a" and lets it go in order.
func away(t *T, qos byte) {
	c := t.client(as("a"), persist(60))
	c.sub(t.topic("a"), qos)
	c.bye()
}

// back brings the client of away again.
func back(t *T) *conn { return t.client(as("a"), persist(60)).present(true) }

var redeliveryCases = []entry{
	{name: "redelivery/QoS 1 as it was sent", v3: "4.4.0-1 3.3.1-1 3.1.2-4 4.6.0-1", v5: "4.4.0-1 3.3.1-1 3.1.2-5 4.3.2-3 4.6.0-1", run: func(t *T) {
		unacknowledged(t, 1)
	}},
	{name: "redelivery/QoS 2 as it was sent", v3: "4.4.0-1 3.3.1-1 3.1.2-4 4.3.3-1", v5: "4.4.0-1 3.3.1-1 3.1.2-5 4.3.3-3", run: func(t *T) {
		unacknowledged(t, 2)
	}},
	{name: "redelivery/only what was not acknowledged", v3: "4.4.0-1", v5: "4.4.0-1", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("a"), 1)
		for _, payload := range numbered("m", 5) {
			publisher.pub(t.topic("a"), payload, 1)
		}
		for i := range 5 {
			if p := c.message(); i%2 == 0 {
				c.puback(p)
			}
		}
		c.bye()
		c = back(t)
		same(t, "sent again", c.payloads(2, 1), []string{"m 1", "m 3"})
		c.nothing(publisher)
		c.bye()
		back(t).nothing(publisher)
	}},
	{name: "redelivery/PUBREL after PUBREC", v3: "4.4.0-1 4.3.3-1", v5: "4.4.0-1 4.3.3-5 4.3.3-6", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("a"), 2)
		publisher.pub(t.topic("a"), "x", 2)
		p := c.expect(t.topic("a"), "x", 2)
		c.pubrec(p)
		c.drop()
		for range 2 { // as often as it takes
			c = back(t)
			if rel := c.next(pubrelType); rel.id != p.id {
				t.fail("PUBREL for %d, wanted %d", rel.id, p.id)
			}
			c.ping()
			if len(c.queue) > 0 {
				t.fail("also %v", c.queue)
			}
			c.drop()
		}
		c = back(t)
		c.acked(pubrelType, p.id)
		c.complete(p)
		c.nothing(publisher)
		c.bye()
		back(t).nothing(publisher)
	}},
	{name: "redelivery/PUBREC to a message that was sent again", v3: "4.4.0-1", v5: "4.4.0-1", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("a"), 2)
		publisher.pub(t.topic("a"), "x", 2)
		c.expect(t.topic("a"), "x", 2)
		c.drop()
		c = back(t)
		c.receive(t.topic("a"), "x", 2)
		c.nothing(publisher)
	}},
	{name: "redelivery/first what was sent, then what came meanwhile", v3: "4.4.0-1 3.1.2-5 4.6.0-6", v5: "4.4.0-1 3.1.2-23 4.6.0-5 4.5.0-1", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("a"), 1)
		for _, payload := range numbered("m", 3) {
			publisher.pub(t.topic("a"), payload, 1)
			c.expect(t.topic("a"), payload, 1)
		}
		c.bye()
		for i := 3; i < 10; i++ {
			publisher.pub(t.topic("a"), fmt.Sprint("m ", i), 1)
		}
		c = back(t)
		for i, payload := range numbered("m", 10) {
			if p := c.receive(t.topic("a"), payload, 1); p.dup != (i < 3) {
				t.fail("%v", p)
			}
		}
		c.nothing(publisher)
	}},
	{name: "redelivery/nothing is sent again while connected", v3: "4.4.0-1", v5: "4.4.0-1", run: func(t *T) {
		c, publisher := t.another(), t.another()
		c.sub(t.topic("a"), 2)
		publisher.pub(t.topic("a"), "one", 1)
		publisher.pub(t.topic("a"), "two", 2)
		c.message()
		c.message()
		t.pause(1500 * time.Millisecond)
		c.nothing(publisher)
	}},
	{name: "redelivery/offline, QoS 1", v3: "3.1.2-5 4.5.0-1 4.6.0-6 3.3.1-3", v5: "3.1.2-23 4.5.0-1 4.6.0-5 3.3.1-3", run: func(t *T) { offline(t, 1, 100) }},
	{name: "redelivery/offline, QoS 2", v3: "3.1.2-5 4.5.0-1 4.6.0-6", v5: "3.1.2-23 4.5.0-1 4.6.0-5", run: func(t *T) { offline(t, 2, 30) }},
	{name: "redelivery/offline, at the QoS of the subscription", v3: "3.8.4-6 3.1.2-5", v5: "3.8.4-8 3.1.2-23", run: func(t *T) {
		away(t, 1)
		publisher := t.another()
		publisher.pub(t.topic("a"), "sent at 2", 2)
		publisher.pub(t.topic("a"), "sent at 1", 1)
		c := back(t)
		same(t, "offline", c.payloads(2, 1), []string{"sent at 2", "sent at 1"})
		c.nothing(publisher)
	}},
	{name: "redelivery/offline, then a clean start", v3: "3.1.2-6 3.2.2-1", v5: "3.1.2-4 3.2.2-2", run: func(t *T) {
		away(t, 1)
		publisher := t.another()
		publisher.pub(t.topic("a"), "for nobody", 1)
		c := t.client(as("a")).present(false)
		c.nothing(publisher)
		publisher.pub(t.topic("a"), "for nobody", 1)
		c.nothing(publisher)
		c.bye()
		t.client(as("a"), persist(60)).present(false).nothing(publisher)
	}},
	{name: "redelivery/offline twice", v3: "4.4.0-1 3.1.2-5", v5: "4.4.0-1 3.1.2-23", run: func(t *T) {
		away(t, 1)
		publisher := t.another()
		for _, payload := range numbered("m", 20) {
			publisher.pub(t.topic("a"), payload, 1)
		}
		c := back(t)
		same(t, "at first", c.payloads(5, 1), numbered("m", 5))
		c.drop()
		c = back(t)
		var got []string
		for len(got) == 0 || got[len(got)-1] != "m 19" { // acknowledgements of the first connection may have been lost with it
			got = append(got, c.payloads(1, 1)...)
		}
		if !slices.Equal(got, numbered("m", 20)[20-len(got):]) || len(got) < 15 {
			t.fail("then: %q", got)
		}
		c.nothing(publisher)
	}},
}

// unacknowledged leaves three messages without an acknowledgement and wants them again, twice.
func unacknowledged(t *T, qos byte) {
	c, publisher := t.client(as("a"), persist(60)), t.another()
	c.sub(t.topic("a"), qos)
	var ids []uint16
	for _, payload := range numbered("m", 3) {
		publisher.pub(t.topic("a"), payload, qos)
		p := c.expect(t.topic("a"), payload, qos)
		if p.dup {
			t.fail("%v is the first time", p)
		}
		ids = append(ids, p.id)
	}
	for range 2 {
		c.drop()
		c = back(t)
		for i, payload := range numbered("m", 3) {
			if p := c.expect(t.topic("a"), payload, qos); !p.dup || p.id != ids[i] {
				t.fail("%v, first sent with id %d", p, ids[i])
			}
		}
	}
	c.drop()
	c = back(t)
	same(t, "at last", c.payloads(3, qos), numbered("m", 3))
	c.nothing(publisher)
	c.bye()
	back(t).nothing(publisher)
}

// offline queues n messages for a client that is away.
func offline(t *T, qos byte, n int) {
	away(t, qos)
	publisher := t.another()
	for _, payload := range numbered("m", n) {
		publisher.pub(t.topic("a"), payload, qos)
	}
	c := back(t)
	for _, payload := range numbered("m", n) {
		if p := c.receive(t.topic("a"), payload, qos); p.dup {
			t.fail("%v is the first time", p)
		}
	}
	c.nothing(publisher)
	c.bye()
	back(t).nothing(publisher)
}

var orderCases = []entry{
	{name: "order/from one publisher", v3: "4.6.0-6 4.6.0-5", v5: "4.6.0-5 4.6.0-6", run: func(t *T) {
		publisher, reader := t.another(), t.another()
		for qos := range byte(3) {
			topic := t.topic(fmt.Sprint(qos))
			reader.sub(topic, qos)
			for i, payload := range numbered("m", 50) {
				publisher.write(message{topic: topic, payload: payload, qos: qos, id: uint16(i + 1)}.encode(t.v))
				if qos == 2 {
					publisher.acked(pubrecType, uint16(i+1))
					publisher.write(ackOf(pubrelType, uint16(i+1)))
				}
			}
			same(t, fmt.Sprint("QoS ", qos), reader.payloads(50, qos), numbered("m", 50))
			publisher.ping()
			publisher.queue = nil
		}
	}},
	{name: "order/acknowledgements come in the order of the messages", v3: "4.6.0-2 4.6.0-3", v5: "4.6.0-2 4.6.0-3", run: func(t *T) {
		c := t.client()
		for qos, typ := range map[byte]byte{1: pubackType, 2: pubrecType} {
			for id := uint16(20); id > 0; id-- {
				c.write(message{topic: t.topic("a"), payload: "x", qos: qos, id: id}.encode(t.v))
			}
			for id := uint16(20); id > 0; id-- {
				if p := c.next(typ); p.id != id {
					t.fail("%v, wanted %d", p, id)
				}
			}
		}
		for id := uint16(20); id > 0; id-- {
			c.write(ackOf(pubrelType, id))
		}
		for id := uint16(20); id > 0; id-- {
			if p := c.next(pubcompType); p.id != id {
				t.fail("%v, wanted %d", p, id)
			}
		}
	}},
	{name: "order/PUBREL comes in the order of PUBREC", v3: "4.6.0-4", v5: "4.6.0-4", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 2)
		var sent []packet
		for _, payload := range numbered("m", 5) {
			c.pub(t.topic("a"), payload, 2)
			sent = append(sent, c.expect(t.topic("a"), payload, 2))
		}
		for _, p := range sent {
			c.write(ackOf(pubrecType, p.id))
		}
		for _, p := range sent {
			if rel := c.next(pubrelType); rel.id != p.id {
				t.fail("%v, wanted %d", rel, p.id)
			}
		}
	}},
	{name: "order/two publishers, each in its own", v3: "4.6.0-6", v5: "4.6.0-5", run: func(t *T) {
		reader, publishers := t.another(), []*conn{t.another(), t.another()}
		reader.sub(t.topic("a"), 1)
		for i := range 30 {
			for n, publisher := range publishers {
				publisher.write(message{topic: t.topic("a"), payload: fmt.Sprintf("%d m %d", n, i), qos: 1, id: uint16(i + 1)}.encode(t.v))
			}
		}
		var got [2][]string
		for _, payload := range reader.payloads(60, 1) {
			n := payload[0] - '0'
			got[n] = append(got[n], payload[2:])
		}
		for n := range got {
			same(t, fmt.Sprint("publisher ", n), got[n], numbered("m", 30))
		}
	}},
}
