package broker

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	gatherBytes   = 256 // of acknowledgements that wait at most: 64 of them
	gatherPackets = 64  // are handled at most until what waits goes out
)

// gathering is what a service client or a backend is still to be acknowledged of packets that it sent at once: a write for
// each would cost as much as all the rest of their handling. An acknowledgement waits only while its connection's reader
// has a whole packet left to handle, for few packets, and to handle one never waits for anything
// (TestHandlingAServicePacketNeverWaits). Nothing else waits, and whatever goes out takes along what was gathered before it.
type gathering struct {
	on      atomic.Bool // another packet is there, behind the one that is handled
	handled int         // packets since something was let out; of the reader alone

	mu   sync.Mutex
	held []byte // guarded by mu
}

// keep takes an acknowledgement that may wait; false when it has to go out now.
func (g *gathering) keep(p []byte) bool {
	if !g.on.Load() {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held)+len(p) > gatherBytes {
		return false
	}
	g.held = append(g.held, p...)
	return true
}

// write writes what was gathered, and p.
func (g *gathering) write(out io.Writer, p []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held) > 0 && len(p) <= gatherBytes {
		g.held = append(g.held, p...)
		return g.release(out)
	}
	if err := g.release(out); err != nil {
		return err
	}
	_, err := out.Write(p)
	return err
}

// pause lets out what was gathered, unless the reader goes on (ready) and has not handled much since then.
func (g *gathering) pause(out io.Writer, ready bool) error {
	if g.handled++; ready && g.handled < gatherPackets {
		return nil
	}
	g.handled = 0
	return g.flush(out)
}

func (g *gathering) flush(out io.Writer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.release(out)
}

// release asks for g.mu.
func (g *gathering) release(out io.Writer) error {
	if len(g.held) == 0 {
		return nil
	}
	_, err := out.Write(g.held)
	g.held = g.held[:0]
	return err
}

// acknowledges says whether a packet does nothing but acknowledge one of the client's.
func acknowledges(pk *packets.Packet) bool {
	switch pk.FixedHeader.Type {
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		return true
	}
	return false
}
