package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Conn is one connection through a proxy.
type Conn struct {
	proxy  *Proxy
	client *net.TCPConn
	done   chan struct{}
	once   sync.Once

	// Guarded by proxy.mu.
	server *net.TCPConn // nil until it is connected
	own    [2]*Link     // instead of the proxy's
	trap   *trap        // springs with the next piece that comes down
	gone   bool         // bytes of it were thrown away
}

// From is the address of who connected.
func (c *Conn) From() string { return c.client.RemoteAddr().String() }

// Set changes a direction of this connection alone, until the proxy is healed.
func (c *Conn) Set(d Direction, l Link) {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	c.own[d] = &l
	c.proxy.announce()
}

// Ended is closed when the connection has ended.
func (c *Conn) Ended() <-chan struct{} { return c.done }

// Cut closes both sides.
func (c *Conn) Cut() { c.close(false) }

// Reset closes both sides by RST.
func (c *Conn) Reset() { c.close(true) }

func (c *Conn) any() bool     { return true }
func (c *Conn) ignored() bool { return c.upstream() == nil }

func (c *Conn) upstream() *net.TCPConn {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	return c.server
}

// connected takes the other side in. It is false when the connection has ended meanwhile.
func (c *Conn) connected(server *net.TCPConn) bool {
	c.proxy.mu.Lock()
	c.server = server
	c.proxy.mu.Unlock()
	select {
	case <-c.done:
		_ = server.Close()
		return false
	default:
		return true
	}
}

func (c *Conn) close(reset bool) {
	c.once.Do(func() {
		close(c.done)
		for _, side := range []*net.TCPConn{c.client, c.upstream()} {
			if side == nil {
				continue
			}
			if reset {
				_ = side.SetLinger(0)
			}
			_ = side.Close()
		}
	})
}

// link is how d carries now, and what is closed when that changes.
func (c *Conn) link(d Direction) (Link, <-chan struct{}) {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	if own := c.own[d]; own != nil {
		return *own, c.proxy.changed
	}
	return c.proxy.links[d], c.proxy.changed
}

// pump carries one direction until its end.
func (c *Conn) pump(d Direction, from, to *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !c.forward(d, to, buf[:n]) {
			return
		}
		switch {
		case err == nil:
			continue
		case !errors.Is(err, io.EOF):
			c.Reset()
		case c.forward(d, to, nil): // an end is held back and lost like anything else
			_ = to.CloseWrite()
		}
		return
	}
}

// forward brings a piece to the other side, or does with it what the link says. It is false when the connection is over.
func (c *Conn) forward(d Direction, to *net.TCPConn, piece []byte) bool {
	l, ok := c.pass(d)
	if !ok {
		return false
	}
	if l.Flow == Drop {
		c.proxy.lost.Add(int64(len(piece)))
		c.lose()
		return true
	}
	if c.wasLost() {
		c.Reset()
		return false
	}
	if d == Down && c.springs() {
		return false
	}
	if d == Up && len(piece) > 0 {
		c.step(piece)
	}
	if l.Delay > 0 && !c.sleep(l.Delay) {
		return false
	}
	return c.write(d, to, piece, l.Rate)
}

// pass waits until bytes may go on.
func (c *Conn) pass(d Direction) (Link, bool) {
	for first := true; ; first = false {
		l, changed := c.link(d)
		if l.Flow != Stall {
			return l, true
		}
		if first {
			c.proxy.held.Add(1)
		}
		select {
		case <-changed:
		case <-c.done:
			return l, false
		}
	}
}

func (c *Conn) lose() {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	c.gone = true
}

func (c *Conn) wasLost() bool {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	return c.gone
}

// step takes the trap along when the piece steps into it.
func (c *Conn) step(piece []byte) {
	p := c.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trap != nil && bytes.Contains(piece, p.trap.pattern) {
		c.trap, p.trap = p.trap, nil
	}
}

// springs resets the connection when it is trapped.
func (c *Conn) springs() bool {
	c.proxy.mu.Lock()
	t := c.trap
	c.trap = nil
	c.proxy.mu.Unlock()
	if t == nil {
		return false
	}
	c.Reset()
	close(t.sprung)
	return true
}

// slices is how many writes a second a limited rate is spread over.
const slices = 20

func (c *Conn) write(d Direction, to *net.TCPConn, piece []byte, rate int) bool {
	size := len(piece)
	if rate > 0 {
		size = max(1, rate/slices)
	}
	for len(piece) > 0 {
		n, err := to.Write(piece[:min(size, len(piece))])
		c.proxy.carried[d].Add(int64(n))
		if err != nil {
			c.Reset()
			return false
		}
		piece = piece[n:]
		if rate > 0 && !c.sleep(time.Second*time.Duration(n)/time.Duration(rate)) {
			return false
		}
	}
	return true
}

// sleep is false when the connection ended first.
func (c *Conn) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.done:
		return false
	}
}
