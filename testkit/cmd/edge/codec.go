//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The packet types of MQTT 3.1.1 that are used here, as the upper half of the first byte (2.2.1).
const (
	connect   = 1 << 4
	connack   = 2 << 4
	publish   = 3 << 4
	puback    = 4 << 4
	subscribe = 8 << 4
	suback    = 9 << 4
)

// keepAlive is what clients ask for: longer than any case takes, so that none has to ping.
const keepAlive = 600

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// packet puts a fixed header before a body.
func packet(first byte, body []byte) []byte {
	out := append(make([]byte, 0, len(body)+5), first)
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			out = append(out, b)
			break
		}
		out = append(out, b|0x80)
	}
	return append(out, body...)
}

func connectPacket(id, user, password string) []byte {
	const cleanUserPassword = 0xC2
	b := appendString(nil, "MQTT")
	b = append(b, 4, cleanUserPassword)
	b = binary.BigEndian.AppendUint16(b, keepAlive)
	b = appendString(b, id)
	b = appendString(b, user)
	return packet(connect, appendString(b, password))
}

func subscribePacket(id uint16, filter string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	return packet(subscribe|2, append(appendString(b, filter), 1))
}

// publishPacket is at QoS 1, or at 0 when id is 0.
func publishPacket(id uint16, topic string, payload []byte) []byte {
	b := appendString(make([]byte, 0, len(topic)+len(payload)+4), topic)
	first := byte(publish)
	if id != 0 {
		first |= 1 << 1
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return packet(first, append(b, payload...))
}

func pubackPacket(id uint16) []byte { return []byte{puback, 2, byte(id >> 8), byte(id)} }

// received is what is looked at of a packet that came in.
type received struct {
	kind byte
	id   uint16 // of PUBLISH at QoS 1, PUBACK, SUBACK
	code byte   // of CONNACK, SUBACK
	head []byte // the first bytes of the payload of PUBLISH
	size int    // of the payload
}

// headSize is how much of a payload is looked at.
const headSize = 64

var errPacket = errors.New("a packet that cannot be")

// readPacket reads one packet. Of a payload it keeps the head and passes over the rest.
func readPacket(r *bufio.Reader) (p received, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return p, err
	}
	n, err := readLength(r)
	if err != nil {
		return p, err
	}
	p.kind = first & 0xF0
	if p.kind == publish {
		return p, p.readPublish(r, first>>1&3, n)
	}
	if n > headSize {
		return p, fmt.Errorf("%w: type %d with %d bytes", errPacket, first>>4, n)
	}
	body, err := r.Peek(n)
	if err != nil {
		return p, err
	}
	switch {
	case p.kind == connack && n == 2:
		p.code = body[1]
	case p.kind == suback && n == 3:
		p.id, p.code = binary.BigEndian.Uint16(body), body[2]
	case p.kind == puback && n == 2:
		p.id = binary.BigEndian.Uint16(body)
	default:
		return p, fmt.Errorf("%w: type %d with %d bytes", errPacket, first>>4, n)
	}
	_, err = r.Discard(n)
	return p, err
}

func readLength(r *bufio.Reader) (n int, err error) {
	for shift := 0; shift < 28; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if n |= int(b&0x7f) << shift; b < 0x80 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: its length has five bytes", errPacket)
}

func (p *received) readPublish(r *bufio.Reader, qos byte, n int) error {
	var two [2]byte
	if _, err := io.ReadFull(r, two[:]); err != nil {
		return err
	}
	topic := int(binary.BigEndian.Uint16(two[:]))
	if _, err := r.Discard(topic); err != nil {
		return err
	}
	p.size = n - 2 - topic
	if qos > 0 {
		if _, err := io.ReadFull(r, two[:]); err != nil {
			return err
		}
		p.id = binary.BigEndian.Uint16(two[:])
		p.size -= 2
	}
	if p.size < 0 {
		return fmt.Errorf("%w: PUBLISH of %d bytes", errPacket, n)
	}
	head, err := r.Peek(min(p.size, headSize))
	if err != nil {
		return err
	}
	p.head = bytes.Clone(head)
	_, err = r.Discard(p.size)
	return err
}
