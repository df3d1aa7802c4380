package wiretest

import (
	"fmt"
	"slices"
)

// publish sends a message and completes the exchange. It returns the reason code, which is 0 in 3.1.1.
func (c *conn) publish(m message) byte {
	if m.retain && m.payload != "" {
		if c.t.retained == nil {
			c.t.retained = map[string]bool{}
		}
		c.t.retained[m.topic] = true
	}
	if m.qos > 0 && m.id == 0 {
		m.id = c.id()
	}
	c.write(m.encode(c.v))
	switch m.qos {
	case 1:
		return c.acked(pubackType, m.id).code
	case 2:
		if rec := c.acked(pubrecType, m.id); rec.code >= 0x80 {
			return rec.code
		}
		return c.release(m.id)
	}
	return 0
}

// release sends PUBREL and waits for PUBCOMP.
func (c *conn) release(id uint16) byte {
	c.write(ackOf(pubrelType, id))
	return c.acked(pubcompType, id).code
}

// pub publishes and wants it to be taken.
func (c *conn) pub(topic, payload string, qos byte, props ...prop) {
	if code := c.publish(message{topic: topic, payload: payload, qos: qos, props: props}); code >= 0x80 {
		c.t.fail("PUBLISH to %q was refused: %#x", clip(topic), code)
	}
}

// retain publishes a retained message. At QoS 0 a ping makes sure that it was read.
func (c *conn) retain(topic, payload string, qos byte, props ...prop) {
	if code := c.publish(message{topic: topic, payload: payload, qos: qos, retain: true, props: props}); code >= 0x80 {
		c.t.fail("retained PUBLISH was refused: %#x", code)
	}
	c.ping()
}

// subscribe sends SUBSCRIBE and returns the codes.
func (c *conn) subscribe(filters []filter, props ...prop) []byte {
	id := c.id()
	c.write(subscribePacket(c.v, id, filters, props...))
	codes := c.acked(subackType, id).codes
	if len(codes) != len(filters) {
		c.t.fail("%d filters, but SUBACK has %d codes", len(filters), len(codes))
	}
	return codes
}

// sub subscribes to one filter and wants the QoS that it asks for.
func (c *conn) sub(topic string, options byte, props ...prop) *conn {
	if codes := c.subscribe([]filter{{topic, options}}, props...); codes[0] != options&3 {
		c.t.fail("SUBSCRIBE to %q at QoS %d: %#x", clip(topic), options&3, codes[0])
	}
	return c
}

// unsubscribe sends UNSUBSCRIBE and returns the codes, none in 3.1.1.
func (c *conn) unsubscribe(filters ...string) []byte {
	id := c.id()
	c.write(unsubscribePacket(c.v, id, filters))
	codes := c.acked(unsubackType, id).codes
	if c.v == V5 && len(codes) != len(filters) {
		c.t.fail("%d filters, but UNSUBACK has %d codes", len(filters), len(codes))
	}
	return codes
}

// message waits for a message and does not acknowledge it.
func (c *conn) message() packet {
	return c.wait("PUBLISH", func(p packet) bool { return p.typ == publishType })
}

// expect waits for a message, which must be this one, and does not acknowledge it.
func (c *conn) expect(topic, payload string, qos byte) packet {
	p := c.message()
	if p.topic != topic || p.payload != payload || p.qos != qos {
		c.t.fail("wanted %q %q at QoS %d, got %v", clip(topic), clip(payload), qos, p)
	}
	return p
}

// receive waits for a message, which must be this one, and acknowledges it.
func (c *conn) receive(topic, payload string, qos byte) packet {
	p := c.expect(topic, payload, qos)
	c.accept(p)
	return p
}

// accept acknowledges a message, with the whole exchange at QoS 2.
func (c *conn) accept(p packet) {
	switch p.qos {
	case 1:
		c.puback(p)
	case 2:
		c.pubrec(p)
		c.complete(p)
	}
}

func (c *conn) puback(p packet) {
	delete(c.unacked, p.id)
	c.write(ackOf(pubackType, p.id))
}

// pubrec sends PUBREC and waits for PUBREL.
func (c *conn) pubrec(p packet) {
	c.write(ackOf(pubrecType, p.id))
	c.acked(pubrelType, p.id)
}

func (c *conn) complete(p packet) {
	delete(c.unacked, p.id)
	c.write(ackOf(pubcompType, p.id))
}

// nothing wants that c has nothing to read: what publisher sends now arrives, and nothing before it. Only QoS 0 is
// needed for that, so that a full window does not matter.
func (c *conn) nothing(publisher *conn) {
	c.t.serial++
	marker := fmt.Sprintf("%s-marker/%d", c.t.unique, c.t.serial) // no filter of the case's topics matches it
	c.sub(marker, 0)
	publisher.pub(marker, "marker", 0)
	first := c.first()
	if first.typ != publishType || first.topic != marker {
		c.t.fail("wanted nothing, got %v", first)
	}
	c.unsubscribe(marker)
	c.queue = slices.DeleteFunc(c.queue, func(p packet) bool { return p.topic == marker }) // by #, once more
}

// first is the next packet, whatever it is.
func (c *conn) first() packet {
	if len(c.queue) == 0 {
		return c.must("a marker message")
	}
	p := c.queue[0]
	c.queue = c.queue[1:]
	return p
}

// payloads waits for n messages at the QoS, acknowledges each and returns what they say.
func (c *conn) payloads(n int, qos byte) (got []string) {
	for range n {
		p := c.message()
		if p.qos != qos {
			c.t.fail("after %q: %v, wanted QoS %d", got, p, qos)
		}
		c.accept(p)
		got = append(got, p.payload)
	}
	return got
}

// same wants two lists to be equal.
func same(t *T, what string, got, want []string) {
	if !slices.Equal(got, want) {
		t.fail("%s: got %q, wanted %q", what, got, want)
	}
}

// numbered is n payloads, each of its own.
func numbered(prefix string, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("%s %d", prefix, i))
	}
	return list
}
