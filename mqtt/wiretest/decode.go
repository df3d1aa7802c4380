package wiretest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// violation is something that a server may not send.
type violation string

func (v violation) Error() string { return "the server broke the protocol: " + string(v) }

func violationf(format string, args ...any) error { return violation(fmt.Sprintf(format, args...)) }

// packet is what a server sent.
type packet struct {
	typ, flags byte
	size       int // on the wire
	id         uint16
	code       byte
	present    bool // Session Present
	codes      []byte
	message
}

func (p packet) String() string {
	s := typeNames[p.typ]
	switch p.typ {
	case publishType:
		s += fmt.Sprintf(" %q %q QoS %d retain %t dup %t id %d", clip(p.topic), clip(p.payload), p.qos, p.retain, p.dup, p.id)
	case connackType, disconnectType, authType:
		s += fmt.Sprintf(" %#04x", p.code)
	case pubackType, pubrecType, pubrelType, pubcompType:
		s += fmt.Sprintf(" id %d %#04x", p.id, p.code)
	case subackType, unsubackType:
		s += fmt.Sprintf(" id %d %#x", p.id, p.codes)
	}
	return s
}

func clip(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%s... (%d bytes)", s[:60], len(s))
	}
	return s
}

// readPacket reads one packet strictly. An error is a violation, or that of the connection.
func readPacket(in *bufio.Reader, v Version) (packet, error) {
	first, err := in.ReadByte()
	if err != nil {
		return packet{}, err
	}
	p := packet{typ: first >> 4, flags: first & 15}
	length, bytes, err := readLength(in)
	if err != nil {
		return p, err
	}
	p.size = 1 + bytes + length
	body := make([]byte, length)
	if n, err := io.ReadFull(in, body); err != nil {
		return p, violationf("%s ends after %d of %d bytes: %v", typeNames[p.typ], n, length, err)
	}
	d := &decoder{b: body}
	p.decode(d, v)
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	if d.err != nil {
		return p, violationf("%s: %v; body % x", typeNames[p.typ], d.err, clip(string(body)))
	}
	return p, nil
}

func readLength(in *bufio.Reader) (n, bytes int, err error) {
	for shift := 0; shift < 28; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, 0, violationf("a packet ends in its length: %v", err)
		}
		n |= int(b&0x7f) << shift
		bytes++
		if b < 0x80 {
			if b == 0 && bytes > 1 {
				return 0, 0, violation("a length in more bytes than it needs")
			}
			return n, bytes, nil
		}
	}
	return 0, 0, violation("a length of more than four bytes")
}

func (p *packet) decode(d *decoder, v Version) {
	want := byte(0)
	if p.typ == pubrelType {
		want = 2
	}
	if p.typ != publishType && p.flags != want {
		d.fail("flags %#x", p.flags)
	}
	switch p.typ {
	case connackType:
		flags := d.byte()
		p.present = flags == 1
		if flags > 1 {
			d.fail("reserved flags %#x", flags)
		}
		p.code = d.byte()
		p.codeAllowed(d, v)
		if v == V5 {
			p.props = d.props(p.typ)
		}
		if p.code != 0 && p.present {
			d.fail("session present in a refusal")
		}
	case publishType:
		p.publish(d, v)
	case pubackType, pubrecType, pubrelType, pubcompType:
		p.id = d.id()
		p.reason(d, v)
	case subackType, unsubackType:
		p.id = d.id()
		if v == V5 {
			p.props = d.props(p.typ)
		}
		if v == V5 || p.typ == subackType {
			p.codes, d.b = d.b, nil
			p.codesAllowed(d, v)
		}
	case pingrespType:
	case disconnectType, authType:
		if v < V5 {
			d.fail("there is no such packet from a server in 3.1.1")
			return
		}
		p.reason(d, v)
		if _, ok := find(p.props, sessionExpiry); ok && p.typ == disconnectType {
			d.fail("a server may not send Session Expiry Interval")
		}
	default:
		d.fail("a server may not send it")
	}
}

func (p *packet) publish(d *decoder, v Version) {
	p.retain, p.qos, p.dup = p.flags&1 > 0, p.flags>>1&3, p.flags&8 > 0
	switch {
	case p.qos == 3:
		d.fail("QoS 3")
	case p.qos == 0 && p.dup:
		d.fail("DUP at QoS 0")
	}
	p.topic = d.string()
	if strings.ContainsAny(p.topic, "+#") {
		d.fail("a topic with wildcards: %q", p.topic)
	}
	if p.qos > 0 {
		p.id = d.id()
		p.message.id = p.id
	}
	if v == V5 {
		p.props = d.props(p.typ)
	}
	if _, aliased := find(p.props, topicAlias); p.topic == "" && !aliased {
		d.fail("no topic")
	}
	p.payload, d.b = string(d.b), nil
}

// reason reads the code and properties that MQTT 5 packets may leave out.
func (p *packet) reason(d *decoder, v Version) {
	if v < V5 || len(d.b) == 0 {
		return
	}
	p.code = d.byte()
	p.codeAllowed(d, v)
	if len(d.b) > 0 {
		p.props = d.props(p.typ)
	}
}

var codesAllowed = map[byte][]byte{
	connackType: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
		0x9B, 0x9C, 0x9D, 0x9F},
	pubackType:  {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	pubrecType:  {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	pubrelType:  {0x00, 0x92},
	pubcompType: {0x00, 0x92},
	disconnectType: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
		0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
	authType:     {0x00, 0x18, 0x19},
	subackType:   {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
	unsubackType: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
}

func (p *packet) codeAllowed(d *decoder, v Version) {
	if v < V5 && p.code > 5 || v == V5 && !slices.Contains(codesAllowed[p.typ], p.code) {
		d.fail("code %#x is not one of this packet's", p.code)
	}
}

func (p *packet) codesAllowed(d *decoder, v Version) {
	allowed := codesAllowed[p.typ]
	if v < V5 {
		allowed = []byte{0, 1, 2, 0x80}
	}
	for _, code := range p.codes {
		if !slices.Contains(allowed, code) {
			d.fail("code %#x is not one of this packet's", code)
		}
	}
	if len(p.codes) == 0 {
		d.fail("no codes")
	}
}

// decoder takes a packet's body apart. After its first error it answers zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.fail("%d bytes left, %d wanted", len(d.b), n)
		return make([]byte, n)
	}
	taken := d.b[:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) byte() byte     { return d.take(1)[0] }
func (d *decoder) uint16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) data() string   { return string(d.take(int(d.uint16()))) }

func (d *decoder) id() uint16 {
	id := d.uint16()
	if id == 0 {
		d.fail("packet identifier 0")
	}
	return id
}

func (d *decoder) string() string {
	s := d.data()
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		d.fail("a string that is not UTF-8, or has U+0000: %q", s)
	}
	return s
}

func (d *decoder) varInt() int {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b := d.byte()
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			if b == 0 && shift > 0 {
				d.fail("a variable byte integer in more bytes than it needs")
			}
			return n
		}
	}
	d.fail("a variable byte integer of more than four bytes")
	return 0
}

// props reads the properties of a packet of the type.
func (d *decoder) props(typ byte) (props []prop) {
	inner := &decoder{b: slices.Clone(d.take(d.varInt()))}
	for len(inner.b) > 0 {
		p := prop{id: inner.byte()}
		r, known := rules[p.id]
		if !known {
			inner.fail("unknown property %#x", p.id)
			break
		}
		inner.value(r, &p)
		_, again := find(props, p.id)
		switch {
		case !p.allowed(typ):
			inner.fail("%s does not belong there", r.name)
		case again && p.id != userProperty && (p.id != subscriptionIdentifier || typ != publishType):
			inner.fail("%s is there twice", r.name)
		case r.bit && p.n > 1, r.some && p.n == 0:
			inner.fail("%s %d", r.name, p.n)
		}
		props = append(props, p)
	}
	if inner.err != nil {
		d.fail("properties: %v", inner.err)
	}
	return props
}

func (d *decoder) value(r rule, p *prop) {
	switch r.kind {
	case oneByte:
		p.n = uint32(d.byte())
	case twoBytes:
		p.n = uint32(d.uint16())
	case fourBytes:
		p.n = d.uint32()
	case varInt:
		p.n = uint32(d.varInt())
	case utf8String:
		p.s = d.string()
	case binaryData:
		p.s = d.data()
	case stringPair:
		p.s = d.string()
		p.value = d.string()
	}
}
