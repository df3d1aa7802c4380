package frame

import (
	"github.com/mochi-mqtt/server/v2/packets"
)

// Check looks at a packet of a connected client, MQTT 3.1.1 (version 4) or 5, as Reader returned it: nil when it is
// well-formed and of a kind that a client may send after CONNECT, else the packets.Code to end the connection with.
func Check(version byte, packet []byte) error {
	kind, flags, c := open(packet)
	switch kind {
	case packets.Publish:
		return publish(version, flags, c)
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		return acknowledgement(version, kind, flags, c)
	case packets.Pubrel:
		return acknowledgement(version, kind, flags^2, c)
	case packets.Subscribe:
		return subscribe(version, flags^2, c)
	case packets.Unsubscribe:
		return unsubscribe(version, flags^2, c)
	case packets.Pingreq:
		return empty(flags, c)
	case packets.Disconnect:
		return disconnect(version, flags, c)
	case packets.Connect: // MQTT 5, 3.1.0-2
		return packets.ErrProtocolViolationSecondConnect
	case packets.Auth: // only with an authentication method, and none is known (MQTT 5, 4.12)
		if version < 5 {
			return packets.ErrMalformedPacket
		}
		return packets.ErrProtocolViolation
	case packets.Reserved:
		return packets.ErrMalformedPacket
	}
	return packets.ErrProtocolViolation // what only servers send
}

// open takes a packet apart.
func open(packet []byte) (kind, flags byte, c *cursor) {
	rest := packet[1:]
	for rest[0]&0x80 != 0 {
		rest = rest[1:]
	}
	return packet[0] >> 4, packet[0] & 0x0f, &cursor{rest: rest[1:]}
}

func empty(flags byte, c *cursor) error {
	if flags != 0 {
		return packets.ErrMalformedFlags
	}
	return c.end()
}

func publish(version, flags byte, c *cursor) error {
	qos := flags >> 1 & 3
	switch {
	case qos == 3: // 3.3.1-4
		return packets.ErrMalformedQos
	case qos == 0 && flags&8 != 0: // 3.3.1-2
		return packets.ErrProtocolViolationDupNoQos
	}
	topic := c.text()
	if c.err == nil && wildcards(topic) { // 3.3.2-2
		return packets.ErrTopicNameInvalid
	}
	if qos > 0 {
		c.packetID()
	}
	if version < 5 {
		if c.err == nil && len(topic) == 0 { // 3.1.1, 4.7.3-1
			return packets.ErrProtocolViolationNoTopic
		}
		return c.err
	}
	seen := c.properties(inPublish)
	switch {
	case c.err != nil:
		return c.err
	case len(topic) == 0 && !seen.has(packets.PropTopicAlias):
		return packets.ErrProtocolViolationNoTopic
	}
	return nil
}

func acknowledgement(version, kind, flags byte, c *cursor) error {
	if flags != 0 { // 2.1.3-1, 3.6.1-1
		return packets.ErrMalformedFlags
	}
	c.packetID()
	if version < 5 || c.err != nil || len(c.rest) == 0 {
		return c.end()
	}
	reasons := publishReasons
	if kind == packets.Pubrel || kind == packets.Pubcomp {
		reasons = releaseReasons
	}
	return c.reasoned(reasons, inAcknowledgement)
}

func disconnect(version, flags byte, c *cursor) error {
	if flags != 0 { // 3.14.1-1
		return packets.ErrMalformedFlags
	}
	if version < 5 || len(c.rest) == 0 {
		return c.end()
	}
	return c.reasoned(disconnectReasons, inDisconnect)
}

func subscribe(version, flags byte, c *cursor) error {
	if flags != 0 { // 3.8.1-1
		return packets.ErrMalformedFlags
	}
	c.packetID()
	if version >= 5 {
		c.properties(inSubscribe)
	}
	if c.err == nil && len(c.rest) == 0 { // 3.8.3-2
		return packets.ErrProtocolViolationNoFilters
	}
	for c.err == nil && len(c.rest) > 0 {
		c.text()
		c.options(version)
	}
	return c.err
}

// options checks a subscription's (3.8.3-5, 3.1.1: 3.8.3-4).
func (c *cursor) options(version byte) {
	o := c.u8()
	switch {
	case c.err != nil:
	case version < 5 && o > 2, o&0xc0 != 0:
		c.err = packets.ErrMalformedQos
	case o&3 == 3, o>>4&3 == 3:
		c.err = packets.ErrProtocolViolationQosOutOfRange
	}
}

func unsubscribe(version, flags byte, c *cursor) error {
	if flags != 0 { // 3.10.1-1
		return packets.ErrMalformedFlags
	}
	c.packetID()
	if version >= 5 {
		c.properties(inUnsubscribe)
	}
	if c.err == nil && len(c.rest) == 0 { // 3.10.3-2
		return packets.ErrProtocolViolationNoFilters
	}
	for c.err == nil && len(c.rest) > 0 {
		c.text()
	}
	return c.err
}

// The reasons a client may give.
var (
	publishReasons = set(packets.CodeSuccess, packets.CodeNoMatchingSubscribers, packets.ErrUnspecifiedError,
		packets.ErrImplementationSpecificError, packets.ErrNotAuthorized, packets.ErrTopicNameInvalid,
		packets.ErrPacketIdentifierInUse, packets.ErrQuotaExceeded, packets.ErrPayloadFormatInvalid) // 3.4.2.1, 3.5.2.1
	releaseReasons    = set(packets.CodeSuccess, packets.ErrPacketIdentifierNotFound) // 3.6.2.1, 3.7.2.1
	disconnectReasons = set(packets.CodeDisconnect, packets.CodeDisconnectWillMessage, packets.ErrUnspecifiedError,
		packets.ErrMalformedPacket, packets.ErrProtocolViolation, packets.ErrImplementationSpecificError,
		packets.ErrTopicNameInvalid, packets.ErrReceiveMaximum, packets.ErrTopicAliasInvalid, packets.ErrPacketTooLarge,
		packets.ErrMessageRateTooHigh, packets.ErrQuotaExceeded, packets.ErrAdministrativeAction,
		packets.ErrPayloadFormatInvalid) // 3.14.2.1
)

func set(codes ...packets.Code) (s [256]bool) {
	for _, code := range codes {
		s[code.Code] = true
	}
	return s
}
