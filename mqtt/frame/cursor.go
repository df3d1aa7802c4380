package frame

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

// cursor reads what is left of a packet. After the first error it reads nothing more.
type cursor struct {
	rest []byte
	err  error // a packets.Code
}

// take reads n bytes; nil when they are not there.
func (c *cursor) take(n int) []byte {
	if c.err == nil && n > len(c.rest) {
		c.err = packets.ErrMalformedPacket
	}
	if c.err != nil {
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) u8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// length reads a Variable Byte Integer (1.5.5).
func (c *cursor) length() int {
	n := 0
	for i := range 4 {
		b := c.u8()
		n |= int(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			if c.err == nil && b == 0 && i > 0 {
				c.err = packets.ErrMalformedVariableByteInteger
			}
			return n
		}
	}
	c.err = packets.ErrMalformedVariableByteInteger
	return 0
}

// binary reads Binary Data (1.5.6).
func (c *cursor) binary() []byte { return c.take(int(c.u16())) }

// text reads a UTF-8 Encoded String (1.5.4).
func (c *cursor) text() []byte {
	b := c.binary()
	if c.err == nil && (!utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0) {
		c.err = packets.ErrMalformedInvalidUTF8
	}
	return b
}

// packetID reads a Packet Identifier, which is never 0 (2.2.1-3).
func (c *cursor) packetID() {
	if id := c.u16(); c.err == nil && id == 0 {
		c.err = packets.ErrProtocolViolationNoPacketID
	}
}

// end says whether all has been read.
func (c *cursor) end() error {
	if c.err == nil && len(c.rest) > 0 {
		c.err = packets.ErrMalformedPacket
	}
	return c.err
}

// reasoned reads a reason code and, if there is more, properties, to the end of the packet.
func (c *cursor) reasoned(reasons [256]bool, in context) error {
	if reason := c.u8(); c.err == nil && !reasons[reason] {
		c.err = packets.ErrProtocolViolationInvalidReason
	}
	if c.err == nil && len(c.rest) > 0 {
		c.properties(in)
	}
	return c.end()
}

func wildcards(topic []byte) bool { return bytes.ContainsAny(topic, "+#") }
