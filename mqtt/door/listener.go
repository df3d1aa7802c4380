package door

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// A dead peer is noticed by TCP within a minute, whatever its MQTT keep-alive.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// Listen says where clients connect.
type Listen struct {
	Name      string      // in logs, and for Addr: "mqtt", "mqtts", "ws"; unique
	Address   string      // host:port; port 0 takes a free one
	TLS       *tls.Config // nil: in the clear. That of Certificates follows its files
	WebSocket bool        // subprotocol mqtt, binary frames, any path
}

// Listener is one way in. It survives errors of accept, bounds what clients can hold before they are admitted, gives them a
// deadline for CONNECT, and survives what a connection's goroutine may throw.
type Listener struct {
	door   *Door
	spec   Listen
	bound  net.Listener
	web    *webServer // nil: not for WebSocket
	closed chan struct{}
	once   sync.Once
}

// bind opens the address.
func (d *Door) bind(spec Listen) (*Listener, error) {
	bound, err := patient().Listen(context.Background(), "tcp", spec.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", spec.Name, err)
	}
	l := &Listener{door: d, spec: spec, bound: bound, closed: make(chan struct{})}
	if spec.WebSocket {
		l.web = newWebServer(l)
	}
	return l, nil
}

// Spec is what was asked for.
func (l *Listener) Spec() Listen { return l.spec }

// Address is the address it is bound to.
func (l *Listener) Address() string { return l.bound.Addr().String() }

// Handle serves a connection. What is to be done for as long as the connection lives is rest: it begins when Handle has
// returned, in a goroutine whose stack is as small as that needs, and must survive its own panics. The connection is closed
// when rest has returned, or at once when it is nil.
type Handle func(c *Conn) (rest func())

// Serve accepts until Stop, and hands connections over, each in a goroutine of its own. Serve is called once.
func (l *Listener) Serve(handle Handle) {
	if l.web != nil {
		var web sync.WaitGroup
		web.Go(func() { l.web.serve(handle) })
		defer web.Wait()
	}
	for {
		c, err := l.accept()
		if err != nil {
			return // closed: accept bears everything else
		}
		if !l.door.start(func() { l.serve(c, handle) }) {
			_ = c.Close()
		}
	}
}

// Stop stops accepting. Open connections are not touched.
func (l *Listener) Stop() {
	l.once.Do(func() {
		close(l.closed)
		_ = l.bound.Close()
		if l.web != nil {
			_ = l.web.http.Close()
		}
	})
}

// serve is the life of a TCP or TLS connection, and the beginning of a WebSocket one.
func (l *Listener) serve(s *socket, handle Handle) {
	c := &Conn{Conn: s, socket: s, place: s.early.Load().place}
	reason, err := "panic", error(nil)
	l.door.o.Guard("greet", func() { reason, err = l.greet(c) })
	switch {
	case reason != "":
		_ = s.Close()
		if !c.Evicted() {
			l.refuse(s, reason, err)
		}
	case l.web != nil:
		l.web.hand(c)
	default:
		l.run(c, handle)
	}
}

// run hands a connection over, unless it was closed meanwhile.
func (l *Listener) run(c *Conn, handle Handle) {
	var rest func()
	defer func() {
		if rest == nil {
			_ = c.Close()
		}
	}()
	if c.socket.early.Load() == nil {
		return
	}
	if rest = handle(c); rest != nil {
		l.door.running.Go(func() { // Wait waits for us: it may begin all the same
			rest()
			_ = c.Close()
		})
	}
}

// greet does what comes before MQTT and HTTP. The reason says what was wrong, "" that nothing was.
func (l *Listener) greet(c *Conn) (reason string, err error) {
	if err := l.door.proxies.introduce(c.socket); err != nil {
		return "proxy", err
	}
	if l.spec.TLS == nil {
		return "", nil
	}
	secure := tls.Server(c.socket, l.spec.TLS)
	if err := c.socket.secure(l.door.turns, secure.Handshake); err != nil {
		var unverified *tls.CertificateVerificationError
		if errors.As(err, &unverified) {
			return "certificate", err
		}
		return "tls", err
	}
	c.Conn = secure
	if chains := secure.ConnectionState().VerifiedChains; len(chains) > 0 {
		c.leaf = chains[0][0]
	}
	return "", nil
}

// refuse counts a connection that did not get as far as CONNECT.
func (l *Listener) refuse(c net.Conn, reason string, err error) {
	l.door.Refused(reason)
	l.door.o.Say(slog.LevelInfo, reason, "connection refused", "listener", l.spec.Name, "reason", reason, "remote_addr", c.RemoteAddr().String(),
		"error", err)
}
