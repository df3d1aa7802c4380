package wiretest

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// The control packet types (2.2.1, 2.1.2).
const (
	willOf byte = iota // no packet: the will's properties in CONNECT
	connectType
	connackType
	publishType
	pubackType
	pubrecType
	pubrelType
	pubcompType
	subscribeType
	subackType
	unsubscribeType
	unsubackType
	pingreqType
	pingrespType
	disconnectType
	authType
)

var typeNames = [16]string{
	"will", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE",
	"UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// The properties of MQTT 5 (2.2.2.2).
const (
	payloadFormat          byte = 0x01
	messageExpiry          byte = 0x02
	contentType            byte = 0x03
	responseTopic          byte = 0x08
	correlationData        byte = 0x09
	subscriptionIdentifier byte = 0x0B
	sessionExpiry          byte = 0x11
	assignedClientID       byte = 0x12
	serverKeepAlive        byte = 0x13
	authMethod             byte = 0x15
	authData               byte = 0x16
	requestProblemInfo     byte = 0x17
	willDelay              byte = 0x18
	requestResponseInfo    byte = 0x19
	responseInformation    byte = 0x1A
	serverReference        byte = 0x1C
	reasonString           byte = 0x1F
	receiveMaximum         byte = 0x21
	topicAliasMaximum      byte = 0x22
	topicAlias             byte = 0x23
	maximumQoS             byte = 0x24
	retainAvailable        byte = 0x25
	userProperty           byte = 0x26
	maximumPacketSize      byte = 0x27
	wildcardAvailable      byte = 0x28
	identifiersAvailable   byte = 0x29
	sharedAvailable        byte = 0x2A
)

// kind is how the value of a property is encoded.
type kind byte

const (
	oneByte kind = iota + 1
	twoBytes
	fourBytes
	varInt
	utf8String
	binaryData
	stringPair
)

// rule is what the specification says of a property.
type rule struct {
	name string
	kind kind
	in   []byte // packet types that may have it
	bit  bool   // 0 or 1 is all it may be
	some bool   // 0 is not allowed
}

var acks = []byte{pubackType, pubrecType, pubrelType, pubcompType, subackType, unsubackType}

var rules = map[byte]rule{
	payloadFormat:          {name: "Payload Format Indicator", kind: oneByte, bit: true, in: []byte{publishType, willOf}},
	messageExpiry:          {name: "Message Expiry Interval", kind: fourBytes, in: []byte{publishType, willOf}},
	contentType:            {name: "Content Type", kind: utf8String, in: []byte{publishType, willOf}},
	responseTopic:          {name: "Response Topic", kind: utf8String, in: []byte{publishType, willOf}},
	correlationData:        {name: "Correlation Data", kind: binaryData, in: []byte{publishType, willOf}},
	subscriptionIdentifier: {name: "Subscription Identifier", kind: varInt, some: true, in: []byte{publishType, subscribeType}},
	sessionExpiry:          {name: "Session Expiry Interval", kind: fourBytes, in: []byte{connectType, connackType, disconnectType}},
	assignedClientID:       {name: "Assigned Client Identifier", kind: utf8String, in: []byte{connackType}},
	serverKeepAlive:        {name: "Server Keep Alive", kind: twoBytes, in: []byte{connackType}},
	authMethod:             {name: "Authentication Method", kind: utf8String, in: []byte{connectType, connackType, authType}},
	authData:               {name: "Authentication Data", kind: binaryData, in: []byte{connectType, connackType, authType}},
	requestProblemInfo:     {name: "Request Problem Information", kind: oneByte, bit: true, in: []byte{connectType}},
	willDelay:              {name: "Will Delay Interval", kind: fourBytes, in: []byte{willOf}},
	requestResponseInfo:    {name: "Request Response Information", kind: oneByte, bit: true, in: []byte{connectType}},
	responseInformation:    {name: "Response Information", kind: utf8String, in: []byte{connackType}},
	serverReference:        {name: "Server Reference", kind: utf8String, in: []byte{connackType, disconnectType}},
	reasonString: {name: "Reason String", kind: utf8String,
		in: append([]byte{connackType, disconnectType, authType}, acks...)},
	receiveMaximum:    {name: "Receive Maximum", kind: twoBytes, some: true, in: []byte{connectType, connackType}},
	topicAliasMaximum: {name: "Topic Alias Maximum", kind: twoBytes, in: []byte{connectType, connackType}},
	topicAlias:        {name: "Topic Alias", kind: twoBytes, some: true, in: []byte{publishType}},
	maximumQoS:        {name: "Maximum QoS", kind: oneByte, bit: true, in: []byte{connackType}},
	retainAvailable:   {name: "Retain Available", kind: oneByte, bit: true, in: []byte{connackType}},
	userProperty: {name: "User Property", kind: stringPair, in: append([]byte{
		willOf, connectType, connackType, publishType, subscribeType, unsubscribeType, disconnectType, authType,
	}, acks...)},
	maximumPacketSize:    {name: "Maximum Packet Size", kind: fourBytes, some: true, in: []byte{connectType, connackType}},
	wildcardAvailable:    {name: "Wildcard Subscription Available", kind: oneByte, bit: true, in: []byte{connackType}},
	identifiersAvailable: {name: "Subscription Identifiers Available", kind: oneByte, bit: true, in: []byte{connackType}},
	sharedAvailable:      {name: "Shared Subscription Available", kind: oneByte, bit: true, in: []byte{connackType}},
}

// propertyIDs are the ids of rules in order.
func propertyIDs() (ids []byte) {
	for id := range rules {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// prop is one property: n of a number, s of a string or of binary data, s and value of a pair.
type prop struct {
	id       byte
	n        uint32
	s, value string
}

func num(id byte, n uint32) prop     { return prop{id: id, n: n} }
func str(id byte, s string) prop     { return prop{id: id, s: s} }
func user(name, value string) prop   { return prop{id: userProperty, s: name, value: value} }
func (p prop) String() string        { return fmt.Sprintf("%s=%d%q%q", rules[p.id].name, p.n, p.s, p.value) }
func (p prop) allowed(typ byte) bool { return slices.Contains(rules[p.id].in, typ) }

// sample is a property of the id with a good value.
func sample(id byte) prop {
	switch rules[id].kind {
	case utf8String, binaryData:
		return str(id, "sample")
	case stringPair:
		return user("name", "sample")
	}
	return num(id, 1)
}

// append encodes the property.
func (p prop) append(b []byte) []byte {
	b = append(b, p.id)
	switch rules[p.id].kind {
	case oneByte:
		return append(b, byte(p.n))
	case twoBytes:
		return binary.BigEndian.AppendUint16(b, uint16(p.n))
	case fourBytes:
		return binary.BigEndian.AppendUint32(b, p.n)
	case varInt:
		return appendVar(b, int(p.n))
	case stringPair:
		return appendString(appendString(b, p.s), p.value)
	}
	return appendString(b, p.s)
}

// appendProps encodes properties with their length.
func appendProps(b []byte, props []prop) []byte {
	var inner []byte
	for _, p := range props {
		inner = p.append(inner)
	}
	return append(appendVar(b, len(inner)), inner...)
}

// find returns the first property of the id.
func find(props []prop, id byte) (prop, bool) {
	for _, p := range props {
		if p.id == id {
			return p, true
		}
	}
	return prop{}, false
}

// all returns the properties of the id in their order.
func all(props []prop, id byte) (found []prop) {
	for _, p := range props {
		if p.id == id {
			found = append(found, p)
		}
	}
	return found
}
