package broker

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// mochiConn is the connection of a service client or a backend as mochi holds it. mochi reads from it only whole packets
// that were found sound, begins with a CONNECT of ours, and closes it only in name: the door closes it in the end.
type mochiConn struct {
	*wire
	left []byte // of the packet that mochi is reading; of its reader alone
}

// Read gives mochi the next bytes of a sound packet.
func (c *mochiConn) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		if err := c.gathering.pause(c.Conn, c.frames.Ready()); err != nil {
			c.part(packets.CodeDisconnect) // and next ends it
		}
		packet, err := c.next()
		if err != nil {
			return 0, err
		}
		c.gathering.on.Store(c.frames.More())
		if c.left = packet; packet[0] == packets.Disconnect<<4 && packet[1] == 1 {
			c.left = []byte{packets.Disconnect << 4, 2, packet[2], 0} // mochi's codec overlooks a reason alone (3.14.2.1)
		}
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// Write is mochi's, for CONNACK and PINGRESP.
func (c *mochiConn) Write(p []byte) (int, error) {
	err := c.gathering.write(c.Conn, p)
	c.answered.Store(true)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close is mochi's: it reads no more.
func (c *mochiConn) Close() error {
	c.part(packets.CodeDisconnect)
	return nil
}

// SetDeadline and SetReadDeadline do nothing: mochi's keep-alive overflows, ours is in next.
func (c *mochiConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c *mochiConn) SetReadDeadline(time.Time) error { return nil }

// serials number the connections: mochi knows a client by its number.
var serials atomic.Uint64

// introduce is the CONNECT that mochi gets to read of an admitted client.
func introduce(version byte) []byte {
	id := strconv.FormatUint(serials.Add(1), 36)
	out := []byte{packets.Connect << 4, 0, 0, 4, 'M', 'Q', 'T', 'T', version, 2 /* clean */, 0, 0}
	if version >= 5 {
		out = append(out, 0) // no properties
	}
	out = append(append(out, 0, byte(len(id))), id...)
	out[1] = byte(len(out) - 2)
	return out
}

// newServer sets mochi up: it runs the connections, and has no limits but ours.
func newServer(log *slog.Logger) *mochi.Server {
	c := mochi.NewDefaultServerCapabilities()
	c.MaximumClientWritesPending = 1 // nothing goes that way; the default holds 64 KiB for each client
	c.MaximumPacketSize = 0          // wire has looked
	return mochi.New(&mochi.Options{
		Capabilities:            c,
		ClientNetReadBufferSize: 16, // a wire gives whole packets
		SysTopicResendInterval:  3600,
		// mochi logs whole packets as warnings; what matters is logged and counted here.
		Logger: slog.New(errorsOnly{log.Handler()}),
	})
}

// errorsOnly lets errors through and nothing else.
type errorsOnly struct{ slog.Handler }

// Enabled is asked before a record is made.
func (h errorsOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && h.Handler.Enabled(ctx, l)
}

// WithAttrs and WithGroup keep the filter.
func (h errorsOnly) WithAttrs(a []slog.Attr) slog.Handler { return errorsOnly{h.Handler.WithAttrs(a)} }

// WithGroup keeps the filter.
func (h errorsOnly) WithGroup(name string) slog.Handler { return errorsOnly{h.Handler.WithGroup(name)} }
