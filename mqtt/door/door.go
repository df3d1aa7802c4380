package door

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ConnectTimeout is the time from accept to the end of CONNECT: PROXY header, TLS and WebSocket handshakes included.
const ConnectTimeout = 5 * time.Second

// Options are what a door needs.
type Options struct {
	Listeners            []Listen
	Unadmitted           int            // connections that are not admitted yet, in all; 0: 16384. At most half the file descriptors
	UnadmittedPerAddress int            // of one address (IPv6: /64) before those that keep us waiting are closed; 0: 256
	Proxies              []netip.Prefix // from these networks every connection begins with a PROXY header (version 2)
	Certificates         *Certificates  // of listeners: read again while Run runs; nil: none to be
	Backlog              int            // bytes a client may leave unread
	Message              int            // bytes of a WebSocket message; at least 1 MiB

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are not registered
	// Say logs what clients could flood the log with. Messages and kinds are few.
	Say func(level slog.Level, kind, msg string, args ...any)
	// Guard runs f and survives its panic.
	Guard func(where string, f func())
}

// A Door is the listeners of a gateway, with what they share.
type Door struct {
	o       Options
	metrics *metrics
	gate    *gate
	turns   *turns
	proxies proxies
	all     []*Listener

	running sync.WaitGroup // a count for each connection, and for each drainer
	mu      sync.Mutex
	closed  bool
}

// New binds the listeners: from now on clients queue up, and each Listener's Serve serves them.
func New(o Options) (*Door, error) {
	m := newMetrics(o.Registerer)
	d := &Door{o: o, metrics: m, gate: newGate(o.Unadmitted, o.UnadmittedPerAddress, m), turns: newTurns(), proxies: o.Proxies}
	for _, spec := range o.Listeners {
		l, err := d.bind(spec)
		if err != nil {
			d.Stop()
			return nil, err
		}
		d.all = append(d.all, l)
	}
	return d, nil
}

// Listeners are those that are bound, in the order of the options.
func (d *Door) Listeners() []*Listener { return d.all }

// Run reads the TLS files again whenever they change, until ctx is done.
func (d *Door) Run(ctx context.Context) { d.o.Certificates.run(ctx, d.o.Logger, d.metrics) }

// Refused counts a client that is not admitted, by a reason of which there are few.
func (d *Door) Refused(reason string) { d.metrics.refused.WithLabelValues(reason).Inc() }

// Stop takes nobody in any more: it stops accepting, and closes all connections that have not been admitted. Others are not
// touched. It may be called again.
func (d *Door) Stop() {
	for _, l := range d.all {
		l.Stop()
	}
	d.gate.close()
}

// Wait waits for the end of all connections, after Stop. Nothing begins any more.
func (d *Door) Wait() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.running.Wait()
}

// start runs f, which Wait waits for, unless nothing begins any more.
func (d *Door) start(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.running.Go(func() {
		Deepen()
		d.o.Guard("connection", f)
	})
	return true
}
