// Package packet writes the packets of MQTT 3.1.1 that clients of test tools send, byte by byte: tools that drive thousands of
// connections prepare them once, or append them to what they are about to write, and pay for no client library.
package packet

import "encoding/binary"

// The types, as the upper half of the first byte (2.2.1).
const (
	Connect   = 1 << 4
	Connack   = 2 << 4
	Publish   = 3 << 4
	Puback    = 4 << 4
	Subscribe = 8 << 4
	Suback    = 9 << 4
)

const (
	protocolLevel     = 4
	cleanUserPassword = 0xC2 // CONNECT: clean session, user name and password
	qos1              = 1 << 1
	reserved          = 1 << 1 // SUBSCRIBE (3.8.1)
)

// Account is who signs in.
type Account struct{ Client, User, Password string }

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// head puts the fixed header of a packet of n more bytes.
func head(b []byte, first byte, n int) []byte {
	b = append(b, first)
	for ; n > 0x7f; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// AppendConnect is a clean session that may be silent for keepAlive seconds; 0: for ever.
func AppendConnect(b []byte, who Account, keepAlive uint16) []byte {
	const fixed = 10 // name, level, flags, keep alive
	b = head(b, Connect, fixed+6+len(who.Client)+len(who.User)+len(who.Password))
	b = appendString(b, "MQTT")
	b = append(b, protocolLevel, cleanUserPassword)
	b = binary.BigEndian.AppendUint16(b, keepAlive)
	b = appendString(b, who.Client)
	b = appendString(b, who.User)
	return appendString(b, who.Password)
}

// AppendSubscribe asks for one filter at QoS 1.
func AppendSubscribe(b []byte, id uint16, filter string) []byte {
	b = head(b, Subscribe|reserved, 2+2+len(filter)+1)
	b = binary.BigEndian.AppendUint16(b, id)
	return append(appendString(b, filter), 1)
}

// AppendPublish is at QoS 1, or at 0 when id is 0.
func AppendPublish(b []byte, id uint16, topic string, payload []byte) []byte {
	first, n := byte(Publish), 2+len(topic)+len(payload)
	if id != 0 {
		first, n = first|qos1, n+2
	}
	b = appendString(head(b, first, n), topic)
	if id != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

// AppendPuback acknowledges.
func AppendPuback(b []byte, id uint16) []byte {
	return append(b, Puback, 2, byte(id>>8), byte(id))
}

// SetDup marks a PUBLISH as sent before (3.3.1.1).
func SetDup(publish []byte) { publish[0] |= 1 << 3 }
