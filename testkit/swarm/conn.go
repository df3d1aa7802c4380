//go:build linux

package swarm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"meterline/testkit/packet"
)

// conn is a socket and what of its bytes is not done with. Idle it holds no buffer.
type conn struct {
	fd       int
	in       []byte // the beginning of a packet
	out      []byte // what the kernel did not take yet, and what was appended since
	awaiting bool   // to be told when the kernel takes more
}

// errPacket is the error of bytes that cannot be a packet for a client.
var errPacket = errors.New("a packet that cannot be")

// incoming is a packet that came. Its payload is good until the next.
type incoming struct {
	kind    byte
	id      uint16 // of PUBLISH at QoS 1, PUBACK and SUBACK
	code    byte   // of CONNACK and SUBACK
	payload []byte // of PUBLISH
}

// read takes what has come, through buffer, which connections share, and gives each whole packet to handle.
func (c *conn) read(buffer []byte, handle func(incoming) error) error {
	n, err := unix.Read(c.fd, buffer)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return io.EOF
	}
	data := buffer[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, data...)
		data = c.in
	}
	for len(data) > 0 {
		p, size, err := parse(data)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		if err := handle(p); err != nil {
			return err
		}
		data = data[size:]
	}
	c.in = append(c.in[:0], data...)
	if len(c.in) == 0 {
		c.in = nil
	}
	return nil
}

// parse takes the first packet of data apart; its size is 0 when it is not whole.
func parse(data []byte) (p incoming, size int, err error) {
	first, body, size, err := split(data)
	if size == 0 || err != nil {
		return p, 0, err
	}
	p.kind = first & 0xF0
	switch n := len(body); {
	case p.kind == packet.Publish:
		_, err = p.publish(first, body)
	case p.kind == packet.Connack && n == 2:
		p.code = body[1]
	case p.kind == packet.Suback && n == 3:
		p.id, p.code = binary.BigEndian.Uint16(body), body[2]
	case p.kind == packet.Puback && n == 2:
		p.id = binary.BigEndian.Uint16(body)
	default:
		err = fmt.Errorf("%w: type %d with %d bytes", errPacket, p.kind>>4, n)
	}
	return p, size, err
}

// split finds the first packet of data: its first byte and what follows its length. Its size is 0 when it is not whole.
func split(data []byte) (first byte, body []byte, size int, err error) {
	n, at := 0, 1
	for shift := 0; ; shift += 7 {
		if at >= len(data) {
			return 0, nil, 0, nil
		}
		if shift == 28 {
			return 0, nil, 0, fmt.Errorf("%w: its length has five bytes", errPacket)
		}
		b := data[at]
		at++
		if n |= int(b&0x7f) << shift; b < 0x80 {
			break
		}
	}
	if len(data) < at+n {
		return 0, nil, 0, nil
	}
	return data[0], data[at : at+n], at + n, nil
}

// publish takes a PUBLISH apart.
func (p *incoming) publish(first byte, body []byte) (topic []byte, err error) {
	at := 2
	if len(body) >= at {
		at += int(binary.BigEndian.Uint16(body))
	}
	end := at
	if first&(3<<1) != 0 { // QoS
		at += 2
	}
	if len(body) < at {
		return nil, fmt.Errorf("%w: PUBLISH of %d bytes", errPacket, len(body))
	}
	if at > end {
		p.id = binary.BigEndian.Uint16(body[end:])
	}
	p.payload = body[at:]
	return body[2:end], nil
}

// flush writes what is to be written, as far as the kernel takes it.
func (c *conn) flush() error {
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("write: %w", err)
		}
		if n < len(c.out) {
			c.out = append(c.out[:0], c.out[n:]...)
			continue
		}
		c.out = c.out[:0]
	}
	return nil
}
