package wiretest

import (
	"encoding/binary"
)

// appendVar encodes a variable byte integer in as few bytes as can be (2.2.3, 1.5.5).
func appendVar(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// appendString encodes a string or binary data, which look the same (1.5.3, 1.5.4, 1.5.6).
func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// frame puts the fixed header before a body.
func frame(typ, flags byte, body ...byte) []byte {
	return append(appendVar([]byte{typ<<4 | flags}, len(body)), body...)
}

// will is the will in CONNECT.
type will struct {
	topic, payload string
	qos            byte
	retain         bool
	props          []prop
}

// hello is CONNECT.
type hello struct {
	version    Version
	name       string // of the protocol
	level      byte
	clean      bool
	keepAlive  uint16
	props      []prop
	id         string
	will       *will
	user, pass *string
	base       string // that the client ids of the case begin with
}

// flags are the connect flags that say what is there.
func (h hello) flags() (f byte) {
	if h.clean {
		f |= 0x02
	}
	if w := h.will; w != nil {
		f |= 0x04 | w.qos<<3
		if w.retain {
			f |= 0x20
		}
	}
	if h.pass != nil {
		f |= 0x40
	}
	if h.user != nil {
		f |= 0x80
	}
	return f
}

// body is CONNECT without its fixed header, with these connect flags.
func (h hello) body(flags byte) []byte {
	b := append(appendString(nil, h.name), h.level, flags)
	b = binary.BigEndian.AppendUint16(b, h.keepAlive)
	if h.version == V5 {
		b = appendProps(b, h.props)
	}
	b = appendString(b, h.id)
	if w := h.will; w != nil {
		if h.version == V5 {
			b = appendProps(b, w.props)
		}
		b = appendString(appendString(b, w.topic), w.payload)
	}
	if h.user != nil {
		b = appendString(b, *h.user)
	}
	if h.pass != nil {
		b = appendString(b, *h.pass)
	}
	return b
}

func (h hello) encode() []byte { return frame(connectType, 0, h.body(h.flags())...) }

// message is PUBLISH.
type message struct {
	topic, payload string
	qos            byte
	retain, dup    bool
	id             uint16
	props          []prop
}

func (m message) flags() (f byte) {
	f = m.qos << 1
	if m.retain {
		f |= 1
	}
	if m.dup {
		f |= 8
	}
	return f
}

func (m message) encode(v Version) []byte {
	b := appendString(nil, m.topic)
	if m.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, m.id)
	}
	if v == V5 {
		b = appendProps(b, m.props)
	}
	return frame(publishType, m.flags(), append(b, m.payload...)...)
}

// ackOf encodes PUBACK, PUBREC, PUBREL and PUBCOMP in their short form.
func ackOf(typ byte, id uint16) []byte {
	flags := byte(0)
	if typ == pubrelType {
		flags = 2
	}
	return frame(typ, flags, byte(id>>8), byte(id))
}

// ackCode encodes an acknowledgement of MQTT 5 with a reason code and properties.
func ackCode(typ byte, id uint16, code byte, props ...prop) []byte {
	flags := byte(0)
	if typ == pubrelType {
		flags = 2
	}
	return frame(typ, flags, appendProps([]byte{byte(id >> 8), byte(id), code}, props)...)
}

// The subscription options of MQTT 5, beside the QoS (3.8.3.1).
const (
	noLocal           byte = 0x04
	retainAsPublished byte = 0x08
	retainIfNew       byte = 0x10
	retainNever       byte = 0x20
)

// filter is one subscription in SUBSCRIBE.
type filter struct {
	topic   string
	options byte // QoS, and in MQTT 5 the options
}

func subscribePacket(v Version, id uint16, filters []filter, props ...prop) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	if v == V5 {
		b = appendProps(b, props)
	}
	for _, f := range filters {
		b = append(appendString(b, f.topic), f.options)
	}
	return frame(subscribeType, 2, b...)
}

func unsubscribePacket(v Version, id uint16, filters []string, props ...prop) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	if v == V5 {
		b = appendProps(b, props)
	}
	for _, f := range filters {
		b = appendString(b, f)
	}
	return frame(unsubscribeType, 2, b...)
}

func disconnectPacket(v Version, code byte, props ...prop) []byte {
	if v < V5 || code == 0 && len(props) == 0 {
		return frame(disconnectType, 0)
	}
	return frame(disconnectType, 0, appendProps([]byte{code}, props)...)
}

var pingreq = frame(pingreqType, 0)
