package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

const (
	connectTimeout = 5 * time.Second // from accept to the end of CONNECT, TLS and WebSocket handshakes included
	acceptDelayMin = 5 * time.Millisecond
	acceptDelayMax = time.Second
)

// A dead peer is noticed by TCP within a minute, whatever its MQTT keep-alive.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// Listen says where clients connect.
type Listen struct {
	Name      string      // in logs, and for Addr: "mqtt", "mqtts", "ws"; unique
	Address   string      // host:port; port 0 takes a free one
	TLS       *tls.Config // nil: in the clear
	WebSocket bool        // subprotocol mqtt, binary frames, any path
}

// connections knows every open connection, also those that have not said CONNECT yet.
type connections struct {
	running sync.WaitGroup // a count for each connection, and for each drainer

	mu     sync.Mutex
	open   map[*wire]struct{}
	closed bool
}

// add is false when no more connections are taken.
func (c *connections) add(w *wire) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running.Add(1)
	c.open[w] = struct{}{}
	return true
}

func (c *connections) remove(w *wire) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, w)
	c.running.Done()
}

// close takes no more connections and returns those that are open.
func (c *connections) close() []*wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return slices.Collect(maps.Keys(c.open))
}

// all lists the open connections.
func (c *connections) all() []*wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.open))
}

// listener is a listener for mochi. Unlike mochi's own it survives errors of accept, gives clients a deadline for
// CONNECT, and survives what a connection's goroutine may throw.
type listener struct {
	spec    Listen
	log     *slog.Logger
	metrics *metrics
	conns   *connections
	backlog int              // bytes a client may leave unread
	receive func(*wire) bool // admits a client, or not
	ended   func(*session)   // called once for every client that was admitted, after it is gone

	socket net.Listener
	web    *http.Server // for WebSocket
	closed chan struct{}
	once   sync.Once
}

var _ listeners.Listener = (*listener)(nil)

// bind opens the address.
func (l *listener) bind() error {
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	socket, err := config.Listen(context.Background(), "tcp", l.spec.Address)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", l.spec.Name, err)
	}
	l.closed = make(chan struct{})
	l.socket = &acceptor{Listener: socket, of: l}
	if l.spec.WebSocket {
		l.web = newWebServer(l.log)
	}
	return nil
}

// Init, ID, Address, Protocol, Serve and Close are what mochi asks for.
func (l *listener) Init(*slog.Logger) error { return nil }

// ID names the listener.
func (l *listener) ID() string { return l.spec.Name }

// Protocol is for mochi's log.
func (l *listener) Protocol() string { return l.spec.Name }

// Address is the address it is bound to.
func (l *listener) Address() string { return l.socket.Addr().String() }

// Serve accepts until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	if l.spec.WebSocket {
		l.serveWeb(establish)
		return
	}
	for {
		c, err := l.socket.Accept()
		if err != nil {
			return // closed: acceptor bears everything else
		}
		l.conns.running.Go(func() { l.serve(c, establish) })
	}
}

// Close stops accepting. Open connections are not touched: Broker.Run closes them when what they sent is committed.
func (l *listener) Close(listeners.CloseFn) { l.stop() }

func (l *listener) stop() {
	l.once.Do(func() {
		close(l.closed)
		_ = l.socket.Close()
		if l.web != nil {
			_ = l.web.Close()
		}
	})
}

// serve is the life of a TCP or TLS connection.
func (l *listener) serve(c net.Conn, establish listeners.EstablishFn) {
	_ = c.SetReadDeadline(time.Now().Add(connectTimeout))
	if l.spec.TLS != nil {
		secure := tls.Server(c, l.spec.TLS)
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		err := secure.HandshakeContext(ctx)
		cancel()
		if err != nil {
			l.metrics.refused.WithLabelValues("tls").Inc()
			_ = c.Close()
			return
		}
		c = secure
	}
	l.establish(c, establish)
}

// establish hands a connection to mochi, which returns when it is over. Whatever panics below ends this connection
// alone.
func (l *listener) establish(c net.Conn, establish listeners.EstablishFn) {
	w := newWire(c)
	if !l.conns.add(w) {
		_ = c.Close()
		return
	}
	defer l.conns.remove(w)
	l.metrics.connections.Inc()
	defer l.metrics.connections.Dec()
	defer func() { _ = c.Close() }()
	l.guard("connection", func() {
		if l.receive(w) {
			_ = establish(l.spec.Name, w) // it ends with an error, of which the client has been told
		}
	})
	if s := w.session.Load(); s != nil {
		l.guard("end", func() { l.ended(s) })
	}
	if w.parting.Load() {
		w.linger()
	}
}

// guard runs f and survives its panic.
func (l *listener) guard(where string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			l.metrics.panics.Inc()
			l.log.Error("recovered from a panic", "where", where, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	f()
}

// acceptor is a net.Listener whose Accept fails only when it is closed. It backs off while the process has no file
// descriptors left (EMFILE) or the like, and wraps connections.
type acceptor struct {
	net.Listener
	of *listener
}

// Accept waits for a connection.
func (a *acceptor) Accept() (net.Conn, error) {
	l := a.of
	for delay := time.Duration(0); ; {
		c, err := a.Listener.Accept()
		if err == nil {
			slow := func(cause string) { l.metrics.slowClosed.WithLabelValues(cause).Inc() }
			return newConn(c, l.backlog, &l.conns.running, slow), nil
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if delay == 0 {
			l.log.Warn("cannot accept connections", "listener", l.spec.Name, "error", err)
		}
		l.metrics.acceptErrors.Inc()
		delay = min(max(acceptDelayMin, 2*delay), acceptDelayMax)
		select {
		case <-time.After(delay):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}
