package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	silence     = 2 * time.Second // of a statement before the server is asked for a sign of life
	signWithin  = 1500 * time.Millisecond
	signAgain   = 500 * time.Millisecond // while it gives none
	dialAtLeast = 5 * time.Second
)

// errSilent says that PostgreSQL holds its connections and answers nobody: its machine stands still, or the way to it is
// cut.
var errSilent = errors.New("PostgreSQL does not answer")

// server is PostgreSQL as its connections see it. The driver waits for an answer without end, also when the context of
// the statement is over. So a connection that waited for long asks whether the server answers anybody: if so, the statement
// takes its time; if not, everything that waits for it fails, and what comes fails at once until it answers again.
type server struct {
	network, address string // of the connection that was made last; guarded by mu

	heard atomic.Int64 // when any connection got bytes last, in Unix nanoseconds

	mu     sync.Mutex
	living context.Context // over when the server falls silent
	fall   context.CancelFunc
	asking chan struct{} // closed when whoever asks has an answer; nil: nobody does
	closed chan struct{}
	asker  sync.WaitGroup
}

func newServer() *server {
	s := &server{closed: make(chan struct{})}
	s.living, s.fall = context.WithCancel(context.Background())
	return s
}

// guard gives a context for what runs on the server, which is over when the server falls silent, and how to let go of it.
func (s *server) guard(ctx context.Context) (context.Context, func(), error) {
	if s == nil { // SQLite
		return ctx, func() {}, nil
	}
	s.mu.Lock()
	living := s.living
	s.mu.Unlock()
	if living.Err() != nil {
		return nil, nil, errSilent
	}
	guarded, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(living, func() { cancel(errSilent) })
	return guarded, func() {
		stop()
		cancel(nil)
	}, nil
}

// silenced is err, or errSilent when that is why it came.
func silenced(guarded context.Context, err error) error {
	var own asIs
	if err == nil || errors.As(err, &own) || !errors.Is(context.Cause(guarded), errSilent) {
		return err
	}
	return fmt.Errorf("%w: %w", errSilent, err)
}

// close ends the asking.
func (s *server) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	s.mu.Unlock()
	s.asker.Wait()
}

func (s *server) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// silent says whether the server was found to answer nobody.
func (s *server) silent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.living.Err() != nil
}

// heardLately says whether any connection got an answer a moment ago.
func (s *server) heardLately() bool {
	return time.Since(time.Unix(0, s.heard.Load())) < silence
}

// answers asks for a sign of life. Those who ask at the same time share the answer. Once there is none, it is asked for
// until there is.
func (s *server) answers() bool {
	s.mu.Lock()
	if s.living.Err() != nil {
		s.mu.Unlock()
		return false
	}
	if asking := s.asking; asking != nil {
		s.mu.Unlock()
		<-asking
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.living.Err() == nil
	}
	asking := make(chan struct{})
	s.asking = asking
	network, address := s.network, s.address
	s.mu.Unlock()
	there := signOfLife(network, address)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking = nil
	close(asking)
	there = there || s.heardLately() // busy, not silent: a machine with too much to do may not take a new connection in time
	if !there && !s.isClosed() {
		s.fall()
		s.asker.Go(func() { s.await(network, address) })
	}
	return there
}

// await asks until the server answers.
func (s *server) await(network, address string) {
	again := time.NewTicker(signAgain)
	defer again.Stop()
	for {
		select {
		case <-s.closed:
			return
		case <-again.C:
		}
		if signOfLife(network, address) {
			s.mu.Lock()
			s.living, s.fall = context.WithCancel(context.Background())
			s.mu.Unlock()
			return
		}
	}
}

// signOfLife says whether a server that speaks PostgreSQL's protocol answers an SSLRequest, which costs it least.
func signOfLife(network, address string) bool {
	c, err := (&net.Dialer{Timeout: signWithin}).DialContext(context.Background(), network, address)
	if err != nil {
		// Nobody listens: the connections of a server that has ended are cut, there is nothing to wait for.
		return false
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(signWithin))
	if _, err := c.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
		return false
	}
	// Bit by bit: while this process stands still itself, as it does when the whole machine does, at most one of them passes.
	const bits = 15
	for range bits {
		_ = c.SetReadDeadline(time.Now().Add(signWithin / bits))
		if _, err = c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	return err == nil
}

// Dial implements the driver's Dialer.
func (s *server) Dial(network, address string) (net.Conn, error) {
	return s.DialTimeout(network, address, dialAtLeast)
}

// DialTimeout implements the driver's Dialer.
func (s *server) DialTimeout(network, address string, within time.Duration) (net.Conn, error) {
	ctx, stop := context.WithTimeout(context.Background(), within)
	defer stop()
	return s.DialContext(ctx, network, address)
}

// DialContext implements the driver's DialerContext.
func (s *server) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := newDialer().DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.network, s.address = network, address
	living := s.living
	s.mu.Unlock()
	if living.Err() != nil {
		return nil, errors.Join(errSilent, c.Close())
	}
	// Those that wait already need not find out for themselves.
	stop := context.AfterFunc(living, func() { _ = c.SetDeadline(time.Now()) })
	return &patient{Conn: c, server: s, stop: stop}, nil
}

// patient is a connection that waits as long as the server answers anybody.
type patient struct {
	net.Conn
	server *server
	stop   func() bool

	mu    sync.Mutex
	until time.Time // the driver's own deadline
}

// Close implements net.Conn.
func (p *patient) Close() error {
	p.stop()
	return p.Conn.Close()
}

// SetDeadline implements net.Conn.
func (p *patient) SetDeadline(t time.Time) error {
	p.mu.Lock()
	p.until = t
	p.mu.Unlock()
	return p.Conn.SetDeadline(t)
}

// limit is until when to wait, and whether that is the driver's own deadline.
func (p *patient) limit() (t time.Time, own bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t = time.Now().Add(silence)
	if !p.until.IsZero() && p.until.Before(t) {
		return p.until, true
	}
	return t, false
}

// giveUp closes the connection for good: what the server still sends on it answers nobody any more. The driver drops a
// connection for an error of that type alone; with any other it would take the late answer for that of its next statement.
func (p *patient) giveUp(op string) error {
	_ = p.Conn.Close()
	return &net.OpError{Op: op, Net: p.Conn.RemoteAddr().Network(), Addr: p.Conn.RemoteAddr(), Err: errSilent}
}

// Read waits for bytes.
func (p *patient) Read(b []byte) (int, error) {
	for {
		if p.server.silent() {
			return 0, p.giveUp("read")
		}
		limit, own := p.limit()
		_ = p.Conn.SetReadDeadline(limit)
		n, err := p.Conn.Read(b)
		if n > 0 {
			p.server.heard.Store(time.Now().UnixNano())
		}
		if n > 0 || own || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if !p.server.heardLately() && !p.server.answers() {
			return 0, p.giveUp("read")
		}
	}
}

// Write waits for room.
func (p *patient) Write(b []byte) (written int, err error) {
	for {
		limit, own := p.limit()
		_ = p.Conn.SetWriteDeadline(limit)
		n, err := p.Conn.Write(b[written:])
		written += n
		if own || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
		if n == 0 && !p.server.answers() {
			return written, p.giveUp("write")
		}
	}
}
