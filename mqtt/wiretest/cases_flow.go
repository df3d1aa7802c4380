package wiretest

import (
	"fmt"
	"strings"
)

// window publishes n messages to topic "a" from another client.
func window(t *T, publisher *conn, n int, qos byte) {
	for _, payload := range numbered("m", n) {
		publisher.pub(t.topic("a"), payload, qos)
	}
}

var flowCases = []entry{
	{name: "flow/the client's receive maximum, QoS 1", v5: "3.3.4-9 4.9.0-1 4.9.0-2", run: func(t *T) {
		c, publisher := t.another(with(num(receiveMaximum, 2))), t.another()
		c.sub(t.topic("a"), 1)
		window(t, publisher, 10, 1)
		one, two := c.message(), c.message()
		c.nothing(publisher)
		c.puback(two) // in any order
		three := c.message()
		c.nothing(publisher)
		c.puback(one)
		c.puback(three)
		got := append([]string{one.payload, two.payload, three.payload}, c.payloads(7, 1)...)
		same(t, "in all", got, numbered("m", 10))
		c.nothing(publisher)
	}},
	{name: "flow/the client's receive maximum, QoS 2", v5: "3.3.4-9 4.9.0-2", run: func(t *T) {
		c, publisher := t.another(with(num(receiveMaximum, 2))), t.another()
		c.sub(t.topic("a"), 2)
		window(t, publisher, 6, 2)
		one, two := c.message(), c.message()
		c.pubrec(one)
		c.nothing(publisher) // PUBREC alone gives nothing back
		c.complete(one)
		three := c.message()
		c.nothing(publisher)
		c.write(ackCode(pubrecType, two.id, 0x83)) // but this one does
		delete(c.unacked, two.id)
		four := c.message()
		c.nothing(publisher)
		c.accept(three)
		c.accept(four)
		got := append([]string{one.payload, two.payload, three.payload, four.payload}, c.payloads(2, 2)...)
		same(t, "in all", got, numbered("m", 6))
		c.nothing(publisher)
	}},
	{name: "flow/a full window holds nothing else up", v5: "3.3.4-10 4.9.0-3", run: func(t *T) {
		c, publisher := t.another(with(num(receiveMaximum, 1))), t.another()
		c.sub(t.topic("a"), 2).sub(t.topic("zero"), 0)
		window(t, publisher, 3, 1)
		p := c.message()
		publisher.pub(t.topic("zero"), "QoS 0", 0)
		c.receive(t.topic("zero"), "QoS 0", 0)
		c.pub(t.topic("up"), "up", 1)
		c.pub(t.topic("up"), "up", 2)
		c.sub(t.topic("b"), 1)
		c.unsubscribe(t.topic("b"))
		c.ping()
		c.accept(p)
		same(t, "then", c.payloads(2, 1), []string{"m 1", "m 2"})
	}},
	{name: "flow/a window of one, many messages", v5: "3.3.4-9", run: func(t *T) {
		c, publisher := t.another(with(num(receiveMaximum, 1))), t.another()
		c.sub(t.topic("a"), 1)
		window(t, publisher, 200, 1)
		same(t, "in all", c.payloads(200, 1), numbered("m", 200))
		c.nothing(publisher)
	}},
	{name: "flow/offline messages keep to the receive maximum", v5: "3.3.4-9 4.4.0-1", run: func(t *T) {
		away(t, 1)
		publisher := t.another()
		window(t, publisher, 20, 1)
		c := t.client(as("a"), persist(60), with(num(receiveMaximum, 3))).present(true)
		var held []packet
		for range 3 {
			held = append(held, c.message())
		}
		c.nothing(publisher)
		for _, p := range held {
			c.accept(p)
		}
		same(t, "then", c.payloads(17, 1), numbered("m", 20)[3:])
		c.nothing(publisher)
	}},
	{name: "flow/what is sent again keeps to a smaller receive maximum", v5: "3.3.4-9 4.4.0-1", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("a"), 1)
		window(t, publisher, 5, 1)
		for range 5 {
			c.message()
		}
		c.bye()
		c = t.client(as("a"), persist(60), with(num(receiveMaximum, 2))).present(true)
		one, two := c.message(), c.message()
		c.nothing(publisher)
		c.accept(one)
		c.accept(two)
		same(t, "then", c.payloads(3, 1), []string{"m 2", "m 3", "m 4"})
		c.nothing(publisher)
	}},
	{name: "flow/PUBREL that is owed counts against the receive maximum", v5: "3.3.4-9 4.9.0-1", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("a"), 2)
		window(t, publisher, 3, 2)
		p := c.message()
		c.pubrec(p)
		c.message()
		c.message()
		c.bye()
		c = t.client(as("a"), persist(60), with(num(receiveMaximum, 1))).present(true)
		c.complete(c.acked(pubrelType, p.id))
		same(t, "then", c.payloads(2, 2), []string{"m 1", "m 2"})
		c.nothing(publisher)
	}},
	{name: "flow/the server's receive maximum", v5: "3.3.4-7 4.9.0-1 3.3.4", run: func(t *T) {
		c := t.client()
		m, ok := find(c.ack.props, receiveMaximum)
		if !ok || m.n > 5000 {
			t.skip("the server's receive maximum is %d", m.n)
		}
		for id := uint16(1); id <= uint16(m.n); id++ {
			c.write(message{topic: t.topic("a"), payload: "x", qos: 2, id: id}.encode(t.v))
		}
		for id := uint16(1); id <= uint16(m.n); id++ {
			c.acked(pubrecType, id)
		}
		c.release(1)
		c.pub(t.topic("a"), "one has become free", 1)
		c.write(message{topic: t.topic("a"), payload: "x", qos: 2, id: uint16(m.n) + 1}.encode(t.v))
		c.acked(pubrecType, uint16(m.n)+1)
		c.write(message{topic: t.topic("a"), payload: "one too many", qos: 2, id: uint16(m.n) + 2}.encode(t.v))
		c.dies(0x93)
	}},
	{name: "flow/acknowledged messages give their place back", v5: "4.9.0-2", run: func(t *T) {
		c := t.client()
		m, ok := find(c.ack.props, receiveMaximum)
		if !ok || m.n > 1000 {
			m.n = 300
		}
		for i := range m.n * 2 {
			c.pub(t.topic("a"), "x", byte(1+i%2))
		}
	}},
}

var packetSizeCases = []entry{
	{name: "size/a message that is too large for the client is left out", v5: "3.1.2-24 3.1.2-25", run: func(t *T) {
		c, publisher := t.another(with(num(maximumPacketSize, 100))), t.another()
		for qos := range byte(3) {
			c.sub(t.topic("a"), qos)
			publisher.pub(t.topic("a"), "before", qos)
			publisher.pub(t.topic("a"), strings.Repeat("x", 100), qos)
			publisher.pub(t.topic("a"), "after", qos)
			c.receive(t.topic("a"), "before", qos)
			c.receive(t.topic("a"), "after", qos)
		}
		c.nothing(publisher)
	}},
	{name: "size/exactly as large as the client takes", v5: "3.1.2-24", run: func(t *T) {
		c, publisher := t.another(with(num(maximumPacketSize, 100))), t.another()
		c.sub(t.topic("a"), 0)
		fits := 100 - 2 - 2 - len(t.topic("a")) - 1
		publisher.pub(t.topic("a"), strings.Repeat("x", fits), 0)
		publisher.pub(t.topic("a"), strings.Repeat("y", fits+1), 0)
		c.receive(t.topic("a"), strings.Repeat("x", fits), 0)
		c.nothing(publisher)
	}},
	{name: "size/properties count", v5: "3.1.2-24 3.1.2-25", run: func(t *T) {
		c, publisher := t.another(with(num(maximumPacketSize, 100))), t.another()
		c.sub(t.topic("a"), 1)
		publisher.pub(t.topic("a"), "x", 1, user("name", strings.Repeat("x", 80)))
		publisher.pub(t.topic("a"), "y", 1)
		c.receive(t.topic("a"), "y", 1)
		c.nothing(publisher)
	}},
	{name: "size/what is left out takes no place in the window", v5: "3.1.2-25 3.3.4-9", run: func(t *T) {
		c, publisher := t.another(with(num(maximumPacketSize, 100), num(receiveMaximum, 1))), t.another()
		c.sub(t.topic("a"), 1)
		for i := range 3 {
			publisher.pub(t.topic("a"), strings.Repeat("x", 200), 1)
			publisher.pub(t.topic("a"), fmt.Sprint(i), 1)
		}
		same(t, "in all", c.payloads(3, 1), []string{"0", "1", "2"})
	}},
	{name: "size/retained messages that are too large", v5: "3.1.2-24 3.1.2-25", run: func(t *T) {
		publisher := t.another()
		publisher.retain(t.topic("large"), strings.Repeat("x", 200), 1)
		publisher.retain(t.topic("small"), "small", 1)
		c := t.another(with(num(maximumPacketSize, 100)))
		c.sub(t.topic("+"), 1)
		c.receive(t.topic("small"), "small", 1)
		c.nothing(publisher)
	}},
	{name: "size/queued messages that are too large for the client that comes back", v5: "3.1.2-24 3.1.2-25 4.4.0-1", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("a"), 2)
		for qos := byte(1); qos < 3; qos++ {
			publisher.pub(t.topic("a"), strings.Repeat("x", 200), qos)
			c.message()
		}
		c.bye()
		publisher.pub(t.topic("a"), strings.Repeat("x", 200), 1)
		publisher.pub(t.topic("a"), "small", 1)
		for range 2 {
			c = t.client(as("a"), persist(60), with(num(maximumPacketSize, 100))).present(true)
			c.expect(t.topic("a"), "small", 1)
			c.nothing(publisher)
			c.bye()
		}
	}},
	{name: "size/others are not affected", v5: "3.1.2-25", run: func(t *T) {
		small, large, publisher := t.another(with(num(maximumPacketSize, 100))), t.another(), t.another()
		small.sub(t.topic("a"), 1)
		large.sub(t.topic("a"), 1)
		publisher.pub(t.topic("a"), strings.Repeat("x", 100), 1)
		large.receive(t.topic("a"), strings.Repeat("x", 100), 1)
		small.nothing(publisher)
	}},
	{name: "size/reasons do not make acknowledgements too large", v5: "3.2.2-19 3.2.2-20 3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.7.2-2 3.7.2-3 3.9.2-1 3.9.2-2 3.11.2-1 3.11.2-2", run: func(t *T) {
		c := t.client()
		c.bye()
		size := uint32(c.ack.size + 2)
		c = t.client(with(num(maximumPacketSize, size))) // that they keep to it is checked for every packet
		c.write(subscribePacket(t.v, 1, []filter{{t.topic("#/a"), 1}}))
		c.diesOrAnswers(subackType)
		c = t.client(with(num(maximumPacketSize, size)))
		c.write(unsubscribePacket(t.v, 1, []string{t.topic("none")}))
		c.acked(unsubackType, 1)
		c.write(message{topic: t.topic("a"), qos: 1, id: 1}.encode(t.v))
		c.acked(pubackType, 1)
		c.write(message{topic: t.topic("a"), qos: 2, id: 1}.encode(t.v))
		c.acked(pubrecType, 1)
		c.release(1)
		c.write(ackOf(pubrelType, 99))
		c.acked(pubcompType, 99)
	}},
	{name: "size/reasons do not make DISCONNECT too large", v5: "3.14.2-3 3.14.2-4 3.1.2-24", bad: true, run: func(t *T) {
		c := t.client()
		c.bye()
		c = t.client(with(num(maximumPacketSize, uint32(c.ack.size+2))))
		c.write(c.said.encode())
		c.dies(0x82)
	}},
	{name: "size/more than the server takes", v5: "3.2.2-15 3.2.2.3.6", bad: true, run: func(t *T) {
		c := t.client()
		most, ok := find(c.ack.props, maximumPacketSize)
		if !ok || most.n > 4<<20 {
			t.skip("the server takes packets of any size")
		}
		body := int(most.n) - 1 - len(appendVar(nil, int(most.n)-5))
		b := append(appendString(nil, t.topic("a")), 0)
		c.write(frame(publishType, 0, append(b, make([]byte, body-len(b))...)...)) // exactly as much as it takes
		c.ping()
		c.try(frame(publishType, 0, append(b, make([]byte, body-len(b)+1)...)...))
		c.dies(0x95)
	}},
	{name: "size/a length that the server does not take is enough", v5: "3.2.2-15", bad: true, run: func(t *T) {
		c := t.client()
		if _, ok := find(c.ack.props, maximumPacketSize); !ok {
			t.skip("the server takes packets of any size")
		}
		c.write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
		c.dies(0x95)
	}},
	{name: "size/a large packet from a client of 3.1.1", v3: "4.8.0-1", bad: true, run: func(t *T) {
		c := t.client()
		c.write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}) // the server may wait for the rest, or close
		c.drop()
		t.client().ping()
	}},
}

// diesOrAnswers wants an acknowledgement of the type, or the end.
func (c *conn) diesOrAnswers(typ byte) {
	p, err := c.read(c.t.patience)
	if err == nil && p.typ != typ && p.typ != disconnectType || err != nil && !gone(err) {
		c.t.fail("%v, %v: wanted %s or the end", p, err, typeNames[typ])
	}
}
