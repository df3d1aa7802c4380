package broker

import (
	"errors"
	"io"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	lingerTime   = 250 * time.Millisecond // for a last word to be read before the socket is closed
	lingerUnread = 256 << 10              // bytes a client may still send meanwhile
	leaveTime    = 20 * time.Millisecond  // for what has arrived to be read before a connection is taken over
)

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
	if w.answered.Load() && w.gathering != nil {
		_ = w.gathering.flush(w.Conn)
	}
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

// linger reads what the client still sends: to close a socket with unread bytes would reset it, and the client might
// never see the last word.
func (w *wire) linger() {
	_ = w.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, w.Conn, lingerUnread)
}
