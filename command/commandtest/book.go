package commandtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// Create implements command.Book, but for idempotency keys; targets are devices by their ids, or all of the tenant's.
func (l *Ledger) Create(_ context.Context, c command.Command, ttl time.Duration, _ command.Idempotency, first int,
	born command.BornFunc) (command.Created, error) {
	c.CreatedAt = l.now()
	c.ExpiresAt = c.CreatedAt.Add(ttl)
	if !c.NotBefore.IsZero() {
		c.ExpiresAt = c.NotBefore.Add(ttl)
	}
	if wrong := l.checkTargets(c); len(wrong) > 0 {
		return command.Created{}, &command.Invalid{Fields: wrong}
	}
	found := l.candidates(c, "")
	if len(found) == 0 {
		return command.Created{}, &command.Invalid{Fields: []command.FieldError{{Pointer: "/targets", Detail: "matches no device"}}}
	}
	c.Counts = command.Counts{Total: len(found), Queued: len(found)}
	c.Errors = map[string]int{}
	c.Seq, c.Version, c.Expanding = int64(len(l.order)+1), 1, first < len(found)
	kept := &c
	l.commands[c.ID] = kept
	l.order = append(l.order, c.ID)
	ops := l.bear(kept, found[:min(first, len(found))], born)
	l.finish(kept, c.CreatedAt)
	return command.Created{Command: l.show(kept), Operations: ops}, nil
}

// checkTargets complains about devices that cannot be targets.
func (l *Ledger) checkTargets(c command.Command) (wrong []command.FieldError) {
	for i, id := range c.Selector.DeviceIDs {
		d, ok := l.devices[id]
		detail := ""
		switch {
		case !ok || d.Tenant != c.Tenant:
			detail = "there is no such device"
		case !d.Enabled:
			detail = "the device is disabled"
		case d.Kind == fleet.IPC && c.Kind != command.DevicePing:
			detail = "an IPC itself cannot be asked for " + string(c.Kind)
		}
		if detail != "" {
			wrong = append(wrong, command.FieldError{Pointer: fmt.Sprintf("/targets/device_ids/%d", i), Detail: detail})
		}
	}
	return wrong
}

// bear makes operations of candidates and counts them.
func (l *Ledger) bear(c *command.Command, found []command.Candidate, born command.BornFunc) []*command.Operation {
	ops := make([]*command.Operation, len(found))
	for i, d := range found {
		o := born(*c, d, l.now())
		o.Changed = c.Version
		l.store(o)
		l.count(c, command.Queued, o)
		l.made[c.ID]++
		c.Expanded = d.DeviceID
		ops[i] = o
	}
	return ops
}

// candidates lists the devices that a command is for, in order of their ids, from the one after the given on.
func (l *Ledger) candidates(c command.Command, after meterread.DeviceID) []command.Candidate {
	var found []command.Candidate
	for _, d := range l.devices {
		wanted := c.Selector.All || slices.Contains(c.Selector.DeviceIDs, d.ID)
		if wanted && d.Tenant == c.Tenant && d.Enabled && d.ID > after && !d.CreatedAt.After(c.CreatedAt) &&
			(d.Kind != fleet.IPC || c.Kind == command.DevicePing) {
			found = append(found, command.Candidate{DeviceID: d.ID, Partition: l.partitionOf(d), Info: d.Info()})
		}
	}
	slices.SortFunc(found, func(a, b command.Candidate) int {
		return compareKeys(command.Key{DeviceID: a.DeviceID}, command.Key{DeviceID: b.DeviceID})
	})
	return found
}

func (l *Ledger) partitionOf(d fleet.Device) int {
	return fleet.Partition(d.EndpointID, len(l.partitions))
}

// Expand implements command.Book.
func (l *Ledger) Expand(_ context.Context, limit int, born command.BornFunc) (command.Created, bool, error) {
	var c *command.Command
	for _, id := range l.order {
		if one := l.commands[id]; one.Expanding && (c == nil || one.Priority > c.Priority) {
			c = one
		}
	}
	if c == nil {
		return command.Created{}, false, nil
	}
	found := l.candidates(*c, c.Expanded)
	found = found[:min(limit, len(found))]
	made := l.made[c.ID] + len(found)
	if done := len(found) < limit; done || c.Counts.Total < made {
		c.Expanding = !done
		c.Counts.Queued += made - c.Counts.Total
		c.Counts.Total = made
	}
	c.Version++
	ops := l.bear(c, found, born)
	l.finish(c, l.now())
	return command.Created{Command: l.show(c), Operations: ops}, true, nil
}

// Cancel implements command.Book.
func (l *Ledger) Cancel(_ context.Context, by command.Actor, id command.ID) error {
	c := l.commands[id]
	if c == nil || c.Tenant != by.Tenant {
		return command.ErrNotFound
	}
	if now := l.now(); c.Running() && c.CancelledAt.IsZero() && c.ExpiresAt.After(now) {
		c.CancelledAt = now
	}
	return nil
}

// OpenOperations implements command.Book.
func (l *Ledger) OpenOperations(_ context.Context, tenant fleet.Tenant) (n int, err error) {
	for _, c := range l.commands {
		if c.Tenant == tenant && c.ExpiresAt.After(l.now()) {
			n += c.Counts.Open()
		}
	}
	return n, nil
}

// Shown implements command.Book.
func (l *Ledger) Shown(_ context.Context, ids []command.ID) error {
	for _, id := range ids {
		if c := l.commands[id]; c != nil && c.Running() && !c.ExpiresAt.After(l.now()) {
			c.ShownExpired = true
		}
	}
	return nil
}

// Snapshot implements command.Book.
func (l *Ledger) Snapshot(ctx context.Context, id command.ID, page int) (v command.View, tenant fleet.Tenant, whole bool, err error) {
	c := l.commands[id]
	if c == nil {
		return command.View{}, "", false, command.ErrNotFound
	}
	_ = l.Shown(ctx, []command.ID{id})
	v = l.show(c).View()
	v.Operations = []command.OperationView{}
	for _, o := range l.of[id][:min(page, len(l.of[id]))] {
		v.Operations = append(v.Operations, o.View())
	}
	return v.At(l.now()), c.Tenant, len(v.Operations) == c.Counts.Total && !c.Expanding, nil
}

// Unsuccessful implements command.Book.
func (l *Ledger) Unsuccessful(ctx context.Context, _ fleet.Tenant, id command.ID) ([]meterread.DeviceID, error) {
	_ = l.Shown(ctx, []command.ID{id})
	var ids []meterread.DeviceID
	for _, o := range l.of[id] {
		ended := !o.State.Open() || !o.ExpiresAt.After(l.now())
		if d, ok := l.devices[o.DeviceID]; ok && d.Enabled && ended && o.State != command.Succeeded {
			ids = append(ids, o.DeviceID)
		}
	}
	return ids, nil
}

// PutDevice adds a device, or changes it, and lets its open operations follow; touched are their commands.
func (l *Ledger) PutDevice(d fleet.Device) (touched []command.ID) {
	was, had := l.devices[d.ID]
	if d.CreatedAt = was.CreatedAt; !had {
		d.CreatedAt = l.now()
	}
	l.devices[d.ID] = d
	switch {
	case !had:
	case was.Enabled && !d.Enabled:
		return l.cancelOf(d.ID)
	case d.Enabled && was.EndpointID != d.EndpointID:
		return l.moveOf(d)
	}
	return nil
}

// cancelOf cancels the open operations of a device and of those that it speaks for.
func (l *Ledger) cancelOf(id fleet.DeviceID) (touched []command.ID) {
	now := l.now()
	var open []*command.Operation
	for _, o := range l.each() {
		if (o.DeviceID == id || o.EndpointID == id) && o.State.Open() && o.ExpiresAt.After(now) {
			open = append(open, l.ended(o, now, command.Cancelled, "device disabled"))
		}
	}
	for _, change := range l.write(now, open) {
		touched = append(touched, change.Command.ID)
	}
	return touched
}

// moveOf lets what is queued for a device follow it.
func (l *Ledger) moveOf(d fleet.Device) (touched []command.ID) {
	var queued []*command.Operation
	for _, o := range l.each() {
		if o.DeviceID == d.ID && o.State == command.Queued {
			o = l.load(o)
			o.EndpointID, o.Partition, o.Device = d.EndpointID, l.partitionOf(d), d.Info()
			o.Version++
			queued = append(queued, o)
		}
	}
	for _, change := range l.write(l.now(), queued) {
		touched = append(touched, change.Command.ID)
	}
	return touched
}

// each lists all operations in order of their keys.
func (l *Ledger) each() []*command.Operation {
	all := make([]*command.Operation, 0, len(l.operations))
	for _, id := range slices.Sorted(slices.Values(l.order)) {
		all = append(all, l.of[id]...)
	}
	return all
}
