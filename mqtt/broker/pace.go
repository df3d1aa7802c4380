package broker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"meterline/fleet"
)

const (
	paceLook  = 250 * time.Millisecond // how soon somebody who is held notices that the gateway ends
	paceSweep = 1024                   // endpoints
)

// pace slows endpoints that publish more than they may: their readers wait, the network fills up behind them, and they
// are held to the rate themselves; nothing is dropped. The deadline of keep-alive begins anew with each read, so it does
// not run out meanwhile; but PINGREQ waits behind the publish, and this is why the limits have a lower bound where they
// are set: an endpoint is not to be held longer than its client waits for PINGRESP. All sessions of an endpoint share its
// limits. The methods of nil do nothing.
type pace struct {
	messages rate.Limit
	bytes    rate.Limit
	largest  int // payload
	metrics  *metrics
	now      func() time.Time

	mu    sync.Mutex
	known map[fleet.DeviceID]*limits
	sweep int // known is swept when it has this size
}

type limits struct{ messages, bytes *rate.Limiter }

// newPace is nil when there is no limit.
func newPace(o Options, m *metrics) *pace {
	if o.PublishRate <= 0 && o.PublishBytes <= 0 {
		return nil
	}
	p := &pace{
		messages: rate.Inf, bytes: rate.Inf, largest: o.MaxPayload + packetOverhead, metrics: m, now: time.Now,
		known: map[fleet.DeviceID]*limits{}, sweep: paceSweep,
	}
	if o.PublishRate > 0 {
		p.messages = rate.Limit(o.PublishRate)
	}
	if o.PublishBytes > 0 {
		p.bytes = rate.Limit(o.PublishBytes)
	}
	return p
}

// hold waits until the endpoint may publish so many bytes more, or ctx is done, or the gateway ends.
func (p *pace) hold(ctx context.Context, endpoint fleet.DeviceID, bytes int, ending *atomic.Bool) {
	if p == nil {
		return
	}
	began := p.now()
	until := began.Add(p.reserve(endpoint, bytes, began))
	for left := until.Sub(began); left > 0 && ctx.Err() == nil && !ending.Load(); left = until.Sub(p.now()) {
		select {
		case <-time.After(min(left, paceLook)):
		case <-ctx.Done():
		}
	}
	if until.After(began) {
		p.metrics.held.Add(p.now().Sub(began).Seconds())
	}
}

// reserve takes the publish from the endpoint's limits, and says how long it has to wait.
func (p *pace) reserve(endpoint fleet.DeviceID, bytes int, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.known[endpoint]
	if l == nil {
		p.forget(now)
		// A second's worth at once, and at least one publish of any size.
		l = &limits{
			messages: rate.NewLimiter(p.messages, max(1, whole(p.messages))),
			bytes:    rate.NewLimiter(p.bytes, max(p.largest, whole(p.bytes))),
		}
		p.known[endpoint] = l
	}
	return max(l.messages.ReserveN(now, 1).DelayFrom(now), l.bytes.ReserveN(now, min(bytes, l.bytes.Burst())).DelayFrom(now))
}

// whole is a limit as a number of tokens; without a limit the number does not matter.
func whole(l rate.Limit) int {
	if l == rate.Inf {
		return 0
	}
	return int(l)
}

// forget drops the limits that are not used up at all: a new one is the same. p.mu is held.
func (p *pace) forget(now time.Time) {
	if len(p.known) < p.sweep {
		return
	}
	for id, l := range p.known {
		if l.messages.TokensAt(now) >= float64(l.messages.Burst()) && l.bytes.TokensAt(now) >= float64(l.bytes.Burst()) {
			delete(p.known, id)
		}
	}
	p.sweep = max(paceSweep, 2*len(p.known))
}
