package command

import (
	"context"
	"errors"
	"time"

	"meterline/fleet"
)

// errLiveAway says that the live state could not be reached a moment ago.
var errLiveAway = errors.New("the live state could not be reached a moment ago")

// patiently does something with the live state, for as long as a user can be kept waiting for what is only faster: should it
// stand still, nobody asks it for a while. What could not be told others find out for themselves within a second.
func (s *Service) patiently(ctx context.Context, what string, f func(context.Context) error) error {
	began := time.Now().UnixNano()
	if began < s.away.Load() {
		return errLiveAway
	}
	limit, stop := context.WithTimeout(ctx, livePatience)
	defer stop()
	err := f(limit)
	if err != nil && ctx.Err() == nil {
		// Of all who waited for it at the same time one tells.
		if s.away.Swap(time.Now().Add(liveAgain).UnixNano()) <= began {
			s.opt.Logger.Warn("live state is behind", "doing", what, "error", err)
		}
	}
	return err
}

func (s *Service) prepare(ctx context.Context, id ID) (token string, err error) {
	err = s.patiently(ctx, "prepare live state", func(ctx context.Context) error {
		token, err = s.opt.Live.Prepare(ctx, id)
		return err
	})
	return token, err
}

// overdue says whether the deadline has made v something else than what is cached. The record decides what.
func (s *Service) overdue(v View) bool {
	return v.Counts.Open() > 0 && !s.clock.Now().Add(clockSlack).Before(v.ExpiresAt)
}

func (s *Service) mine(by fleet.Token, v View) (View, error) {
	if v.Tenant != by.Tenant {
		return View{}, ErrNotFound
	}
	return v, nil
}

// fromRecord reads a command from the record and puts it into the live state when it fits. Those who wait for
// the same command share one reading.
func (s *Service) fromRecord(ctx context.Context, id ID) (View, error) {
	v, err := s.fills.take(ctx, id, func() (View, error) {
		// The first asker's going away must not fail the others.
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer stop()
		return s.refill(ctx, id)
	})
	if err != nil {
		return View{}, err
	}
	if len(v.Operations) > pageSize {
		v.Operations = v.Operations[:pageSize]
	}
	return v, nil
}

func (s *Service) refill(ctx context.Context, id ID) (View, error) {
	token, live := s.prepare(ctx, id)
	known, err := s.opt.Ledger.Commands(ctx, []ID{id})
	if err != nil {
		return View{}, err
	}
	c, ok := known[id]
	if !ok {
		return View{}, ErrNotFound
	}
	page := pageSize
	if c.Counts.Total <= LiveLimit {
		page = LiveLimit
	}
	v, _, whole, err := s.opt.Book.Snapshot(ctx, id, page)
	if err != nil {
		return View{}, err
	}
	if live == nil && whole {
		_ = s.patiently(ctx, "fill live state", func(ctx context.Context) error { return s.opt.Live.Fill(ctx, token, v) })
	}
	return v, nil
}
