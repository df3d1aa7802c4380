package command

import (
	"context"
	"time"

	"meterline/fleet"
)

// Get shows a command with its first 1000 operations: from the live state where it is whole, else from the record.
func (s *Service) Get(ctx context.Context, by fleet.Token, id ID) (View, error) {
	v, _, err := s.look(ctx, by, id, pageSize)
	return v, err
}

// look shows a command with its first operations; whole says that they are no fewer than Get shows.
func (s *Service) look(ctx context.Context, by fleet.Token, id ID, operations int) (v View, whole bool, err error) {
	var ok bool
	err = s.patiently(ctx, "load live state", func(ctx context.Context) (err error) {
		v, ok, err = s.opt.Live.Load(ctx, id, operations)
		return err
	})
	whole = operations >= pageSize
	if err != nil || !ok || s.overdue(v) {
		whole = true
		if v, err = s.fromRecord(ctx, id); err != nil {
			return View{}, false, err
		}
	}
	v, err = s.mine(by, v)
	return v, whole, err
}

// Wait shows a command as soon as it has ended, or after d; the error is ctx's when that is done before. Until then its operations
// are not looked at: each notice of a move would cost as much as all of them.
func (s *Service) Wait(ctx context.Context, by fleet.Token, id ID, d time.Duration) (View, error) {
	moved, done := s.hub.watch(id)
	defer done()
	over := time.NewTimer(d)
	defer over.Stop()
	for waiting := true; ; {
		v, whole, err := s.look(ctx, by, id, 0)
		switch {
		case err != nil:
			return View{}, err
		case waiting && v.Status == StatusRunning:
		case whole:
			return v, nil
		default:
			return s.Get(ctx, by, id)
		}
		again := time.NewTimer(s.lookAgain(v.ExpiresAt))
		select {
		case <-ctx.Done():
			again.Stop()
			return View{}, ctx.Err()
		case <-over.C:
			waiting = false
		case <-moved:
		case <-again.C:
		}
		again.Stop()
	}
}

// Changes lists operations that moved after the given number, in order. It waits up to a second for one. done says that
// the command has ended and nothing more will move.
func (s *Service) Changes(ctx context.Context, by fleet.Token, id ID, after int64) ([]OperationView, bool, error) {
	moved, stop := s.hub.watch(id)
	defer stop()
	c, ops, done, err := s.changes(ctx, by, id, after)
	if err != nil || done || len(ops) > 0 {
		return ops, done, err
	}
	again := time.NewTimer(s.lookAgain(c.ExpiresAt))
	defer again.Stop()
	select {
	case <-ctx.Done():
		return nil, false, nil
	case <-moved:
	case <-again.C:
	}
	_, ops, done, err = s.changes(ctx, by, id, after)
	return ops, done, err
}

// lookAgain is how long to wait for a notice: at the deadline there will be something to see without one. What is known of
// the record's clock may be a little off.
func (s *Service) lookAgain(deadline time.Time) time.Duration {
	left := deadline.Sub(s.clock.Now())
	if left <= 0 && left > -clockSlack {
		return clockSlack / 5
	}
	if left > 0 && left < lookAgain {
		return left + time.Millisecond
	}
	return lookAgain
}

func (s *Service) changes(ctx context.Context, by fleet.Token, id ID, after int64) (c Command, ops []OperationView, done bool, err error) {
	c, err = s.recorded(ctx, by, id) // before its operations: done must not overtake them
	if err != nil {
		return c, nil, false, err
	}
	ops, err = s.opt.Book.ChangedSince(ctx, id, after, pageSize)
	if err != nil || len(ops) > 0 {
		return c, ops, false, err
	}
	if c.Running() && c.Counts.Total <= LiveLimit && !s.clock.Now().Add(clockSlack).Before(c.ExpiresAt) {
		ops, done, err = s.expiring(ctx, c, after)
		return c, ops, done, err
	}
	return c, nil, !c.Running(), nil
}

// expiring tells of operations that have expired, before that is written. They come with the number that the first of them
// will get, and nothing follows: whoever has seen that number has seen them all.
func (s *Service) expiring(ctx context.Context, c Command, after int64) (ops []OperationView, done bool, err error) {
	if after > c.Version {
		return nil, true, nil
	}
	v, _, _, err := s.opt.Book.Snapshot(ctx, c.ID, LiveLimit)
	if err != nil || v.Version != c.Version || v.Counts.Open() > 0 { // not yet, by the record's clock
		return nil, false, err
	}
	for _, o := range v.Operations {
		if o.State == Expired {
			o.Changed = c.Version + 1
			ops = append(ops, o)
		}
	}
	return ops, len(ops) == 0, nil
}
