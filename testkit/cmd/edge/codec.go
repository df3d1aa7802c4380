//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"meterline/testkit/packet"
)

// keepAlive is what clients ask for: longer than any case takes, so that none has to ping.
const keepAlive = 600

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
	if p.kind == packet.Publish {
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
	case p.kind == packet.Connack && n == 2:
		p.code = body[1]
	case p.kind == packet.Suback && n == 3:
		p.id, p.code = binary.BigEndian.Uint16(body), body[2]
	case p.kind == packet.Puback && n == 2:
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
