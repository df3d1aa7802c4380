package wiretest

import (
	"fmt"
)

// aliases are how many topic aliases the server takes on the connection.
func (c *conn) aliasesMost() uint32 {
	p, _ := find(c.ack.props, topicAliasMaximum)
	return p.n
}

// needAliases skips the case when the server takes none.
func (c *conn) needAliases() uint32 {
	most := c.aliasesMost()
	if most == 0 {
		c.t.skip("the server takes no topic aliases")
	}
	return most
}

func aliased(topic, payload string, qos byte, id uint16, alias uint32) message {
	return message{topic: topic, payload: payload, qos: qos, id: id, props: []prop{num(topicAlias, alias)}}
}

var aliasCases = []entry{
	{name: "alias/0", v5: "3.3.2-8", bad: true, run: func(t *T) {
		for qos := range byte(3) {
			c := t.another()
			c.write(aliased(t.topic("a"), "x", qos, 1, 0).encode(t.v))
			c.dies(0x94, 0x82, 0x81)
		}
	}},
	{name: "alias/more than the server takes", v5: "3.3.2-9 3.2.2-17 3.2.2-18", bad: true, run: func(t *T) {
		c := t.client()
		most := c.aliasesMost()
		c.bye()
		for _, alias := range []uint32{most + 1, 65535} {
			if alias > most && alias < 65536 {
				c = t.client()
				c.write(aliased(t.topic("a"), "x", 1, 1, alias).encode(t.v))
				c.dies(0x94)
			}
		}
	}},
	{name: "alias/for one that was never set", v5: "3.3.2.3.4", bad: true, run: func(t *T) {
		c := t.client()
		c.write(aliased("", "x", 1, 1, 1).encode(t.v))
		c.dies(0x82, 0x94)
	}},
	{name: "alias/set and used", v5: "3.3.2-12 3.3.2.3.4", run: func(t *T) {
		c, reader := t.another(), t.another()
		most := c.needAliases()
		reader.sub(t.topic("+"), 2)
		for _, alias := range []uint32{1, most} {
			for qos := range byte(3) {
				topic := t.topic(fmt.Sprint(alias))
				c.publish(aliased(topic, "set", qos, 0, alias))
				c.publish(aliased("", "used", qos, 0, alias))
				reader.receive(topic, "set", qos)
				reader.receive(topic, "used", qos)
			}
		}
		reader.nothing(c)
	}},
	{name: "alias/set to another topic", v5: "3.3.2.3.4", run: func(t *T) {
		c, reader := t.another(), t.another()
		c.needAliases()
		reader.sub(t.topic("+"), 1)
		for _, name := range []string{"a", "b", "a"} {
			c.publish(aliased(t.topic(name), "set", 1, 0, 1))
			c.publish(aliased("", "used", 1, 0, 1))
			reader.receive(t.topic(name), "set", 1)
			reader.receive(t.topic(name), "used", 1)
		}
	}},
	{name: "alias/two topics", v5: "3.3.2-12", run: func(t *T) {
		c, reader := t.another(), t.another()
		if c.needAliases() < 2 {
			t.skip("the server takes one topic alias")
		}
		reader.sub(t.topic("+"), 1)
		c.publish(aliased(t.topic("a"), "a", 1, 0, 1))
		c.publish(aliased(t.topic("b"), "b", 1, 0, 2))
		c.publish(aliased("", "a again", 1, 0, 1))
		c.publish(aliased("", "b again", 1, 0, 2))
		reader.receive(t.topic("a"), "a", 1)
		reader.receive(t.topic("b"), "b", 1)
		reader.receive(t.topic("a"), "a again", 1)
		reader.receive(t.topic("b"), "b again", 1)
	}},
	{name: "alias/does not outlive its connection", v5: "3.3.2-7", bad: true, run: func(t *T) {
		c := t.client(persist(60))
		c.needAliases()
		c.publish(aliased(t.topic("a"), "set", 1, 0, 1))
		c.bye()
		c = t.client(persist(60))
		c.write(aliased("", "used", 1, 5, 1).encode(t.v))
		c.dies(0x82, 0x94)
	}},
	{name: "alias/is each connection's own", v5: "3.3.2.3.4", bad: true, run: func(t *T) {
		c, other := t.another(), t.another()
		c.needAliases()
		c.publish(aliased(t.topic("a"), "set", 1, 0, 1))
		other.write(aliased("", "used", 1, 5, 1).encode(t.v))
		other.dies(0x82, 0x94)
	}},
	{name: "alias/is not passed on", v5: "3.3.2-11 3.1.2-27", run: func(t *T) {
		c, reader, late := t.another(), t.another(), t.another()
		c.needAliases()
		reader.sub(t.topic("a"), 1) // that it has none is checked for every message
		for range 2 {
			m := aliased(t.topic("a"), "kept", 1, 0, 1)
			m.retain = true
			c.publish(m)
			reader.receive(t.topic("a"), "kept", 1)
		}
		late.sub(t.topic("a"), 1)
		late.receive(t.topic("a"), "kept", 1)
	}},
	{name: "alias/of the server's within what the client takes", v5: "3.3.2-11 3.1.2-26", run: func(t *T) {
		publisher := t.another()
		for _, most := range []uint32{0, 1, 3, 65535} {
			c := t.another(with(num(topicAliasMaximum, most)))
			c.sub(t.topic("#"), 1)
			for i := range 20 {
				topic := t.topic(fmt.Sprint(i % 5))
				publisher.pub(topic, fmt.Sprint(i), 1)
				c.receive(topic, fmt.Sprint(i), 1)
			}
		}
	}},
	{name: "alias/of the server's after a reconnect", v5: "3.3.2-7", run: func(t *T) {
		publisher := t.another()
		c := t.client(persist(60), with(num(topicAliasMaximum, 10)))
		c.sub(t.topic("a"), 1)
		publisher.pub(t.topic("a"), "one", 1)
		c.receive(t.topic("a"), "one", 1)
		publisher.pub(t.topic("a"), "two", 1)
		c.expect(t.topic("a"), "two", 1)
		c.bye()
		publisher.pub(t.topic("a"), "three", 1)
		c = t.client(persist(60), with(num(topicAliasMaximum, 10))).present(true)
		c.receive(t.topic("a"), "two", 1)
		c.receive(t.topic("a"), "three", 1)
	}},
}
