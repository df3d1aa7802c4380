package broker

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/door"
	"meterline/mqtt/frame"
)

const connectMost = 192 << 10 // bytes of a CONNECT: two texts and a will, each of 64 KiB at most

// wire is one client connection: packets that are sound come from it, packets go to it, and it is ended in an orderly way
// (see parting.go). One goroutine serves it, and reads; anybody may write, and end it.
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
	patient bool // a read deadline is set

	// fixed when CONNECT has been read
	version   byte               // 4 or 5
	keepAlive time.Duration      // 0: none
	maxPacket int                // bytes the client takes; 0: any
	violation func(packets.Code) // is told what the client did
	gathering *gathering         // of acknowledgements to service clients and backends; nil: none. Others ask for answered first
}

func newWire(c *door.Conn, guard *guard) *wire {
	return &wire{Conn: c, guard: guard, frames: frame.NewReader(c, connectMost), patient: true}
}

// next returns the next packet, which is sound; it is valid until the next call. It waits for one and a half times the
// keep-alive at most (3.1.2-22), and not longer for one that has only begun. What is not sound ends the connection, and a
// client of MQTT 5 is told why (4.13). With an error the connection is over.
//
// It is in here that connections spend their lives, with few and small frames below: see TestAWaitingEndpointNeedsLittleStack.
func (w *wire) next() ([]byte, error) {
	var err error
	ready := w.frames.Ready()
	if !ready {
		w.expect(w.keepAlive + w.keepAlive/2)
	}
	if w.parting.Load() { // after the deadline has been moved: see part
		w.frames.Release()
		return nil, net.ErrClosed
	}
	if !ready {
		err = w.Conn.Await()
	}
	var packet []byte
	if err == nil {
		packet, err = w.frames.Next()
	}
	if err == nil {
		err = frame.Check(w.version, packet)
	}
	if err != nil {
		w.frames.Release()
		w.fault(err)
		return nil, err
	}
	return packet, nil
}

// fault ends the connection for what was wrong with a packet, or that there was none.
func (w *wire) fault(err error) {
	var code packets.Code
	switch {
	case errors.As(err, &code):
		w.violation(code)
		w.part(code)
	case errors.Is(err, os.ErrDeadlineExceeded) && !w.parting.Load():
		w.violation(packets.ErrKeepAliveTimeout)
		w.part(packets.ErrKeepAliveTimeout)
	}
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
	if w.gathering != nil && acknowledges(&pk) && w.gathering.keep(out.Bytes()) {
		return nil
	}
	return w.put(out.Bytes())
}

// put ends a connection that cannot be written to: what the client has asked for until then, which may be much, is not
// worked off for nobody.
func (w *wire) put(p []byte) error {
	var err error
	if w.gathering != nil {
		err = w.gathering.write(w.Conn, p)
	} else {
		_, err = w.Conn.Write(p)
	}
	if err != nil {
		w.part(packets.CodeDisconnect)
	}
	return err
}

// encode is packets.ErrPacketTooLarge when the client does not take so much. It runs in the goroutine of whoever has
// something for the client: should the codec panic, they go on.
func (w *wire) encode(out *bytes.Buffer, pk packets.Packet) (err error) {
	defer w.guard.rescue("encode", &err)
	pk.ProtocolVersion = w.version
	if err := encode(out, pk); err != nil {
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
