package broker

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fault"
	"meterline/fleet"
)

const (
	sessionsTimeout = time.Second // for one call to Sessions
	sessionsPause   = time.Second // after a failed one, new sessions do without
	announceEvery   = time.Second
	restoreBatch    = 500
	rollCallSlices  = 15 // one a second: the whole roll takes 15 s
	rollCallBatch   = 500
	rollCallPause   = 25 * time.Millisecond
	verifyEvery     = time.Second
	verifyMost      = 5000 // sessions a second; with more of them here, their turn comes later
	resumeMost      = 7 * 24 * time.Hour
)

// presence keeps who is connected: at most one own session per endpoint, the newest, here and on all gateways.
type presence struct {
	log      *slog.Logger
	metrics  *metrics
	guard    *guard
	gateway  command.Gateway
	sessions Sessions
	registry *registry
	uplinks  *uplinks
	delivery *delivery
	now      func() time.Time

	apart apart // the heartbeat's goroutine only

	lastEpoch atomic.Int64 // largest epoch given without Sessions
	downUntil atomic.Int64 // Unix nanoseconds: Sessions failed shortly before

	mu      sync.Mutex
	unsaved bool                               // sessions were opened that Sessions does not know
	closing map[fleet.DeviceID]command.Session // are over, and Sessions does not know
}

func newPresence(o Options, g *guard, r *registry, u *uplinks, d *delivery, m *metrics) *presence {
	return &presence{
		log: o.Logger, metrics: m, guard: g, gateway: o.Gateway, sessions: o.Sessions,
		registry: r, uplinks: u, delivery: d, now: fault.Now,
		closing: map[fleet.DeviceID]command.Session{},
	}
}

// begin makes s the newest session of its endpoint: the one before is stopped at once. It waits for Sessions, a second
// at most, and goes on without it.
func (p *presence) begin(ctx context.Context, s *session) {
	p.registry.enter(s)
	if !s.own() {
		return
	}
	place := s.slot
	place.order.Lock()
	defer place.order.Unlock()
	if old := place.current.Swap(s); old != nil {
		p.metrics.stopped.WithLabelValues("taken_over").Inc()
		if !fault.Bug(fault.BugOldStays) {
			old.link.stop(packets.ErrSessionTakenOver)
		}
		if !s.clean { // a persistent session goes on here
			s.resumed = p.keep(old, old.isSubscribed()).subscribed
		}
	} else if !s.clean && place.last.until.After(p.now()) {
		s.resumed = place.last.subscribed
	}
	place.last = resumable{}
	s.epoch.Store(p.open(ctx, s))
	p.yield(place)
}

// keep is what a session leaves behind for the next of its endpoint.
func (p *presence) keep(s *session, subscribed bool) resumable {
	if lasts := time.Duration(s.expiry.Load()) * time.Second; subscribed && lasts > 0 {
		return resumable{subscribed: true, until: p.now().Add(min(lasts, resumeMost))}
	}
	return resumable{}
}

// open tells Sessions of s; without it the epoch is the time in microseconds, or one more than the last.
func (p *presence) open(ctx context.Context, s *session) int64 {
	p.mu.Lock()
	delete(p.closing, s.who.endpoint)
	p.mu.Unlock()
	if p.now().UnixNano() >= p.downUntil.Load() {
		ctx, cancel := context.WithTimeout(ctx, sessionsTimeout)
		defer cancel()
		epoch, err := p.sessions.Open(ctx, s.presence(p.gateway))
		if err == nil {
			return epoch
		}
		p.failed("open a session", err)
	}
	p.mu.Lock()
	p.unsaved = true
	p.mu.Unlock()
	for {
		last := p.lastEpoch.Load()
		epoch := max(p.now().UnixMicro(), last+1)
		if p.lastEpoch.CompareAndSwap(last, epoch) {
			return epoch
		}
	}
}

// failed notes that Sessions cannot be reached.
func (p *presence) failed(what string, err error) {
	p.metrics.sessionsFailures.Inc()
	now := p.now()
	if p.downUntil.Swap(now.Add(sessionsPause).UnixNano()) < now.UnixNano() {
		p.log.Warn("presence cannot be reached", "doing", what, "error", err)
	}
}

// subscribed says that commands can reach s from now on. suback is called before the first of them is sent.
func (p *presence) subscribed(s *session, suback func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	suback()
	if !s.subscribed && !s.ended {
		s.subscribed = true
		p.hint(s, command.UplinkConnected)
	}
}

// unsubscribed says that they cannot any more, while s goes on.
func (p *presence) unsubscribed(s *session) {
	if p.delivery.end(s, false) {
		p.hint(s, command.UplinkDisconnected)
	}
}

// end is called once, when the connection of s is gone. It waits for Sessions, a second at most.
func (p *presence) end(ctx context.Context, s *session) {
	if !s.own() {
		p.registry.leave(s, false)
		return
	}
	subscribed := p.delivery.end(s, true)
	if subscribed {
		p.hint(s, command.UplinkDisconnected)
	}
	place := s.slot
	place.order.Lock()
	defer place.order.Unlock()
	if !place.current.CompareAndSwap(s, nil) { // taken over here: Sessions knows
		p.registry.leave(s, place.last.subscribed)
		return
	}
	place.last = p.keep(s, subscribed)
	p.close(ctx, s.presence(p.gateway))
	p.registry.leave(s, place.last.subscribed)
}

func (p *presence) close(ctx context.Context, s command.Session) {
	ctx, cancel := context.WithTimeout(ctx, sessionsTimeout)
	defer cancel()
	if p.now().UnixNano() >= p.downUntil.Load() {
		err := p.sessions.Close(ctx, s)
		if err == nil {
			return
		}
		p.failed("close a session", err)
	}
	p.mu.Lock()
	p.closing[s.Endpoint] = s
	p.mu.Unlock()
}

// opened looks at a session that was opened somewhere: a newer one on another gateway ends ours.
func (p *presence) opened(other command.Session) {
	if other.Gateway == p.gateway.ID && other.Incarnation == p.gateway.Incarnation {
		return
	}
	place := p.registry.slot(other.Endpoint)
	if place == nil {
		return
	}
	for {
		known := place.foreign.Load()
		if known >= other.Epoch || place.foreign.CompareAndSwap(known, other.Epoch) {
			break
		}
	}
	p.yield(place)
}

// yield stops the session here when another gateway has a newer one. Called after either side has changed.
func (p *presence) yield(place *slot) {
	s := place.current.Load()
	if s == nil || fault.Bug(fault.BugOldReigns) {
		return
	}
	if epoch := s.epoch.Load(); epoch != 0 && epoch < place.foreign.Load() {
		p.metrics.stopped.WithLabelValues("taken_over").Inc()
		s.link.stop(packets.ErrSessionTakenOver)
	}
}

// hint appends that s connected or disconnected, as far as commands are concerned.
func (p *presence) hint(s *session, kind command.UplinkKind) {
	payload, err := json.Marshal(struct {
		RemoteAddr string    `json:"remote_addr"`
		Since      time.Time `json:"since"`
	}{s.remote, s.since.UTC()})
	if err != nil {
		p.log.Error("cannot encode a hint", "error", err) // cannot happen: a string and a time
		return
	}
	p.uplinks.hint(s.who.endpoint, s.epoch.Load(), kind, payload)
}

// rollCall appends again, every 15 s, that a session is connected: a hint that was shed is made good.
func (p *presence) rollCall(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % rollCallSlices {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		p.guard.run("roll call", func() { p.call(ctx, i) })
	}
}

// call calls one slice of the roll, a batch at a time: the log has other work.
func (p *presence) call(ctx context.Context, i int) {
	for n, s := range p.registry.slice(i) {
		if n > 0 && n%rollCallBatch == 0 {
			select {
			case <-time.After(rollCallPause):
			case <-ctx.Done():
				return
			}
		}
		p.here(s)
	}
	p.registry.prune(i, p.now())
}

// here appends that s is connected, if commands can reach it.
func (p *presence) here(s *session) {
	s.mu.Lock() // so that it cannot be appended after the session's disconnected
	defer s.mu.Unlock()
	if s.subscribed && !s.ended {
		p.hint(s, command.UplinkConnected)
	}
}

// watch follows what other gateways open, until ctx is done.
func (p *presence) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.sessions.Watch(ctx, p.opened); err != nil && ctx.Err() == nil {
			p.failed("watch sessions", err)
		}
		select {
		case <-time.After(announceEvery):
		case <-ctx.Done():
		}
	}
}
