package frame

import "github.com/mochi-mqtt/server/v2/packets"

// Publish is a PUBLISH as it lies in its packet: nothing is copied.
type Publish struct {
	Topic   []byte
	ID      uint16 // 0 at QoS 0
	QoS     byte
	Retain  bool
	Alias   bool // it has a topic alias (MQTT 5)
	Payload []byte
}

// OpenPublish takes a PUBLISH apart that Check found well-formed.
func OpenPublish(version byte, packet []byte) Publish {
	_, flags, c := open(packet)
	p := Publish{QoS: flags >> 1 & 3, Retain: flags&1 != 0, Topic: c.binary()}
	if p.QoS > 0 {
		p.ID = c.u16()
	}
	if version >= 5 {
		found := c.properties(inPublish)
		p.Alias = found.has(packets.PropTopicAlias)
	}
	p.Payload = c.rest
	return p
}

// OpenPuback takes a PUBACK apart that Check found well-formed. Without a reason it means success (MQTT 5, 3.4.2.1).
func OpenPuback(packet []byte) (id uint16, reason byte) {
	_, _, c := open(packet)
	id = c.u16()
	if len(c.rest) > 0 {
		reason = c.u8()
	}
	return id, reason
}

// Body is what follows the fixed header.
func Body(packet []byte) []byte {
	_, _, c := open(packet)
	return c.rest
}
