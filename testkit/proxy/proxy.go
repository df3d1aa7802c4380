// Package proxy is a TCP proxy that breaks what it carries: it cuts and resets connections, holds bytes back, lets them
// vanish, slows them down, and refuses or ignores new ones; each direction by itself, all connections or a single one.
//
// It stands between two processes of a test. It is real TCP on both sides, so what the processes see is what a kernel
// shows them; only a peer whose machine is gone cannot be told from one that does not answer.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Direction is one of the two ways through a connection.
type Direction int

// The directions: Up is from who connected to whom they connected to.
const (
	Up Direction = iota
	Down
)

// Flow is what becomes of bytes.
type Flow int

// The flows. Stall holds bytes back until the flow is another one, as a network does that is away for a while: the sender's
// buffers fill. Drop takes them and throws them away; a connection that has lost bytes is reset when it should pass any again.
const (
	Pass Flow = iota
	Stall
	Drop
)

// Link is how a direction carries.
type Link struct {
	Flow  Flow
	Delay time.Duration // every piece is held so long; the next is not read meanwhile
	Rate  int           // bytes a second; 0: as they come
}

// Entrance is what becomes of new connections.
type Entrance int

// The entrances. Refuse gives the port back, so that the kernel answers. Ignore takes connections and says nothing.
const (
	Open Entrance = iota
	Refuse
	Ignore
)

const dialWithin = 5 * time.Second

// Proxy carries connections to one address.
type Proxy struct {
	// Fixed after construction.
	addr, target string

	carried [2]atomic.Int64 // bytes, by direction
	held    atomic.Int64    // pieces that were held back by Stall
	lost    atomic.Int64    // bytes that Drop threw away
	opened  atomic.Int64    // connections that were taken
	running sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while refusing, and when closed
	entrance Entrance
	links    [2]Link
	changed  chan struct{} // closed when links are others
	conns    map[*Conn]struct{}
	trap     *trap
	closed   bool
}

// New makes a proxy to target that listens on addr, such as 127.0.0.1:0.
func New(addr, target string) (*Proxy, error) {
	p := &Proxy{target: target, changed: make(chan struct{}), conns: map[*Conn]struct{}{}}
	l, err := listen(addr)
	if err != nil {
		return nil, err
	}
	p.addr = l.Addr().String()
	p.serve(l)
	return p, nil
}

func listen(addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for a proxy: %w", err)
	}
	return l, nil
}

// Addr is where the proxy listens; it stays the same.
func (p *Proxy) Addr() string { return p.addr }

// Close ends all connections and returns when nothing of the proxy runs any more.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	l := p.listener
	p.listener = nil
	p.mu.Unlock()
	var err error
	if l != nil {
		err = l.Close()
	}
	p.Reset()
	p.running.Wait()
	return err
}

// Set changes a direction, for all connections that have no link of their own and for those to come.
func (p *Proxy) Set(d Direction, l Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[d] = l
	p.announce()
}

// announce needs p.mu.
func (p *Proxy) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Enter changes what becomes of new connections. Those that were ignored are reset when the entrance opens.
func (p *Proxy) Enter(e Entrance) error {
	p.mu.Lock()
	was, l := p.entrance, p.listener
	p.entrance = e
	if e == Refuse {
		p.listener = nil
	}
	p.mu.Unlock()
	if was == Ignore {
		p.end((*Conn).ignored, (*Conn).Reset)
	}
	switch {
	case e == Refuse && l != nil:
		return l.Close()
	case e != Refuse && l == nil:
		l, err := listen(p.addr)
		if err != nil {
			return err
		}
		p.serve(l)
	}
	return nil
}

// Heal lets everything pass again. Connections that lost bytes, or were ignored, are reset.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	p.links = [2]Link{}
	for c := range p.conns {
		c.own = [2]*Link{}
	}
	p.trap = nil
	p.announce()
	p.mu.Unlock()
	return p.Enter(Open)
}

// Cut ends all connections as if both sides had closed them; Reset ends them by RST. Both say how many there were.
func (p *Proxy) Cut() int { return p.end((*Conn).any, (*Conn).Cut) }

// Reset ends all connections by RST.
func (p *Proxy) Reset() int { return p.end((*Conn).any, (*Conn).Reset) }

func (p *Proxy) end(which func(*Conn) bool, how func(*Conn)) (n int) {
	for _, c := range p.Conns() {
		if which(c) {
			how(c)
			n++
		}
	}
	return n
}

// Conns are the connections there are.
func (p *Proxy) Conns() []*Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*Conn, 0, len(p.conns))
	for c := range p.conns {
		all = append(all, c)
	}
	return all
}

// Stats are what a proxy has done so far.
type Stats struct {
	Opened   int64 // connections that were taken
	Up, Down int64 // bytes that were carried
	Held     int64 // pieces that had to wait because of Stall
	Lost     int64 // bytes that were dropped
}

// Stats says what the proxy has done so far.
func (p *Proxy) Stats() Stats {
	return Stats{Opened: p.opened.Load(), Up: p.carried[Up].Load(), Down: p.carried[Down].Load(), Held: p.held.Load(), Lost: p.lost.Load()}
}

// serve takes connections from l until it is closed.
func (p *Proxy) serve(l net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = l.Close()
		return
	}
	p.listener = l
	p.running.Go(func() {
		for {
			nc, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				p.running.Go(func() { p.carry(nc.(*net.TCPConn)) })
			}
		}
	})
}

// carry carries one connection to its end.
func (p *Proxy) carry(client *net.TCPConn) {
	p.opened.Add(1)
	c := &Conn{proxy: p, client: client, done: make(chan struct{})}
	p.mu.Lock()
	ignore, closed := p.entrance == Ignore, p.closed
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		c.Cut()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	if closed {
		return
	}
	if ignore {
		<-c.done
		return
	}
	d := net.Dialer{Timeout: dialWithin}
	nc, err := d.DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		c.Reset() // the nearest to a refusal
		return
	}
	if !c.connected(nc.(*net.TCPConn)) {
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { c.pump(Up, c.client, c.server) })
	pumps.Go(func() { c.pump(Down, c.server, c.client) })
	pumps.Wait()
}

// trap is a connection that is to be cut at a certain moment.
type trap struct {
	pattern []byte
	sprung  chan struct{}
}

// CutAfter waits for a piece that holds pattern on its way up, on whichever connection. It is carried, and when the answer
// comes the connection is reset instead: what was asked for was done, and who asked does not know. The channel is closed
// when that has happened. Only one pattern is waited for at a time.
func (p *Proxy) CutAfter(pattern []byte) <-chan struct{} {
	t := &trap{pattern, make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = t
	return t.sprung
}
