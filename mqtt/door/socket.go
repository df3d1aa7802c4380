package door

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	drainTimeout = 2 * time.Second        // for the client to take something of a backlog
	drainLate    = 100 * time.Millisecond // beyond that: then it was us who were kept waiting
	drainPiece   = 16 << 10               // bytes

	// For a client with a queue of its own: of its backlog, one part of so many may be filled by messages that could wait
	// there. So the largest message, and what cannot wait, always fit.
	roomPart   = 4
	resumePart = 8 // is what the backlog has to shrink to before more is asked for
)

var errBacklog = errors.New("the client does not read: its backlog is full")

// socket is a connection whose Write never waits for the network. What the kernel does not take at once is kept, up to
// limit bytes, and written by a goroutine that exists only as long as there is something left. A client that takes
// nothing for drainTimeout, or lets more than limit pile up, is disconnected. Each Write goes out as a whole or not at
// all before the next one. TLS and WebSocket sit above it.
type socket struct {
	net.Conn                    // reading, addresses
	raw      syscall.RawConn    // nil: every write goes by the backlog
	limit    int                // bytes
	patience time.Duration      // for the client to take something of a backlog
	slow     func(cause string) // counts a client that was given up
	drains   *sync.WaitGroup    // holds the draining goroutines
	inbox    inbox              // the reader's alone

	gate  *gate                 // nil in tests; told when the connection is over
	early atomic.Pointer[early] // nil from admission on
	from  net.Addr              // of a client behind a proxy; set before anybody asks

	mu       sync.Mutex
	backlog  []byte
	pending  int // bytes in backlog and in the drainer's hands
	draining bool
	wanted   bool   // somebody was told that there is no room
	resume   func() // is told when there is again; nil: nobody asks
	closed   bool
	err      error // once set, nothing is written any more
}

func newSocket(c net.Conn, limit int, drains *sync.WaitGroup, slow func(cause string)) *socket {
	nc := &socket{Conn: c, limit: limit, patience: drainTimeout, drains: drains, slow: slow}
	if sc, ok := c.(syscall.Conn); ok {
		nc.raw, _ = sc.SyscallConn()
	}
	return nc
}

// Write takes p over without blocking.
func (c *socket) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	n := 0
	if !c.draining && c.raw != nil {
		var err error
		if n, err = writeNow(c.raw, p); err != nil {
			c.fail(err)
			return n, err
		}
		if n == len(p) {
			return n, nil
		}
	}
	rest := p[n:]
	if c.pending+len(rest) > c.limit {
		c.slow("backlog")
		c.fail(errBacklog)
		return n, errBacklog
	}
	c.backlog = append(c.backlog, rest...)
	c.pending += len(rest)
	if !c.draining {
		c.draining = true
		c.drains.Go(c.drain)
	}
	return len(p), nil
}

// room says whether more should be written. After no, resume is called when there is room; it may write.
func (c *socket) room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.pending <= c.limit/roomPart {
		return true
	}
	c.wanted = true
	return false
}

// onRoom sets resume, which is called from the goroutine that drains, without locks.
func (c *socket) onRoom(resume func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resume = resume
}

// fail closes the connection; c.mu is held.
func (c *socket) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	_ = c.Conn.Close()
}

// drain writes the backlog until there is none.
func (c *socket) drain() {
	for {
		c.mu.Lock()
		chunk := c.backlog
		c.backlog = nil
		if len(chunk) == 0 || c.err != nil {
			_ = c.Conn.SetWriteDeadline(time.Time{})
			c.draining = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for len(chunk) > 0 {
			n, err := c.drainPiece(chunk[:min(len(chunk), drainPiece)])
			if err != nil {
				break // c.err is set
			}
			chunk = chunk[n:]
			if resume := c.awaited(); resume != nil {
				resume()
			}
		}
	}
}

// awaited returns what is to be called now that the backlog has shrunk, nil if nothing is.
func (c *socket) awaited() func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wanted || c.err != nil || c.pending > c.limit/resumePart {
		return nil
	}
	c.wanted = false
	return c.resume
}

func (c *socket) drainPiece(piece []byte) (int, error) {
	before, known := unsent(c.raw)
	until := time.Now().Add(c.patience)
	_ = c.Conn.SetWriteDeadline(until)
	n, err := c.Conn.Write(piece)
	late := time.Since(until)
	if errors.Is(err, os.ErrDeadlineExceeded) && late > drainLate {
		err = nil // the machine stood still, and the client may have stood with it, or its answer: it has its time anew
	}
	if known && errors.Is(err, os.ErrDeadlineExceeded) {
		// The kernel wakes us when a third of its buffer is free. On a slow network that may take longer; the client goes on
		// taking something all the same.
		if after, ok := unsent(c.raw); ok && after < before+n {
			err = nil
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending -= n
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.slow("stalled")
		}
		c.fail(err)
	}
	return n, err
}

// Close closes at once; a backlog is lost. What has come and was not read is thrown away first: otherwise the kernel would
// send RST, and the peer might never see what was written last, such as why it is refused.
func (c *socket) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = net.ErrClosed
	}
	if c.gate != nil && !c.closed {
		var p *place
		if e := c.early.Swap(nil); e != nil {
			p = e.place
		}
		c.gate.ended(p)
	}
	c.closed = true
	if c.raw != nil {
		discard(c.raw)
	}
	return c.Conn.Close()
}

// CloseWrite tells the client that nothing more comes, and lets it read what has been written. A backlog keeps the
// connection whole: it is written for as long as its deadline allows.
func (c *socket) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && !c.draining && c.err == nil {
		return half.CloseWrite()
	}
	return nil
}

// Read waits for the peer.
func (c *socket) Read(p []byte) (int, error) {
	if e := c.early.Load(); e != nil {
		return e.read(c, p)
	}
	return c.receive(p)
}

// RemoteAddr is the client's, also when a proxy is in between.
func (c *socket) RemoteAddr() net.Addr {
	if c.from != nil {
		return c.from
	}
	return c.Conn.RemoteAddr()
}

// SetDeadline sets the deadline for reading: writes have their own rule.
func (c *socket) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline sets it, but before admission never later than the deadline for CONNECT.
func (c *socket) SetReadDeadline(t time.Time) error {
	if e := c.early.Load(); e != nil {
		t = e.ask(t)
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline does nothing: a write does not wait.
func (c *socket) SetWriteDeadline(time.Time) error { return nil }
