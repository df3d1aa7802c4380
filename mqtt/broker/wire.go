package broker

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/door"
	"meterline/mqtt/frame"
)

const (
	connectMost  = 192 << 10              // bytes of a CONNECT: two texts and a will, each of 64 KiB at most
	lingerTime   = 250 * time.Millisecond // for a last word to be read before the socket is closed
	lingerUnread = 256 << 10              // bytes a client may still send meanwhile
	leaveTime    = 20 * time.Millisecond  // for what has arrived to be read before a connection is taken over
)

// wire is one client connection as mochi holds it. It stands between the two: mochi reads from it only whole packets that
// were found sound, and closes it only in name; the door closes it in the end.
type wire struct {
	*door.Conn
	guard *guard

	session  atomic.Pointer[session] // nil until the client has been admitted
	parting  atomic.Bool             // is being ended
	over     atomic.Pointer[ending]  // nil until somebody asks
	ended    atomic.Bool             // its session knows that it is over
	answered atomic.Bool             // CONNACK has gone out: a client may be told why it must go (3.14.0-1)

	// of the goroutine that serves it
	frames  *frame.Reader
	left    []byte // of the packet that mochi is reading
	patient bool   // a read deadline is set

	// fixed when CONNECT has been read
	version   byte               // 4 or 5
	keepAlive time.Duration      // 0: none
	maxPacket int                // bytes the client takes; 0: any
	violation func(packets.Code) // is told what the client did
}

func newWire(c *door.Conn, guard *guard) *wire {
	return &wire{Conn: c, guard: guard, frames: frame.NewReader(c, connectMost), patient: true}
}

// Read gives mochi the next bytes of a sound packet. One that is not ends the connection, and a client of MQTT 5 is told
// why (4.13).
func (w *wire) Read(p []byte) (int, error) {
	if len(w.left) == 0 {
		if err := w.next(); err != nil {
			w.frames.Release()
			return 0, err
		}
	}
	n := copy(p, w.left)
	w.left = w.left[n:]
	return n, nil
}

// next waits for a packet: one and a half times the keep-alive at most (3.1.2-22), and not for one that only begins.
func (w *wire) next() error {
	w.expect(w.keepAlive + w.keepAlive/2)
	if w.parting.Load() { // after the deadline has been moved: see part
		return net.ErrClosed
	}
	packet, err := w.frames.Next()
	if err == nil {
		err = frame.Check(w.version, packet)
	}
	var code packets.Code
	switch {
	case err == nil && packet[0] == packets.Disconnect<<4 && packet[1] == 1:
		w.left = []byte{packets.Disconnect << 4, 2, packet[2], 0} // mochi's codec overlooks a reason alone (3.14.2.1)
	case err == nil:
		w.left = packet
	case errors.As(err, &code):
		w.violation(code)
		w.part(code)
	case errors.Is(err, os.ErrDeadlineExceeded) && !w.parting.Load():
		w.violation(packets.ErrKeepAliveTimeout)
		w.part(packets.ErrKeepAliveTimeout)
	}
	return err
}

// Write is mochi's, for CONNACK and PINGRESP.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.answered.Store(true)
	return n, err
}

// expect sets how long the next packet may take; 0: for ever.
func (w *wire) expect(d time.Duration) {
	switch {
	case d > 0:
		_ = w.Conn.SetReadDeadline(time.Now().Add(d))
	case w.patient:
		_ = w.Conn.SetReadDeadline(time.Time{})
	}
	w.patient = d > 0
}

// send writes a packet to the client as a whole, without waiting. ErrPacketTooLarge: the client does not take it (3.1.2-24).
func (w *wire) send(pk packets.Packet) error {
	if w.parting.Load() {
		return net.ErrClosed
	}
	return w.write(pk)
}

func (w *wire) write(pk packets.Packet) error {
	out := buffers.Get().(*bytes.Buffer)
	defer recycle(out)
	if err := w.encode(out, pk); err != nil {
		if errors.Is(err, errPanic) {
			w.part(packets.ErrImplementationSpecificError)
		}
		return err
	}
	return w.put(out.Bytes())
}

// put ends a connection that cannot be written to: what the client has asked for until then, which may be much, is not
// worked off for nobody.
func (w *wire) put(p []byte) error {
	_, err := w.Conn.Write(p)
	if err != nil {
		w.part(packets.CodeDisconnect)
	}
	return err
}

// encode is packets.ErrPacketTooLarge when the client does not take so much. It runs in the goroutine of whoever has
// something for the client: should the codec panic, they go on.
func (w *wire) encode(out *bytes.Buffer, pk packets.Packet) error {
	pk.ProtocolVersion = w.version
	if err := w.guard.call("encode", func() error { return encode(out, pk) }); err != nil {
		return err
	}
	if w.maxPacket > 0 && out.Len() > w.maxPacket {
		return packets.ErrPacketTooLarge
	}
	return nil
}

// takes says whether the client takes a packet of that size.
func (w *wire) takes(pk packets.Packet) bool {
	out := buffers.Get().(*bytes.Buffer)
	defer recycle(out)
	return w.encode(out, pk) == nil
}

// part ends the connection; a client of MQTT 5 is told why, if there is a reason: 0 and above 0x80. It does not wait.
// Whoever serves the connection comes to its end soon, also when the client goes on sending.
func (w *wire) part(reason packets.Code) {
	if !w.parting.CompareAndSwap(false, true) {
		return
	}
	if w.version >= 5 && w.answered.Load() && reason.Code >= packets.ErrUnspecifiedError.Code {
		goodbye := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			ReasonCode:  reason.Code,
			Properties:  packets.Properties{ReasonString: reason.Reason},
		}
		if errors.Is(w.write(goodbye), packets.ErrPacketTooLarge) {
			goodbye.Properties.ReasonString = ""
			_ = w.write(goodbye)
		}
	}
	w.hangUp()
}

// hangUp lets the client read to the end what it was sent, and wakes whoever reads.
func (w *wire) hangUp() {
	_ = w.CloseWrite()
	_ = w.Conn.SetReadDeadline(time.Unix(1, 0))
}

// ending is closed when a connection has come to its end.
type ending chan struct{}

// leave waits, for leaveTime at most, for the end of a connection of which something has arrived that was not read: data,
// or that the client has closed. To all others it does nothing.
func (w *wire) leave() {
	if !w.Arrived() {
		return
	}
	done := make(ending)
	if !w.over.CompareAndSwap(nil, &done) {
		done = *w.over.Load()
	}
	if w.ended.Load() {
		return
	}
	select {
	case <-done:
	case <-time.After(leaveTime):
	}
}

// gone says that the session knows of the end. It is called once.
func (w *wire) gone() {
	w.ended.Store(true)
	if done := w.over.Load(); done != nil {
		close(*done)
	}
}

// Close is mochi's: it reads no more. The connection itself is closed by the door, after linger.
func (w *wire) Close() error {
	w.part(packets.CodeDisconnect)
	return nil
}

// linger reads what the client still sends: to close a socket with unread bytes would reset it, and the client might
// never see the last word.
func (w *wire) linger() {
	_ = w.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, w.Conn, lingerUnread)
}

// SetDeadline and SetReadDeadline do nothing: mochi's keep-alive overflows, ours is in next.
func (w *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (w *wire) SetReadDeadline(time.Time) error { return nil }
