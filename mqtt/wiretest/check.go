package wiretest

import (
	"maps"
	"math"
	"slices"
)

// check looks at a packet with what is known of the connection: rules that hold always, whatever a case is about.
func (c *conn) check(p *packet) error {
	if err := c.greeted(p); err != nil {
		return err
	}
	if c.v == V5 {
		if err := c.asked(p); err != nil {
			return err
		}
	}
	if p.typ != publishType {
		return nil
	}
	if err := c.alias(p); err != nil {
		return err
	}
	return c.identifier(p)
}

// greeted: CONNACK comes first and once (3.2.0-1, 3.2.0-2).
func (c *conn) greeted(p *packet) error {
	_, method := find(c.said.props, authMethod)
	switch {
	case p.typ == authType && !method:
		return violation("AUTH to a client without an authentication method")
	case p.typ == connackType && c.shook:
		return violation("a second CONNACK")
	case p.typ == connackType:
		c.shook = true
		return c.greeting(p, method)
	case !c.shook && p.typ != authType:
		return violationf("%v before CONNACK", *p)
	}
	return nil
}

func (c *conn) greeting(p *packet, method bool) error {
	_, echoed := find(p.props, authMethod)
	_, info := find(p.props, responseInformation)
	_, assigned := find(p.props, assignedClientID)
	wanted, _ := find(c.said.props, requestResponseInfo)
	switch {
	case echoed && !method:
		return violation("an authentication method that the client did not ask for")
	case info && wanted.n == 0:
		return violation("Response Information that the client did not ask for")
	case assigned && c.said.id != "":
		return violation("an assigned client identifier for a client that has one")
	case p.present && c.said.clean:
		return violation("Session Present after a clean start")
	}
	return nil
}

// asked: what the client said in CONNECT is kept to (3.1.2-24, 3.1.2-29).
func (c *conn) asked(p *packet) error {
	if most, ok := only(c.said.props, maximumPacketSize); ok && most.n > 0 && p.size > int(most.n) {
		return violationf("%v has %d bytes, the client takes %d", *p, p.size, most.n)
	}
	problems, ok := find(c.said.props, requestProblemInfo)
	if !ok || problems.n == 1 || p.typ == publishType || p.typ == connackType || p.typ == disconnectType {
		return nil
	}
	for _, id := range []byte{reasonString, userProperty} {
		if _, ok := find(p.props, id); ok {
			return violationf("%s in %v, which the client does not want", rules[id].name, *p)
		}
	}
	return nil
}

// alias: topic aliases are within the client's maximum and stand for something (3.1.2-26, 3.1.2-27). The topic is put in.
func (c *conn) alias(p *packet) error {
	a, ok := find(p.props, topicAlias)
	if !ok {
		return nil
	}
	if most, _ := find(c.said.props, topicAliasMaximum); a.n > most.n {
		return violationf("topic alias %d, the client takes %d", a.n, most.n)
	}
	if p.topic != "" {
		c.aliases[a.n] = p.topic
		return nil
	}
	if p.topic, ok = c.aliases[a.n]; !ok {
		return violationf("topic alias %d stands for nothing", a.n)
	}
	return nil
}

// identifier: a packet identifier is not used twice at a time (2.3.1-4, in MQTT 5 2.2.1-4), nothing is sent again on the
// same connection (MQTT 5, 4.4.0-1), and no more than Receive Maximum is on its way (3.3.4-9).
func (c *conn) identifier(p *packet) error {
	if p.qos == 0 {
		return nil
	}
	if _, used := c.unacked[p.id]; used {
		return violationf("%v uses an identifier that is still in use", *p)
	}
	c.unacked[p.id] = p.qos
	most := math.MaxUint16
	if m, ok := find(c.said.props, receiveMaximum); ok {
		most = int(m.n)
	}
	if len(c.unacked) > most {
		return violationf("%v is more than Receive Maximum %d: %v", *p, most, slices.Sorted(maps.Keys(c.unacked)))
	}
	return nil
}

// only is the property that is there once: one that is there twice says nothing.
func only(props []prop, id byte) (found prop, ok bool) {
	times := 0
	for _, p := range props {
		if p.id == id {
			found = p
			times++
		}
	}
	return found, times == 1
}
