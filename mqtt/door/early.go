package door

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// early is what a socket has until its client is admitted.
type early struct {
	place *place
	until time.Time // no read waits longer, whatever the layers above ask for

	// of the goroutine that does the handshake
	handshake *handshake // nil: none is going on

	mu    sync.Mutex
	asked time.Time // the deadline that holds from admission on
}

// handshake is a TLS handshake's claim to compute.
type handshake struct {
	ctx     context.Context // ends with early.until
	turns   *turns
	address netip.Prefix
	ours    bool // it is our turn
}

func (h *handshake) take() error {
	err := h.turns.take(h.ctx, h.address)
	h.ours = err == nil
	return err
}

func (h *handshake) give() {
	if h.ours {
		h.ours = false
		h.turns.give()
	}
}

// read says to the gate that we wait for the peer, and lets others compute meanwhile.
func (e *early) read(c *socket, p []byte) (int, error) {
	if e.handshake != nil {
		e.handshake.give()
	}
	e.place.theirTurn.Store(true)
	n, err := c.receive(p)
	e.place.theirTurn.Store(false)
	if e.handshake != nil && err == nil {
		err = e.handshake.take()
	}
	return n, err
}

// ask notes the deadline and returns the one that holds now.
func (e *early) ask(t time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = t
	if t.IsZero() || t.After(e.until) {
		return e.until
	}
	return t
}

// begin puts a connection that was accepted under the rules for those that are not admitted yet.
func (c *socket) begin(g *gate, p *place) {
	e := &early{place: p, until: p.since.Add(ConnectTimeout)}
	c.gate = g
	c.early.Store(e)
	_ = c.Conn.SetReadDeadline(e.until)
}

// admitted ends them. Calls after the first do nothing.
func (c *socket) admitted() {
	e := c.early.Swap(nil)
	if e == nil {
		return
	}
	c.gate.admitted(e.place)
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = c.Conn.SetReadDeadline(e.asked)
}

// secure runs f, a TLS handshake over c, in turn with others.
func (c *socket) secure(t *turns, f func() error) error {
	e := c.early.Load()
	if e == nil {
		return net.ErrClosed
	}
	ctx, cancel := context.WithDeadline(context.Background(), e.until)
	defer cancel()
	e.handshake = &handshake{ctx: ctx, turns: t, address: Neighbourhood(ipOf(c.RemoteAddr()))}
	defer func() {
		e.handshake.give()
		e.handshake = nil
	}()
	if err := e.handshake.take(); err != nil {
		return err
	}
	return f()
}
