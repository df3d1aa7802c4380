package commandtest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// What the record of the product does, in numbers.
const (
	leastLeft   = 2 * time.Second  // nothing is sent with less
	settled     = 10 * time.Second // after which a command's number is settled
	endedLately = time.Minute
	readEvery   = time.Minute
)

// Ready implements command.Ledger.
func (l *Ledger) Ready(_ context.Context, heads []command.Head) (map[meterread.DeviceID]command.Front, error) {
	ready := make(map[meterread.DeviceID]command.Front, len(heads))
	now := l.now()
	for _, h := range heads {
		var queue []*command.Operation
		for _, id := range l.order {
			for _, o := range l.of[id] {
				if o.EndpointID == h.Endpoint && o.Partition == h.Partition && o.State == command.Queued && o.Priority >= h.MinPriority &&
					!o.NextAt.After(now) && o.ExpiresAt.After(now.Add(leastLeft)) && !slices.Contains(h.Busy, o.DeviceID) && l.inTurn(o, now) {
					queue = append(queue, o)
				}
			}
		}
		slices.SortFunc(queue, func(a, b *command.Operation) int {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.DeviceID, b.DeviceID))
		})
		found := map[meterread.DeviceID]bool{}
		var front command.Front
		for _, o := range queue {
			if len(front.Operations) == h.Limit || found[o.DeviceID] {
				front.More = true
				continue
			}
			found[o.DeviceID] = true
			front.Operations = append(front.Operations, l.load(o))
		}
		ready[h.Endpoint] = front
	}
	return ready, nil
}

// inTurn says whether no older command of the same tenant and priority has yet to get to the operation's device.
func (l *Ledger) inTurn(o *command.Operation, now time.Time) bool {
	for _, c := range l.commands {
		if c.Expanding && c.Seq < o.Seq && c.Tenant == o.Tenant && c.Priority == o.Priority && c.Expanded < o.DeviceID &&
			c.CancelledAt.IsZero() && c.ExpiresAt.After(now) && !c.NotBefore.After(now) {
			return false
		}
	}
	return true
}

// Recover implements command.Ledger.
func (l *Ledger) Recover(_ context.Context, partitions []int) (command.Recovered, error) {
	now := l.now()
	var r command.Recovered
	waiting := map[meterread.DeviceID]time.Time{}
	for _, id := range l.order {
		for _, o := range l.of[id] {
			if !o.State.Open() || !slices.Contains(partitions, o.Partition) {
				continue
			}
			next, had := waiting[o.EndpointID]
			if o.State.InFlight() {
				r.InFlight = append(r.InFlight, l.load(o))
			} else if o.NextAt.After(now) && (next.IsZero() || o.NextAt.Before(next)) {
				next = o.NextAt
			}
			if waiting[o.EndpointID] = next; !had {
				r.Endpoints = append(r.Endpoints, o.EndpointID)
			}
		}
	}
	slices.SortFunc(r.InFlight, func(a, b *command.Operation) int { return compareKeys(a.Key(), b.Key()) })
	slices.Sort(r.Endpoints)
	for _, e := range r.Endpoints {
		if at := waiting[e]; !at.IsZero() {
			r.Waiting = append(r.Waiting, command.Waiting{Endpoint: e, At: at})
		}
	}
	since := now
	for _, n := range slices.Sorted(slices.Values(partitions)) {
		p := l.partitions[n]
		r.Positions = append(r.Positions, p.at)
		if !p.idleSince.IsZero() && p.idleSince.Before(since) {
			since = p.idleSince
		}
	}
	l.recoverCommands(&r, now, since)
	return r, nil
}

func (l *Ledger) recoverCommands(r *command.Recovered, now, since time.Time) {
	for _, id := range l.order {
		c := l.commands[id]
		if c.CreatedAt.Before(now.Add(-settled)) {
			r.Seq = c.Seq
		}
		if c.Counts.Total <= command.LiveLimit && (c.Running() || !c.FinishedAt.Before(since.Add(-endedLately)) || l.answeredLate(id, since.Add(-endedLately))) {
			r.Commands = append(r.Commands, id)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(l.read)) {
		if !l.read[d].Before(since.Add(-endedLately - readEvery)) {
			r.Read = append(r.Read, d)
		}
	}
}

// answeredLate says whether there was a result after the end since then.
func (l *Ledger) answeredLate(id command.ID, since time.Time) bool {
	return slices.ContainsFunc(l.of[id], func(o *command.Operation) bool {
		return !o.LateResultAt.IsZero() && !o.LateResultAt.Before(since)
	})
}

// Commands implements command.Ledger.
func (l *Ledger) Commands(_ context.Context, ids []command.ID) (map[command.ID]command.Command, error) {
	found := make(map[command.ID]command.Command, len(ids))
	for _, id := range ids {
		if c := l.commands[id]; c != nil {
			found[id] = l.show(c)
		}
	}
	return found, nil
}

// Arrivals implements command.Ledger.
func (l *Ledger) Arrivals(_ context.Context, after int64, limit int) ([]command.Arrival, error) {
	var arrivals []command.Arrival
	now, late := l.now(), 0
	for _, id := range l.order {
		c := l.commands[id]
		if c.Seq > after {
			late++
		}
		if c.Seq <= after && c.Expanding || c.Seq > after && late <= limit {
			arrivals = append(arrivals, command.Arrival{ID: id, Seq: c.Seq, Expanding: c.Expanding, Age: now.Sub(c.CreatedAt)})
		}
	}
	return arrivals, nil
}

// Endpoints implements command.Ledger.
func (l *Ledger) Endpoints(_ context.Context, id command.ID, partitions []int, after meterread.DeviceID) (endpoints []meterread.DeviceID,
	last meterread.DeviceID, err error) {
	last = after
	for _, o := range l.of[id] {
		if o.DeviceID <= after {
			continue
		}
		last = o.DeviceID
		if o.State.Open() && slices.Contains(partitions, o.Partition) && !slices.Contains(endpoints, o.EndpointID) {
			endpoints = append(endpoints, o.EndpointID)
		}
	}
	return endpoints, last, nil
}

// Due implements command.Ledger.
func (l *Ledger) Due(_ context.Context, except []command.ID, limit int) ([]command.Command, error) {
	var due []command.Command
	now := l.now()
	for _, id := range l.order {
		c := l.commands[id]
		if c.Running() && (!c.ExpiresAt.After(now) || !c.CancelledAt.IsZero()) && !slices.Contains(except, id) {
			due = append(due, l.show(c))
		}
	}
	slices.SortStableFunc(due, func(a, b command.Command) int { return a.ExpiresAt.Compare(b.ExpiresAt) })
	return due[:min(limit, len(due))], nil
}

// Timed implements command.Ledger.
func (l *Ledger) Timed(_ context.Context, from, to time.Time) ([]command.ID, error) {
	var ids []command.ID
	for _, id := range l.order {
		if at := l.commands[id].NotBefore; !at.IsZero() && at.After(from) && !at.After(to) {
			ids = append(ids, id)
		}
	}
	slices.SortStableFunc(ids, func(a, b command.ID) int { return l.commands[a].NotBefore.Compare(l.commands[b].NotBefore) })
	return ids, nil
}

// Hold implements command.Ledger.
func (l *Ledger) Hold(_ context.Context, owner string, lease, behind time.Duration) (held command.Fence, excess int, err error) {
	now := l.now()
	l.workers[owner] = now
	living := 0
	for _, seen := range l.workers {
		if !seen.Before(now.Add(-lease)) {
			living++
		}
	}
	share := (len(l.partitions) + living - 1) / living
	held = command.Fence{}
	for n := range l.partitions {
		if p := &l.partitions[n]; p.owner == owner {
			p.lease = now.Add(lease)
			if at := now.Add(-behind); at.After(p.idleSince) {
				p.idleSince = at
			}
			held[n] = p.epoch
		}
	}
	for n := range l.partitions {
		if p := &l.partitions[n]; len(held) < share && (p.owner == "" || p.lease.Before(now)) {
			p.owner, p.lease = owner, now.Add(lease)
			if p.idleSince.IsZero() {
				p.idleSince = now
			}
			p.epoch++
			held[n] = p.epoch
		}
	}
	return held, max(0, len(held)-share), nil
}

// Release implements command.Ledger.
func (l *Ledger) Release(_ context.Context, owner string, partitions []int) error {
	left := false
	for n := range l.partitions {
		p := &l.partitions[n]
		if p.owner != owner {
			continue
		}
		if !slices.Contains(partitions, n) {
			left = true
			continue
		}
		p.owner, p.lease = "", l.now()
		p.epoch++
	}
	if !left {
		delete(l.workers, owner)
	}
	return nil
}
