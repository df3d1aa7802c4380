package broker

import (
	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/plain"
)

// connack accepts a client, and tells one of MQTT 5 what there is and what there is not (3.2.2.3). What is not said is
// available.
func (c *connect) connack(who identity, maxPacket int, o plain.Options) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: c.ProtocolVersion}
	if c.ProtocolVersion < 5 {
		return pk
	}
	p := &pk.Properties
	p.MaximumPacketSize = uint32(maxPacket)
	p.AssignedClientID = c.assigned
	if c.limited {
		p.ServerKeepAlive, p.ServerKeepAliveFlag = keepAliveMost, true
	}
	if most := c.lasts(); c.Properties.SessionExpiryInterval > most { // 3.2.2.3.2
		p.SessionExpiryInterval, p.SessionExpiryIntervalFlag = most, true
	}
	if who.role == roleEndpoint {
		limitEndpoint(p)
	} else {
		p.ReceiveMaximum, p.TopicAliasMaximum = o.ReceiveMaximum, o.TopicAliasMaximum
	}
	return pk
}

// welcome is the CONNACK of an admitted client.
func (c *connect) welcome(resumed bool) packets.Packet {
	c.answer.SessionPresent = resumed
	return c.answer
}

// limitEndpoint says what endpoints do without.
func limitEndpoint(p *packets.Properties) {
	p.MaximumQos, p.MaximumQosFlag = 1, true
	p.RetainAvailable, p.RetainAvailableFlag = 0, true
	p.WildcardSubAvailable, p.WildcardSubAvailableFlag = 0, true
	p.SharedSubAvailable, p.SharedSubAvailableFlag = 0, true
	p.SubIDAvailable, p.SubIDAvailableFlag = 0, true
	p.ReceiveMaximum = windowUnits
}
