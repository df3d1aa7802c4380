package frame

import (
	"io"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	headerMost = 5        // bytes: type and flags, and up to four of length (MQTT 5, 1.5.5)
	smallFrame = 4 << 10  // bytes; what is larger does not go back to the pool
	growFrame  = 16 << 10 // bytes allocated ahead of what has arrived

)

var frames = sync.Pool{New: func() any { b := make([]byte, 0, smallFrame); return &b }}

// Reader reads packets. It holds a buffer only from the first byte of a packet to the next call.
type Reader struct {
	conn   io.Reader
	most   int  // bytes of a packet
	opened bool // CONNECT has been read
	held   *[]byte
}

// NewReader reads packets of up to most bytes, fixed header included. The first has to be a CONNECT.
func NewReader(conn io.Reader, most int) *Reader { return &Reader{conn: conn, most: most} }

// SetMost says how large a packet may be from now on.
func (r *Reader) SetMost(most int) { r.most = most }

// Next returns the next packet, as long as the connection gives it; it is valid until the next call. A packet that is
// too large, or whose length is malformed, is a packets.Code, and a first one that is no CONNECT is ErrNotMQTT; nothing is
// allocated for them. Any other error is the connection's; io.EOF only between packets.
func (r *Reader) Next() ([]byte, error) {
	r.Release()
	var header [headerMost]byte
	if _, err := io.ReadFull(r.conn, header[:1]); err != nil {
		return nil, err
	}
	if !r.opened && header[0]>>4 != packets.Connect { // 3.1.0-1
		return nil, notMQTT(header[0])
	}
	r.opened = true
	n, size := 1, 0
	for {
		if _, err := io.ReadFull(r.conn, header[n:n+1]); err != nil {
			return nil, unexpected(err)
		}
		b := header[n]
		size |= int(b&0x7f) << (7 * (n - 1))
		n++
		if b&0x80 == 0 {
			if b == 0 && n > 2 { // not the shortest form (MQTT 5, 1.5.5-1)
				return nil, packets.ErrMalformedVariableByteInteger
			}
			break
		}
		if n == headerMost {
			return nil, packets.ErrMalformedVariableByteInteger
		}
	}
	if n+size > r.most {
		return nil, packets.ErrPacketTooLarge
	}
	return r.body(header[:n], size)
}

// body reads the rest of a packet. Memory follows what arrives: a sender that says much and sends little holds little.
func (r *Reader) body(header []byte, size int) ([]byte, error) {
	r.held = frames.Get().(*[]byte)
	buf := append((*r.held)[:0], header...)
	for end := len(header) + size; len(buf) < end; {
		chunk := min(end-len(buf), growFrame)
		buf = append(buf, make([]byte, chunk)...)
		if _, err := io.ReadFull(r.conn, buf[len(buf)-chunk:]); err != nil {
			*r.held = buf
			return nil, unexpected(err)
		}
	}
	*r.held = buf
	return buf, nil
}

// Release gives back the buffer of the last packet.
func (r *Reader) Release() {
	if r.held == nil {
		return
	}
	if cap(*r.held) <= smallFrame {
		frames.Put(r.held)
	}
	r.held = nil
}

func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // io.ReadFull returns it bare
		return io.ErrUnexpectedEOF
	}
	return err
}
