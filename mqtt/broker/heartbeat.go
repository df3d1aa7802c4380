package broker

import (
	"context"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// heartbeat announces the gateway every second until ctx is done, and writes presence again where Sessions has lost it
// or never had it.
func (p *presence) heartbeat(ctx context.Context) {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	for beat := int64(1); ; beat++ {
		p.guard.run("heartbeat", func() { p.beat(ctx, beat) }) // it must not begin at 1 again
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *presence) beat(ctx context.Context, beat int64) {
	ctx, cancel := context.WithTimeout(ctx, 4*sessionsTimeout)
	defer cancel()
	// Before every announcement: the announcement itself may be what it is told by.
	lost, err := p.sessions.Lost(ctx, p.gateway.ID, p.gateway.Incarnation)
	if err != nil {
		p.failed("look for lost presence", err)
		p.cutOff(time.Now())
		return
	}
	if err := p.sessions.Announce(ctx, p.gateway, beat); err != nil {
		p.failed("announce the gateway", err)
		p.cutOff(time.Now())
		return
	}
	if p.apart.told() {
		p.log.Info("backends know of this gateway again")
	}
	p.apart = apart{}
	p.mu.Lock()
	unsaved := p.unsaved || lost
	p.unsaved = false
	p.mu.Unlock()
	if unsaved && !p.restore(ctx) {
		p.mu.Lock()
		p.unsaved = true
		p.mu.Unlock()
	}
	p.closeLeft(ctx)
}

// restore writes the presence of all live sessions again.
func (p *presence) restore(ctx context.Context) bool {
	p.metrics.restores.Inc()
	for i := range rollCallSlices {
		live := p.registry.slice(i)
		for len(live) > 0 {
			n := min(len(live), restoreBatch)
			batch := make([]command.Session, 0, n)
			for _, s := range live[:n] {
				if s.epoch.Load() != 0 {
					batch = append(batch, s.presence(p.gateway))
				}
			}
			live = live[n:]
			if len(batch) == 0 {
				continue
			}
			if err := p.sessions.Restore(ctx, batch); err != nil {
				p.failed("restore presence", err)
				return false
			}
		}
	}
	return true
}

// closeLeft closes what could not be closed when it was over.
func (p *presence) closeLeft(ctx context.Context) {
	p.mu.Lock()
	left := make([]command.Session, 0, len(p.closing))
	for _, s := range p.closing {
		left = append(left, s)
	}
	p.mu.Unlock()
	for _, s := range left {
		if err := p.sessions.Close(ctx, s); err != nil {
			p.failed("close a session", err)
			return
		}
		p.mu.Lock()
		if p.closing[s.Endpoint].Epoch == s.Epoch {
			delete(p.closing, s.Endpoint)
		}
		p.mu.Unlock()
	}
}

// verify looks again, until ctx is done, whether the sessions here are still the newest.
func (p *presence) verify(ctx context.Context) {
	newest, ok := p.sessions.(Newest)
	if !ok {
		return
	}
	tick := time.NewTicker(verifyEvery)
	defer tick.Stop()
	for next := 0; ; {
		select {
		case <-tick.C:
			next = p.verifySome(ctx, newest, next)
		case <-ctx.Done():
			return
		}
	}
}

// verifySome looks at some thousands of sessions, from a slice of the registry on, and says where to go on.
func (p *presence) verifySome(ctx context.Context, newest Newest, from int) (next int) {
	ctx, cancel := context.WithTimeout(ctx, sessionsTimeout)
	defer cancel()
	looked := 0
	for i := range rollCallSlices {
		next = (from + i) % rollCallSlices
		live := p.registry.slice(next)
		if i > 0 && looked+len(live) > verifyMost {
			return next
		}
		looked += len(live)
		for len(live) > 0 {
			n := min(len(live), restoreBatch)
			ids := make([]fleet.DeviceID, n)
			for k, s := range live[:n] {
				ids[k] = s.who.endpoint
			}
			live = live[n:]
			found, err := newest.Sessions(ctx, ids)
			if err != nil {
				p.failed("look up sessions", err)
				return next
			}
			for _, s := range found {
				p.opened(s)
			}
		}
	}
	return from
}
