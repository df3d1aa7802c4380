package door

import (
	"cmp"
	"container/heap"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	defaultMost = 16384
	defaultEach = 256

	// crowdPatience is how long a connection may leave us waiting while its address has more than its share.
	crowdPatience = time.Second
	// crowdSearch bounds the search for a connection to close: beyond it, nobody of the crowd is taken to be idle.
	crowdSearch = 64
	// gateSpare are file descriptors that connections leave to the rest of the process.
	gateSpare = 64
)

// gate bounds the connections that have not been admitted yet, so that those who only hold sockets open cannot keep
// others out. A connection has a place from accept until it is admitted or over. The rules:
//
//   - In all there are at most `most` places. Beyond, the address with the most places loses one of its own, never
//     another: an address with few, and a good device has one for some milliseconds, does not notice.
//   - Of an address with more than `each` places, those are closed that have left us waiting for more than a second:
//     idle sockets and slow CONNECTs. `each` does not refuse newcomers: thousands of good devices behind one address
//     (NAT) that come back at once are all let in as fast as we can read, for none of them leaves us waiting. Nor would
//     it be wise to close the oldest of them: those are the next to be admitted, and all would start again.
//   - What waits for us (for a handshake's turn, for its credential to be looked up, for what it sent to be read) is never
//     closed for being slow.
//
// The connections in all, admitted ones included, are kept below the limit of file descriptors by the same rule: it is
// an unadmitted one that goes, and when there is none, the newcomer.
type gate struct {
	most    int // places in all
	each    int // of an address, before it is looked at more closely
	room    int // connections in all; 0: no limit is known
	metrics *metrics
	now     func() time.Time

	mu      sync.Mutex
	closed  bool
	open    int // connections, admitted ones included
	places  int
	crowds  map[netip.Prefix]*crowd
	biggest crowdHeap
}

// crowd is the places of one address.
type crowd struct {
	address     netip.Prefix
	size        int
	first, last *place // by age
	index       int    // in the heap
}

// place is one connection before it is admitted.
type place struct {
	conn  net.Conn // the socket
	since time.Time
	// theirTurn is set while we wait for bytes of the peer.
	theirTurn atomic.Bool
	// evicted says that the gate has closed the connection, and counted it.
	evicted atomic.Bool

	// guarded by gate.mu
	crowd          *crowd // nil: not waiting for admission any more
	previous, next *place
}

// newGate takes 0 for the defaults.
func newGate(most, each int, m *metrics) *gate {
	g := &gate{most: cmp.Or(most, defaultMost), each: cmp.Or(each, defaultEach), metrics: m, now: time.Now, crowds: map[netip.Prefix]*crowd{}}
	if limit := descriptors(); limit > 0 {
		g.room = max(limit-gateSpare-limit/20, limit/2)
		g.most = min(g.most, limit/2)
	}
	return g
}

// enter gives a connection from address a place, or closes it and returns nil.
func (g *gate) enter(c net.Conn, address netip.Prefix) *place {
	p := &place{conn: c, since: g.now()}
	g.mu.Lock()
	defer g.unlock()
	if g.closed {
		reset(c)
		return nil
	}
	g.opened(1)
	g.join(p, address)
	g.makeRoom(p)
	if p.evicted.Load() {
		g.opened(-1)
		return nil
	}
	return p
}

// move tells the address of a connection that came through a proxy. It is false when there is no place for it there.
func (g *gate) move(p *place, address netip.Prefix) bool {
	g.mu.Lock()
	defer g.unlock()
	if p.crowd == nil || p.evicted.Load() {
		return false
	}
	g.leave(p)
	g.join(p, address)
	g.makeRoom(p)
	return !p.evicted.Load()
}

// unlock shows how many places are taken once the rules have been applied.
func (g *gate) unlock() {
	g.metrics.unadmitted.Set(float64(g.places))
	g.mu.Unlock()
}

// makeRoom closes what the newcomer makes too many.
func (g *gate) makeRoom(newcomer *place) {
	home := newcomer.crowd
	for home.size > g.each {
		p := home.idle(newcomer, g.now().Add(-crowdPatience))
		if p == nil {
			break
		}
		g.evict(p, "crowd")
	}
	if g.places > g.most || g.room > 0 && g.open > g.room {
		g.shed(newcomer)
	}
}

// shed closes one connection of the biggest crowd: the oldest that we wait for, or else the youngest. In the newcomer's
// own crowd nobody goes who has been here for less than a second: the newcomer does.
func (g *gate) shed(newcomer *place) {
	c := g.biggest[0]
	if newcomer != nil && c == newcomer.crowd {
		p := c.idle(newcomer, g.now().Add(-crowdPatience))
		if p == nil {
			p = newcomer
		}
		g.evict(p, "full")
		return
	}
	p := c.idle(newcomer, g.now())
	if p == nil {
		p = c.last
	}
	g.evict(p, "full")
}

// relieve closes one connection because the process has no file descriptors left.
func (g *gate) relieve() {
	g.mu.Lock()
	defer g.unlock()
	if g.places > 0 {
		g.shed(nil)
	}
}

func (g *gate) evict(p *place, reason string) {
	g.leave(p)
	p.evicted.Store(true)
	g.metrics.refused.WithLabelValues(reason).Inc()
	reset(p.conn)
}

// admitted takes the place back; the connection goes on.
func (g *gate) admitted(p *place) {
	g.mu.Lock()
	defer g.unlock()
	g.leave(p)
}

// ended is told once of each connection that is over; p is nil for one that was admitted.
func (g *gate) ended(p *place) {
	g.mu.Lock()
	defer g.unlock()
	if p != nil {
		g.leave(p)
	}
	g.opened(-1)
}

func (g *gate) opened(n int) {
	g.open += n
	g.metrics.connections.Add(float64(n))
}

// close closes all that have not been admitted, and whoever comes from now on.
func (g *gate) close() {
	g.mu.Lock()
	defer g.unlock()
	g.closed = true
	for len(g.biggest) > 0 {
		p := g.biggest[0].first
		g.leave(p)
		p.evicted.Store(true)
		_ = p.conn.Close()
	}
}

func (g *gate) join(p *place, address netip.Prefix) {
	c := g.crowds[address]
	if c == nil {
		c = &crowd{address: address}
		g.crowds[address] = c
		heap.Push(&g.biggest, c)
	}
	p.crowd, p.previous, p.next = c, c.last, nil
	if c.last != nil {
		c.last.next = p
	} else {
		c.first = p
	}
	c.last = p
	c.size++
	g.places++
	heap.Fix(&g.biggest, c.index)
}

func (g *gate) leave(p *place) {
	c := p.crowd
	if c == nil {
		return
	}
	if p.previous != nil {
		p.previous.next = p.next
	} else {
		c.first = p.next
	}
	if p.next != nil {
		p.next.previous = p.previous
	} else {
		c.last = p.previous
	}
	p.crowd, p.previous, p.next = nil, nil, nil
	c.size--
	g.places--
	if c.size == 0 {
		heap.Remove(&g.biggest, c.index)
		delete(g.crowds, c.address)
		return
	}
	heap.Fix(&g.biggest, c.index)
}

// idle is the oldest place of the crowd from before the given time whose peer has left us waiting, nil when there is
// none.
func (c *crowd) idle(except *place, before time.Time) *place {
	p := c.first
	for range crowdSearch {
		if p == nil || p.since.After(before) {
			return nil
		}
		if p != except && p.silent() {
			return p
		}
		p = p.next
	}
	return nil
}

// silent says that we wait for the peer, and that nothing of it has come that we were only too busy to read.
func (p *place) silent() bool {
	if !p.theirTurn.Load() {
		return false
	}
	sc, ok := p.conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	return err != nil || !arrived(raw)
}

// crowdHeap has the biggest crowd first; of two, the one with the older connection.
type crowdHeap []*crowd

func (h crowdHeap) Len() int { return len(h) }

func (h crowdHeap) Less(i, j int) bool {
	if h[i].size != h[j].size || h[i].size == 0 {
		return h[i].size > h[j].size
	}
	return h[i].first.since.Before(h[j].first.since)
}

func (h crowdHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *crowdHeap) Push(x any) {
	c := x.(*crowd)
	c.index = len(*h)
	*h = append(*h, c)
}

func (h *crowdHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return c
}

// reset closes a socket without leaving anything of it behind.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
