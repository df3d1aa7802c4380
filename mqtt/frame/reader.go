package frame

import (
	"io"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	headerMost = 5        // bytes: type and flags, and up to four of length (MQTT 5, 1.5.5)
	waitBytes  = 16       // of the buffer with which a Reader waits that has nothing
	smallFrame = 4 << 10  // bytes; what is larger does not go back to the pool
	growFrame  = 16 << 10 // bytes allocated ahead of what has arrived
)

var frames = sync.Pool{New: func() any { b := make([]byte, smallFrame); return &b }}

// Reader reads packets, as many at once as have come. It holds a buffer only while there is something in it: one that waits
// for a packet to begin holds next to nothing.
type Reader struct {
	conn   io.Reader
	most   int             // bytes of a packet
	opened bool            // CONNECT has been read
	given  int             // bytes of the packet that Next returned last
	from   int             // what has come begins here in held
	to     int             // and ends here
	held   *[]byte         // nil: nothing has come
	first  [waitBytes]byte // is what it waits with
}

// NewReader reads packets of up to most bytes, fixed header included. The first has to be a CONNECT.
func NewReader(conn io.Reader, most int) *Reader { return &Reader{conn: conn, most: most} }

// SetMost says how large a packet may be from now on.
func (r *Reader) SetMost(most int) { r.most = most }

// Next returns the next packet, as long as the connection gives it; it is valid until the next call of any method. A packet
// that is too large, or whose length is malformed, is a packets.Code, and a first one that is no CONNECT is ErrNotMQTT;
// nothing is allocated for them. Any other error is the connection's; io.EOF only between packets. After one that passes,
// such as of a deadline, Next goes on where it was.
func (r *Reader) Next() ([]byte, error) {
	r.Release()
	for {
		size, err := r.size(r.from)
		if err != nil {
			return nil, err
		}
		if size > 0 && size <= r.to-r.from {
			r.opened, r.given = true, size
			return (*r.held)[r.from : r.from+size], nil
		}
		if err := r.fill(size); err != nil {
			return nil, err
		}
	}
}

// Ready says that Next would not wait for the connection.
func (r *Reader) Ready() bool {
	r.Release()
	return r.More()
}

// More says that Next will not wait for the connection when it is called again; what it returned last stays valid.
func (r *Reader) More() bool {
	from := r.from + r.given
	size, err := r.size(from)
	return err != nil || size > 0 && size <= r.to-from
}

// Release says that the last packet is done with.
func (r *Reader) Release() {
	r.from += r.given
	r.given = 0
	if r.from < r.to || r.held == nil {
		return
	}
	if len(*r.held) <= smallFrame {
		frames.Put(r.held)
	}
	r.held, r.from, r.to = nil, 0, 0
}

// size is how many bytes the packet has that begins there, 0 as long as that is not known.
func (r *Reader) size(from int) (int, error) {
	if from == r.to {
		return 0, nil
	}
	come := (*r.held)[from:r.to]
	if !r.opened && come[0]>>4 != packets.Connect { // 3.1.0-1
		return 0, notMQTT(come[0])
	}
	size := 0
	for n := 1; n < headerMost && n < len(come); n++ {
		b := come[n]
		size |= int(b&0x7f) << (7 * (n - 1))
		switch {
		case b == 0 && n > 1: // not the shortest form (MQTT 5, 1.5.5-1)
			return 0, packets.ErrMalformedVariableByteInteger
		case b&0x80 != 0:
			continue
		case 1+n+size > r.most:
			return 0, packets.ErrPacketTooLarge
		}
		return 1 + n + size, nil
	}
	if len(come) >= headerMost {
		return 0, packets.ErrMalformedVariableByteInteger
	}
	return 0, nil
}

// fill waits for more of a packet of that size. Memory follows what arrives: a sender that says much and sends little holds
// little.
func (r *Reader) fill(size int) error {
	if r.held == nil {
		n, err := r.conn.Read(r.first[:])
		if n == 0 {
			return err
		}
		r.held = frames.Get().(*[]byte)
		r.to = copy(*r.held, r.first[:n])
		return nil
	}
	r.makeRoom(size)
	n, err := r.conn.Read((*r.held)[r.to:])
	r.to += n
	if n == 0 && err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if n == 0 {
		return err
	}
	return nil
}

// makeRoom moves what has come to the front when the packet has no room behind it, and enlarges a buffer that is full.
func (r *Reader) makeRoom(size int) {
	buf := *r.held
	if r.from > 0 && r.from+max(size, headerMost) > len(buf) {
		r.to = copy(buf, buf[r.from:r.to])
		r.from = 0
	}
	if r.to == len(buf) {
		grown := make([]byte, len(buf)+min(max(size-len(buf), 0), max(growFrame, len(buf)/2)))
		copy(grown, buf)
		if len(buf) <= smallFrame {
			frames.Put(r.held)
		}
		r.held = &grown
	}
}
