package broker

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/door"
	"meterline/mqtt/frame"
)

// pieces is a connection that gives all it has at once, and keeps what is written write by write.
type pieces struct {
	net.Conn
	in      io.Reader
	written []string
	waits   func() // is told before a read for which nothing is left
}

func (p *pieces) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	if err != nil && p.waits != nil {
		p.waits()
	}
	return n, err
}

func (p *pieces) Write(b []byte) (int, error) {
	p.written = append(p.written, string(b))
	return len(b), nil
}

func (*pieces) SetReadDeadline(time.Time) error { return nil }

// handling reads the packets as mochi would, and handles each.
func handling(t *testing.T, in []byte, handle func(w *wire, i int)) (written []string) {
	t.Helper()
	p := &pieces{in: io.MultiReader(bytes.NewReader(introduce(4)), bytes.NewReader(in))}
	w := &wire{Conn: &door.Conn{Conn: p}, frames: frame.NewReader(p, 1<<10), version: 4, gathering: &gathering{}}
	w.answered.Store(true)
	if _, err := w.frames.Next(); err != nil { // CONNECT
		t.Fatal(err)
	}
	p.waits = func() { written = slices.Clone(p.written) } // all that is to be written has been by then
	c := &mochiConn{wire: w}
	for i := 0; ; i++ {
		if _, err := io.ReadFull(c, make([]byte, len(aCommand))); err != nil {
			break
		}
		handle(w, i)
	}
	if w.parting.Load() {
		return p.written
	}
	return written
}

var (
	aCommand = append([]byte{0x32, 33, 0, 28}, "meterline/v1/d1/down/command\x00\x01x"...)
	large    = bytes.Repeat(pingresp, 1<<10)
)

func ack(id int) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: uint16(id)}
}

func acks(from, to int) string {
	var b strings.Builder
	for id := from; id < to; id++ {
		b.Write([]byte{packets.Puback << 4, 2, byte(id >> 8), byte(id)})
	}
	return b.String()
}

func TestWhatIsSentAtOnceIsAcknowledgedAtOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		handle func(w *wire, i int)
		want   []string
	}{
		{"one", 1, func(w *wire, i int) { _ = w.send(ack(i)) }, []string{acks(0, 1)}},
		{"some", 20, func(w *wire, i int) { _ = w.send(ack(i)) }, []string{acks(0, 20)}},
		{"not all are acknowledged", 20, func(w *wire, i int) {
			if i%10 == 3 {
				_ = w.send(ack(i))
			}
		}, []string{acks(3, 4) + acks(13, 14)}},
		{"something else goes out at once, behind them", 5, func(w *wire, i int) {
			_ = w.send(ack(i))
			if i == 2 {
				_ = w.put(pingresp)
			}
		}, []string{acks(0, 3) + string(pingresp), acks(3, 5)}},
		{"something large goes out at once, behind them", 5, func(w *wire, i int) {
			_ = w.send(ack(i))
			if i == 2 {
				_ = w.put(large)
			}
		}, []string{acks(0, 3), string(large), acks(3, 5)}},
		{"so many that they do not wait any longer", 100, func(w *wire, i int) {
			_ = w.send(ack(i))
		}, []string{acks(0, 64), acks(64, 100)}},
		{"few of many", 100, func(w *wire, i int) {
			if i%40 == 0 {
				_ = w.send(ack(i))
			}
		}, []string{acks(0, 1) + acks(40, 41), acks(80, 81)}},
		{"so much that it does not", 2, func(w *wire, i int) {
			for j := range 100 * (1 - i) {
				_ = w.send(ack(j))
			}
		}, []string{acks(0, 65), acks(65, 100)}},
		{"the end lets them out", 5, func(w *wire, i int) {
			_ = w.send(ack(i))
			if i == 3 {
				w.part(packets.CodeDisconnect)
			}
		}, []string{acks(0, 4)}},
	} {
		if got := handling(t, bytes.Repeat(aCommand, c.n), c.handle); !slices.Equal(got, c.want) {
			t.Errorf("%s: written %q, not %q", c.name, got, c.want)
		}
	}
}

// A packet that has only begun is waited for.
func TestNothingWaitsForAPacketThatHasOnlyBegun(t *testing.T) {
	in := append(bytes.Repeat(aCommand, 3), aCommand[:len(aCommand)-1]...)
	if got := handling(t, in, func(w *wire, i int) { _ = w.send(ack(i)) }); !slices.Equal(got, []string{acks(0, 3)}) {
		t.Errorf("written %q", got)
	}
}
