package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// arrivalWatch finds commands that no notice told of.
type arrivalWatch struct {
	from   int64              // everything up to here is known
	seen   map[int64]struct{} // known beyond it
	grew   bool               // some command was being expanded, however shortly
	unseen map[ID]DeviceID    // commands with endpoints still to be looked up, after this device
	timed  time.Time          // NotBefore is known up to here, by the record's clock
}

func newArrivalWatch() arrivalWatch {
	return arrivalWatch{seen: map[int64]struct{}{}, unseen: map[ID]DeviceID{}}
}

// heard notes a command that a notice told everything of.
func (a *arrivalWatch) heard(n Arrived) {
	if !n.Whole {
		a.grew = true
	} else if n.Seq > a.from {
		a.seen[n.Seq] = struct{}{}
	}
}

// advance leaves behind what is known without a gap: nothing can show up there any more, and it need not be read again.
func (a *arrivalWatch) advance() {
	for {
		if _, known := a.seen[a.from+1]; !known {
			return
		}
		a.from++
		delete(a.seen, a.from)
	}
}

const (
	arrivalBatch = 2000
	// Numbers are given before they are committed: a command may show up this long after one with a larger number.
	arrivalSettles = 5 * time.Second
)

// lookAround finds what notices did not tell: new commands, and those whose NotBefore has come.
func (w *Worker) lookAround(ctx context.Context) error {
	w.opt.Metrics.Lag.Set(w.lag().Seconds())
	w.arrivals.advance()
	arrivals, err := w.newArrivals(ctx)
	if err != nil {
		return err
	}
	for _, a := range arrivals {
		_, seen := w.arrivals.seen[a.Seq]
		if _, begun := w.arrivals.unseen[a.ID]; !begun && (a.Expanding || !seen) {
			w.arrivals.unseen[a.ID] = ""
		}
		w.arrivals.seen[a.Seq] = struct{}{}
	}
	for _, a := range arrivals {
		if a.Age < arrivalSettles {
			break
		}
		w.arrivals.from = max(w.arrivals.from, a.Seq)
	}
	for seq := range w.arrivals.seen {
		if seq <= w.arrivals.from {
			delete(w.arrivals.seen, seq)
		}
	}
	if err := w.lookUp(ctx); err != nil {
		return err
	}
	growing := map[ID]bool{}
	for _, a := range arrivals {
		growing[a.ID] = a.Expanding
	}
	for id := range w.arrivals.unseen {
		if growing[id] {
			w.arrivals.grew = true
		} else { // looked up to its end
			delete(w.arrivals.unseen, id)
		}
	}
	if w.arrivals.grew && len(w.arrivals.unseen) == 0 {
		// Commands that came after a large one waited for it to be expanded: their endpoints have something now.
		w.arrivals.grew = false
		for id := range w.endpoints {
			w.wake(id)
		}
	}
	return w.lookAtTime(ctx)
}

// lag is how far the uplink log has not been read, in the partition that is furthest behind.
func (w *Worker) lag() time.Duration {
	now, most := w.opt.Clock.Now(), time.Duration(0)
	for p := range w.fence {
		if h, ok := w.horizon[p]; ok {
			most = max(most, now.Sub(h))
		}
	}
	return most
}

// newArrivals lists what was accepted since everything that is known, page by page.
func (w *Worker) newArrivals(ctx context.Context) ([]Arrival, error) {
	var all []Arrival
	for after := w.arrivals.from; ; {
		page, err := w.opt.Ledger.Arrivals(ctx, after, arrivalBatch)
		if err != nil {
			return nil, fmt.Errorf("look for new commands: %w", err)
		}
		newer := 0
		for _, a := range page {
			if a.Seq > after || after == w.arrivals.from { // those that are expanding are on every page
				all = append(all, a)
			}
			if a.Seq > after {
				newer++
			}
		}
		if newer < arrivalBatch || len(all) > mostNotices {
			return all, nil
		}
		after = page[len(page)-1].Seq
	}
}

// lookUp wakes the endpoints of commands whose notice did not name them, from where it stopped last time.
func (w *Worker) lookUp(ctx context.Context) error {
	for _, id := range slices.Sorted(maps.Keys(w.arrivals.unseen)) { // the oldest first
		endpoints, last, err := w.opt.Ledger.Endpoints(ctx, id, w.held(), w.arrivals.unseen[id])
		if err != nil {
			return fmt.Errorf("look up endpoints: %w", err)
		}
		for _, e := range endpoints {
			w.wake(e)
		}
		if last != "" {
			w.arrivals.unseen[id] = last
		}
	}
	return nil
}

// lookAtTime wakes the endpoints of commands whose NotBefore has come.
func (w *Worker) lookAtTime(ctx context.Context) error {
	now := w.opt.Clock.Now().Add(-clockSlack)
	if w.arrivals.timed.IsZero() {
		w.arrivals.timed = now.Add(-arrivalSettles)
	}
	ids, err := w.opt.Ledger.Timed(ctx, w.arrivals.timed, now)
	if err != nil {
		return fmt.Errorf("look for commands whose time has come: %w", err)
	}
	for _, id := range ids {
		w.arrivals.unseen[id] = ""
	}
	if err := w.lookUp(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		delete(w.arrivals.unseen, id)
	}
	w.arrivals.timed = now
	return nil
}

// gatewayWatch judges gateways by their heartbeat: presence is true only while it advances.
type gatewayWatch struct {
	beats map[string]beat // by "gateway/incarnation"
}

type beat struct {
	n     int64
	since time.Time // this process's clock
}

// living says whether the session's gateway is not known to be gone.
func (g gatewayWatch) living(s Session) bool {
	if g.beats == nil {
		return true
	}
	if b, ok := g.beats[s.name()]; ok {
		return time.Since(b.since) < gatewaySilence
	}
	return !g.replaced(s)
}

// sweepGateways finds gateways that are gone: their sessions are over, and what was not delivered goes back.
func (w *Worker) sweepGateways(ctx context.Context) error {
	limit, stop := context.WithTimeout(ctx, presenceWithin)
	defer stop()
	gateways, err := w.opt.Presence.Gateways(limit)
	if err != nil {
		// Not to be able to look does not mean that they are gone.
		w.opt.Metrics.Stumbles.Inc()
		w.gateways.beats = nil
		return nil
	}
	before, now := w.gateways.beats, time.Now()
	w.gateways.beats = map[string]beat{}
	for g, n := range gateways {
		name := g.ID + "/" + g.Incarnation
		b := beat{n, now}
		if was, ok := before[name]; ok && was.n == n {
			b = was
		}
		w.gateways.beats[name] = b
	}
	if before == nil {
		return nil
	}
	return w.dropSessions(ctx, before)
}

// dropSessions takes the sessions of gateways that are gone for over. A gateway is gone when its heartbeat stands still, or
// when it was there before and has made place for another incarnation.
func (w *Worker) dropSessions(ctx context.Context, before map[string]beat) error {
	gone := func(s Session) bool {
		name := s.name()
		b, listed := w.gateways.beats[name]
		if listed {
			return time.Since(b.since) >= gatewaySilence
		}
		_, was := before[name]
		return was && w.gateways.replaced(s)
	}
	var keys []Key
	for _, e := range w.endpoints {
		if !e.online() || !gone(e.session) {
			continue
		}
		e.known, e.session = false, Session{}
		w.rouse(e) // it may have come back elsewhere
		for k, f := range e.flights {
			if f.state == Sent {
				keys = append(keys, k)
			}
		}
	}
	return w.requeue(ctx, keys, "gateway gone")
}

// replaced says whether the session's gateway runs in another incarnation now.
func (g gatewayWatch) replaced(s Session) bool {
	for name := range g.beats {
		if len(name) > len(s.Gateway) && name[:len(s.Gateway)+1] == s.Gateway+"/" {
			return true
		}
	}
	return false
}
