package state

import (
	"cmp"
	"container/list"
	"context"
	"maps"
	"slices"
	"time"

	"meterline/command"
)

// cached is one command: filled in, or, without complete, about to be.
type cached struct {
	id       command.ID
	building string // the token of those who fill it in
	seen     int64  // newest version of a change since the token was given
	complete bool
	view     command.View // operations in order of their devices; changed in place, never handed out
	ahead    map[int64]shown
	since    time.Time // when the first of ahead came
	written  time.Time
}

// shown is a change as it was when it came: its operations move on meanwhile.
type shown struct {
	from       int64
	command    command.View
	operations []command.OperationView
}

func show(c command.Change) shown {
	s := shown{from: c.From, command: c.Command.View(), operations: make([]command.OperationView, len(c.Operations))}
	s.command.Errors = maps.Clone(s.command.Errors)
	for i, o := range c.Operations {
		s.operations[i] = o.View()
	}
	return s
}

// gap says whether polls have waited too long for a missing change.
func (c *cached) gap(now time.Time) bool { return len(c.ahead) > 0 && now.Sub(c.since) > aheadGrace }

// Prepare begins to fill in a command; see Redis.Prepare.
func (m *Memory) Prepare(_ context.Context, id command.ID) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.get(id)
	if c != nil && c.complete && !c.gap(m.now()) {
		return newToken(), nil
	}
	if c == nil || c.building == "" {
		m.drop(id)
		c = &cached{id: id, building: newToken()}
		m.put(c)
	}
	return c.building, nil
}

// Fill puts a whole snapshot in, unless something happened since Prepare that it does not contain. A command of more than
// command.LiveLimit operations, or one whose operations are not all in v, is not held.
func (m *Memory) Fill(_ context.Context, token string, v command.View) error {
	if !holdable(v) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.get(v.ID)
	if c == nil || c.complete || c.building != token || c.seen > v.Version {
		return nil
	}
	v.Operations, v.Errors = slices.Clone(sorted(v.Operations)), maps.Clone(v.Errors)
	m.drop(v.ID)
	m.put(&cached{id: v.ID, complete: true, view: v})
	return nil
}

// Load returns the command as of its newest version that is known without a gap.
func (m *Memory) Load(_ context.Context, id command.ID, page int) (command.View, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.get(id)
	if c == nil || !c.complete || c.gap(m.now()) {
		return command.View{}, false, nil
	}
	v := c.view
	v.Operations = append([]command.OperationView{}, v.Operations[:min(page, len(v.Operations))]...)
	return v, true, nil
}

// Apply brings cached commands up to date.
func (m *Memory) Apply(_ context.Context, changes []command.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ch := range changes {
		if !m.apply(ch) {
			m.drop(ch.Command.ID)
		}
	}
	return nil
}

// apply says whether what is cached is still whole.
func (m *Memory) apply(ch command.Change) bool {
	c := m.get(ch.Command.ID)
	switch {
	case c == nil:
		return true
	case ch.Bulk:
		return false
	case !c.complete:
		c.seen = max(c.seen, ch.Command.Version)
		return true
	case ch.Command.Version <= c.view.Version:
		return true
	case ch.From < c.view.Version:
		return false
	case ch.From > c.view.Version:
		return c.keep(show(ch), m.now())
	}
	if !c.take(show(ch), m.now()) {
		return false
	}
	c.written = m.now()
	m.order.MoveToBack(m.commands[c.id])
	return true
}

// keep holds a change until the one before it comes.
func (c *cached) keep(s shown, now time.Time) bool {
	if c.gap(now) || len(c.ahead) >= aheadLimit {
		return false
	}
	if len(c.ahead) == 0 {
		c.ahead, c.since = map[int64]shown{}, now
	}
	c.ahead[s.from] = s
	return true
}

// take writes a change and those that were waiting for it.
func (c *cached) take(s shown, now time.Time) bool {
	for ok := true; ok; {
		for _, o := range s.operations {
			i, found := slices.BinarySearchFunc(c.view.Operations, o, func(a, b command.OperationView) int {
				return cmp.Compare(a.DeviceID, b.DeviceID)
			})
			if !found {
				return false
			}
			if o.Version > c.view.Operations[i].Version {
				c.view.Operations[i] = o
			}
		}
		v := s.command
		c.view.Version, c.view.Status, c.view.Counts, c.view.Errors, c.view.FinishedAt =
			v.Version, v.Status, v.Counts, v.Errors, v.FinishedAt
		s, ok = c.ahead[v.Version]
		delete(c.ahead, v.Version)
	}
	c.since = now
	return true
}

// Forget drops commands.
func (m *Memory) Forget(_ context.Context, ids []command.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		m.drop(id)
	}
	return nil
}

// get finds a command whose time is not over. The caller holds the mutex, as for all below.
func (m *Memory) get(id command.ID) *cached {
	e, ok := m.commands[id]
	if !ok {
		return nil
	}
	c := e.Value.(*cached)
	if m.now().Sub(c.written) > lifetime {
		m.drop(id)
		return nil
	}
	return c
}

func (m *Memory) put(c *cached) {
	c.written = m.now()
	m.commands[c.id] = m.order.PushBack(c)
	m.held += c.weight()
	for e := m.order.Front(); e != nil && e.Value != c && m.excess(e); e = m.order.Front() {
		m.drop(e.Value.(*cached).id)
	}
}

// excess says whether the command written longest ago has to go.
func (m *Memory) excess(oldest *list.Element) bool {
	return m.held > memoryLimit || m.now().Sub(oldest.Value.(*cached).written) > lifetime
}

// weight is what c counts for; an empty one is not free.
func (c *cached) weight() int { return 1 + len(c.view.Operations) }

func (m *Memory) drop(id command.ID) {
	e, ok := m.commands[id]
	if !ok {
		return
	}
	delete(m.commands, id)
	m.order.Remove(e)
	m.held -= e.Value.(*cached).weight()
}
