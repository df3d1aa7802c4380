package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// connectTimeout is the time from accept to the end of CONNECT: PROXY header, TLS and WebSocket handshakes included.
const connectTimeout = 5 * time.Second

// A dead peer is noticed by TCP within a minute, whatever its MQTT keep-alive.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// Listen says where clients connect.
type Listen struct {
	Name      string      // in logs, and for Addr: "mqtt", "mqtts", "ws"; unique
	Address   string      // host:port; port 0 takes a free one
	TLS       *tls.Config // nil: in the clear. That of Certificates follows its files
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

// start runs f, which running.Wait waits for, unless no more connections are taken.
func (c *connections) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running.Go(f)
	return true
}

// close takes no more connections and returns those that are open.
func (c *connections) close() []*wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return slices.Collect(maps.Keys(c.open))
}

// listener is a listener for mochi. Unlike mochi's own it survives errors of accept, bounds what clients can hold before
// they are admitted, gives them a deadline for CONNECT, and survives what a connection's goroutine may throw.
type listener struct {
	spec    Listen
	log     *slog.Logger
	metrics *metrics
	guard   *guard
	conns   *connections
	gate    *gate
	turns   *turns
	proxies proxies
	backlog int              // bytes a client may leave unread
	message int64            // bytes of a WebSocket message
	receive func(*wire) bool // admits a client, or not
	ended   func(*session)   // called once for every client that was admitted, after it is gone
	said    *sparing

	socket net.Listener
	web    *webServer // nil: not for WebSocket
	closed chan struct{}
	once   sync.Once
}

var _ listeners.Listener = (*listener)(nil)

// bind opens the address.
func (l *listener) bind() error {
	config := net.ListenConfig{KeepAliveConfig: keepAlive, Control: patience}
	socket, err := config.Listen(context.Background(), "tcp", l.spec.Address)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", l.spec.Name, err)
	}
	l.closed = make(chan struct{})
	l.socket = socket
	if l.spec.WebSocket {
		l.web = newWebServer(l)
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
	if l.web != nil {
		var web sync.WaitGroup
		web.Go(func() { l.web.serve(establish) })
		defer web.Wait()
	}
	for {
		c, err := l.accept()
		if err != nil {
			return // closed: accept bears everything else
		}
		if !l.conns.start(func() { l.guard.run("connection", func() { l.serve(c, establish) }) }) {
			_ = c.Close()
		}
	}
}

// Close stops accepting. Open connections are not touched: Broker.Run closes them when what they sent is committed.
func (l *listener) Close(listeners.CloseFn) { l.stop() }

func (l *listener) stop() {
	l.once.Do(func() {
		close(l.closed)
		_ = l.socket.Close()
		if l.web != nil {
			_ = l.web.http.Close()
		}
	})
}

// serve is the life of a TCP or TLS connection, and the beginning of a WebSocket one.
func (l *listener) serve(c *conn, establish listeners.EstablishFn) {
	place := c.early.Load().place
	w := &greeted{Conn: c, socket: c}
	reason, err := "panic", error(nil)
	l.guard.run("greet", func() { reason, err = l.greet(w) })
	switch {
	case reason != "":
		_ = c.Close()
		if !place.evicted.Load() {
			l.refuse(c, reason, err)
		}
	case l.web != nil:
		l.web.hand(w)
	default:
		l.establish(w, establish)
	}
}

// greet does what comes before MQTT and HTTP. The reason says what was wrong, "" that nothing was.
func (l *listener) greet(w *greeted) (reason string, err error) {
	if err := l.proxies.introduce(w.socket); err != nil {
		return "proxy", err
	}
	if l.spec.TLS != nil {
		secure := tls.Server(w.socket, l.spec.TLS)
		if err := w.socket.secure(l.turns, secure.Handshake); err != nil {
			var unverified *tls.CertificateVerificationError
			if errors.As(err, &unverified) {
				return "certificate", err
			}
			return "tls", err
		}
		w.Conn, w.certified = secure, certifiedIDs(secure.ConnectionState())
	}
	return "", nil
}

// refuse counts a connection that did not get as far as CONNECT.
func (l *listener) refuse(c net.Conn, reason string, err error) {
	l.metrics.refused.WithLabelValues(reason).Inc()
	l.said.say(slog.LevelInfo, reason, "connection refused", "listener", l.spec.Name, "reason", reason, "remote_addr", c.RemoteAddr().String(),
		"error", err)
}

// establish hands a connection to mochi, which returns when it is over. Whatever panics below ends this connection
// alone.
func (l *listener) establish(g *greeted, establish listeners.EstablishFn) {
	defer func() { _ = g.Close() }()
	w := newWire(g, l.guard)
	if w.place == nil || !l.conns.add(w) {
		return // closed meanwhile
	}
	defer l.conns.remove(w)
	l.guard.run("connection", func() {
		if l.receive(w) {
			_ = establish(l.spec.Name, w) // it ends with an error, of which the client has been told
		}
	})
	if s := w.session.Load(); s != nil {
		l.guard.run("end", func() { l.ended(s) })
		w.gone()
	}
	if w.parting.Load() {
		w.linger()
	}
}
