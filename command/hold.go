package command

import (
	"context"
	"slices"
	"time"

	"meterline/fault"
)

// hold renews what is owned, takes over what is free and gives back what is more than a fair share.
func (w *Worker) hold(ctx context.Context) error {
	if !dueNow(&w.next.hold, holdEvery) {
		return nil
	}
	behind := w.projector.behind()
	if w.unsettled {
		behind = time.Since(longAgo)
	}
	w.unsettled = true
	held, excess, err := w.opt.Ledger.Hold(ctx, w.opt.Owner, w.opt.Lease, behind)
	if err != nil {
		return err
	}
	fault.Point(fault.HoldRenewed)
	if excess > 0 {
		fault.Point(fault.HoldReleasing)
		parts := sorted(held)
		give := parts[len(parts)-excess:]
		if err := w.opt.Ledger.Release(ctx, w.opt.Owner, give); err != nil {
			return err
		}
		for _, p := range give {
			delete(held, p)
		}
	}
	var lost, taken []int
	for p, epoch := range w.fence {
		if held[p] != epoch {
			lost = append(lost, p)
		}
	}
	w.granted = sorted(held)
	if log, wants := w.opt.Log.(Owning); wants {
		log.Owns(w.granted)
	}
	w.forget(lost)
	for p, epoch := range held {
		if _, had := w.fence[p]; !had {
			taken = append(taken, p)
			w.fence[p] = epoch
		}
	}
	w.opt.Metrics.Partitions.Set(float64(len(w.fence)))
	_, first := w.fence[0]
	w.counts.Store(first)
	err = w.takeOver(ctx, taken)
	w.unsettled = err != nil
	return err
}

// held lists the partitions that are owned.
func (w *Worker) held() []int { return sorted(w.fence) }

func sorted(f Fence) []int {
	ps := make([]int, 0, len(f))
	for p := range f {
		ps = append(ps, p)
	}
	slices.Sort(ps)
	return ps
}

// fenceOf is the fence of the given partitions alone.
func (w *Worker) fenceOf(partitions map[int]struct{}) Fence {
	f := Fence{}
	for p := range partitions {
		f[p] = w.fence[p]
	}
	return f
}

// forget drops everything that is known of partitions. It can all be read again.
func (w *Worker) forget(partitions []int) {
	for _, p := range partitions {
		delete(w.fence, p)
		delete(w.cursors, p)
		delete(w.horizon, p)
		delete(w.unread, p)
		delete(w.full, p)
		w.ahead.forget(p)
	}
	if len(w.fence) == 0 {
		w.timers = timers{}
	}
	for id, e := range w.endpoints {
		if _, mine := w.fence[e.partition]; mine {
			continue
		}
		for k := range e.flights {
			w.land(e, k)
		}
		delete(w.endpoints, id)
		delete(w.ready, id)
		delete(w.urgent, id)
		delete(w.strangers, id)
	}
}

// takeOver learns what a new owner must know. Messages in flight get a whole lease again: what the owner before heard of
// them, and did not write down, is not known.
func (w *Worker) takeOver(ctx context.Context, taken []int) error {
	if len(taken) == 0 {
		return nil
	}
	r, err := w.opt.Ledger.Recover(ctx, taken)
	if err != nil {
		w.forget(taken) // not half of it
		return err
	}
	fault.Point(fault.TakeOverRecovered)
	w.signal.heard()
	now := w.opt.Clock.Now()
	if w.arrivals.from == 0 {
		w.arrivals.from = r.Seq
	}
	for _, p := range r.Positions {
		w.cursors[p.Partition] = p
		w.ahead.read(p, true) // for all that is known yet
	}
	for _, id := range r.Endpoints {
		w.wake(id)
	}
	for _, o := range r.InFlight {
		e := w.at(o.EndpointID)
		if e == nil || fault.Bug(fault.BugFlightsLost) {
			continue
		}
		e.learn(o)
		lease := now.Add(w.opt.RunTimeout.Of(o.Kind))
		if o.State == Sent {
			lease = now.Add(w.opt.DeliveryLease)
		}
		w.takeOff(e, o, lease)
	}
	for _, t := range r.Waiting {
		w.timers.set(t.Endpoint, t.At)
	}
	w.projector.forget(r.Commands, r.Read)
	w.due.again()
	w.opt.Logger.Info("took over partitions", "partitions", slices.Sorted(slices.Values(taken)), "in_flight", len(r.InFlight), "endpoints", len(r.Endpoints))
	return nil
}
