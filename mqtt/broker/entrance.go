package broker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/door"
)

// entrance is a listener for mochi, over one of the door's. Who has been admitted is served here: endpoints by our own loop,
// service clients and backends by mochi.
type entrance struct {
	*door.Listener
	life      context.Context // of the broker, the drain at its end included
	guard     *guard
	wires     *wires
	front     *front
	endpoints *endpoints
	services  *services
}

var _ listeners.Listener = (*entrance)(nil)

// Init, ID, Protocol, Serve and Close are what mochi asks for, beside Address.
func (e *entrance) Init(*slog.Logger) error { return nil }

// ID names the listener.
func (e *entrance) ID() string { return e.Spec().Name }

// Protocol is for mochi's log.
func (e *entrance) Protocol() string { return e.Spec().Name }

// Serve accepts until Close.
func (e *entrance) Serve(establish listeners.EstablishFn) {
	e.Listener.Serve(func(c *door.Conn) (rest func()) { return e.establish(c, establish) })
}

// Close stops accepting. Open connections are not touched: Broker.Run closes them when what they sent is committed.
func (e *entrance) Close(listeners.CloseFn) { e.Stop() }

// establish begins the life of a connection, and ends it when there is nothing to follow. An endpoint that has been welcomed
// is served by the rest. Whatever panics below ends this connection alone.
func (e *entrance) establish(c *door.Conn, establish listeners.EstablishFn) (rest func()) {
	w := newWire(c, e.guard)
	if !e.wires.add(w) {
		return nil // closed meanwhile
	}
	welcome := false
	err := e.guard.call("connection", func() error { welcome = e.receive(w, establish); return nil })
	if welcome {
		return func() { e.serve(w) }
	}
	e.over(w, err)
	return nil
}

// receive admits a client, or not. It serves a service client or a backend until its connection has to end; for an endpoint
// that is to be served it is true.
func (e *entrance) receive(w *wire, establish listeners.EstablishFn) (welcome bool) {
	s := e.front.receive(w)
	switch {
	case s == nil:
	case s.who.role == roleEndpoint:
		return e.endpoints.welcome(e.life, w, s)
	default:
		_ = establish(e.ID(), &mochiConn{wire: w, left: introduce(w.version)}) // an error it ends with has been told
	}
	return false
}

// serve is the life of an endpoint's connection.
func (e *entrance) serve(w *wire) {
	err := e.guard.call("connection", func() error { e.endpoints.serve(e.life, w, w.session.Load()); return nil })
	door.Deepen()
	e.over(w, err)
}

// over ends what is left of a connection, after an error only if that was a panic.
func (e *entrance) over(w *wire, panicked error) {
	defer e.wires.remove(w)
	if panicked != nil {
		w.part(packets.ErrImplementationSpecificError)
	}
	if s := w.session.Load(); s != nil {
		e.guard.run("end", func() { e.ended(s) })
		w.gone()
	}
	if w.parting.Load() {
		w.linger()
	}
}

// ended is called once for every client that was admitted, when its connection is gone.
func (e *entrance) ended(s *session) {
	if s.who.role == roleEndpoint {
		e.endpoints.end(e.life, s)
	} else {
		e.services.end(s)
	}
}

// wires knows every open connection that may speak MQTT, also those that have not said CONNECT yet.
type wires struct {
	mu     sync.Mutex
	open   map[*wire]struct{}
	closed bool
}

// add is false when no more connections are taken.
func (c *wires) add(w *wire) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.open[w] = struct{}{}
	}
	return !c.closed
}

func (c *wires) remove(w *wire) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, w)
}

// close takes no more connections and returns those that are open.
func (c *wires) close() []*wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return slices.Collect(maps.Keys(c.open))
}
