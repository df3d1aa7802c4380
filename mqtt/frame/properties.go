package frame

import "github.com/mochi-mqtt/server/v2/packets"

// context is where properties stand.
type context uint8

const (
	inConnect context = 1 << iota
	inWill
	inPublish
	inSubscribe
	inUnsubscribe
	inAcknowledgement
	inDisconnect
)

// form is how a property's value is written, and what it may be.
type form uint8

const (
	none form = iota
	flag      // a byte, 0 or 1
	two
	twoNot0
	four
	fourNot0
	lengthNot0 // a Variable Byte Integer
	text
	topic // a text without wildcards
	data
	pair
)

// property says what a property is and in which of a client's packets it may stand (MQTT 5, 2.2.2.2).
type property struct {
	form
	in context
}

var properties = [256]property{
	packets.PropPayloadFormat:          {flag, inPublish | inWill},
	packets.PropMessageExpiryInterval:  {four, inPublish | inWill},
	packets.PropContentType:            {text, inPublish | inWill},
	packets.PropResponseTopic:          {topic, inPublish | inWill}, // 3.3.2-14
	packets.PropCorrelationData:        {data, inPublish | inWill},
	packets.PropSubscriptionIdentifier: {lengthNot0, inSubscribe}, // 3.3.4-6: not in what a client publishes
	packets.PropSessionExpiryInterval:  {four, inConnect | inDisconnect},
	packets.PropAuthenticationMethod:   {text, inConnect},
	packets.PropAuthenticationData:     {data, inConnect},
	packets.PropRequestProblemInfo:     {flag, inConnect},
	packets.PropWillDelayInterval:      {four, inWill},
	packets.PropRequestResponseInfo:    {flag, inConnect},
	packets.PropReasonString:           {text, inAcknowledgement | inDisconnect},
	packets.PropReceiveMaximum:         {twoNot0, inConnect},
	packets.PropTopicAliasMaximum:      {two, inConnect},
	packets.PropTopicAlias:             {two, inPublish}, // 0 has an answer of its own
	packets.PropUser: {pair, inConnect | inWill | inPublish | inSubscribe | inUnsubscribe | inAcknowledgement |
		inDisconnect},
	packets.PropMaximumPacketSize: {fourNot0, inConnect},
}

// known are the ids that exist at all; the others are malformed rather than misplaced (2.2.2.2).
var known = func() (k [256]bool) {
	for _, id := range []byte{
		packets.PropAssignedClientID, packets.PropServerKeepAlive, packets.PropResponseInfo, packets.PropServerReference,
		packets.PropMaximumQos, packets.PropRetainAvailable, packets.PropWildcardSubAvailable, packets.PropSubIDAvailable,
		packets.PropSharedSubAvailable,
	} {
		k[id] = true
	}
	for id, p := range properties {
		k[id] = k[id] || p.form != none
	}
	return k
}()

// seen are the properties of a packet.
type seen [256 / 64]uint64

func (s *seen) has(id byte) bool { return s[id/64]&(1<<(id%64)) != 0 }

// add is false when the property had been there.
func (s *seen) add(id byte) bool {
	had := s.has(id)
	s[id/64] |= 1 << (id % 64)
	return !had
}

// properties reads a block of properties (2.2.2).
func (c *cursor) properties(in context) (found seen) {
	block := &cursor{rest: c.take(c.length())}
	for c.err == nil && len(block.rest) > 0 {
		id := block.u8() // a Variable Byte Integer whose values are all below 128
		p := properties[id]
		switch {
		case !known[id]:
			c.err = packets.ErrMalformedBadProperty
		case p.in&in == 0:
			c.err = packets.ErrProtocolViolationUnsupportedProperty
		case !found.add(id) && p.form != pair:
			c.err = packets.ErrProtocolViolation // more than once
		default:
			block.value(p.form)
			c.err = block.err
		}
	}
	return found
}

// value reads one property's.
func (c *cursor) value(f form) {
	bad := false
	switch f {
	case flag:
		bad = c.u8() > 1
	case two:
		c.u16()
	case twoNot0:
		bad = c.u16() == 0
	case four:
		c.u32()
	case fourNot0:
		bad = c.u32() == 0
	case lengthNot0:
		bad = c.length() == 0
	case text:
		c.text()
	case topic:
		bad = wildcards(c.text())
	case data:
		c.binary()
	case pair:
		c.text()
		c.text()
	case none:
	}
	if c.err == nil && bad {
		c.err = packets.ErrProtocolViolation
	}
}
