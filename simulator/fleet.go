package simulator

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"meterline/meterread"
)

// Options say what a fleet is and where it connects.
type Options struct {
	Brokers     []string // host:port, mqtt://host:port or mqtts://host:port; each endpoint tries them in turn
	Sites       []Site
	Behaviour   Behaviour
	ConnectRate float64      // connections per second of the whole fleet; 0: as fast as it goes
	Ledger      *Ledger      // nil: nothing is kept for Check
	Observer    Observer     // nil: nobody
	Log         *slog.Logger // nil: silent
}

// Fleet is a number of endpoints over MQTT.
type Fleet struct {
	sites     []Site
	endpoints []*endpoint
	byID      map[meterread.DeviceID]*endpoint
	quiet     atomic.Bool // no more readings that nobody asked for
	stats     Stats
	ready     chan struct{}
	waiting   atomic.Int64 // endpoints that were never subscribed yet
}

// New builds a fleet; nothing connects before Run.
func New(o Options) (*Fleet, error) {
	if len(o.Brokers) == 0 {
		return nil, errors.New("build fleet: no broker")
	}
	if len(o.Sites) == 0 {
		return nil, errors.New("build fleet: no sites")
	}
	if err := o.Behaviour.Validate(); err != nil {
		return nil, fmt.Errorf("build fleet: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	limit := rate.NewLimiter(rate.Inf, 1)
	if o.ConnectRate > 0 {
		limit = rate.NewLimiter(rate.Limit(o.ConnectRate), max(1, int(o.ConnectRate/10)))
	}
	f := &Fleet{sites: o.Sites, ready: make(chan struct{}), byID: map[meterread.DeviceID]*endpoint{}}
	behaviour := o.Behaviour
	f.waiting.Store(int64(len(o.Sites)))
	for _, s := range o.Sites {
		l := &link{id: s.ID, credentials: s.Credentials, brokers: o.Brokers, behaviour: &behaviour, admit: limit.Wait,
			stats: &f.stats, news: make(chan news, 4)}
		e, err := newEndpoint(s, &behaviour, l, o, &f.stats)
		if err != nil {
			return nil, fmt.Errorf("build fleet: %w", err)
		}
		e.quiet = &f.quiet
		e.ready = func() {
			if f.waiting.Add(-1) == 0 {
				close(f.ready)
			}
		}
		f.endpoints = append(f.endpoints, e)
		f.byID[s.ID] = e
	}
	return f, nil
}

// Run connects all endpoints and keeps them at work until ctx is done; then they disconnect and it returns nil. Call it
// once.
func (f *Fleet) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, e := range f.endpoints {
		g.Go(func() error { return e.run(ctx) })
	}
	return g.Wait()
}

// Ready is closed when every endpoint has been subscribed to its commands once.
func (f *Fleet) Ready() <-chan struct{} { return f.ready }

// Waiting counts the endpoints that have not been subscribed yet.
func (f *Fleet) Waiting() int { return int(f.waiting.Load()) }

// Counters tell what the fleet did so far.
func (f *Fleet) Counters() Counters { return f.stats.Snapshot() }

// Sites are those the fleet was built of.
func (f *Fleet) Sites() []Site { return f.sites }

func hashOf(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}
