package broker

import (
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/mochi-mqtt/server/v2/listeners"

	"meterline/mqtt/door"
)

// entrance is a listener for mochi, over one of the door's: mochi is given those who have been admitted.
type entrance struct {
	*door.Listener
	guard   *guard
	wires   *wires
	receive func(*wire) bool // admits a client, or not
	ended   func(*session)   // called once for every client that was admitted, after it is gone
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
	e.Listener.Serve(func(c *door.Conn) { e.establish(c, establish) })
}

// Close stops accepting. Open connections are not touched: Broker.Run closes them when what they sent is committed.
func (e *entrance) Close(listeners.CloseFn) { e.Stop() }

// establish hands a connection to mochi, which returns when it is over. Whatever panics below ends this connection
// alone.
func (e *entrance) establish(c *door.Conn, establish listeners.EstablishFn) {
	w := newWire(c, e.guard)
	if !e.wires.add(w) {
		return // closed meanwhile
	}
	defer e.wires.remove(w)
	e.guard.run("connection", func() {
		if e.receive(w) {
			_ = establish(e.ID(), w) // it ends with an error, of which the client has been told
		}
	})
	if s := w.session.Load(); s != nil {
		e.guard.run("end", func() { e.ended(s) })
		w.gone()
	}
	if w.parting.Load() {
		w.linger()
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
