package command

import (
	"context"

	"meterline/fleet"
	"meterline/meterread"
)

// Events lists what devices reported, newest first.
func (s *Service) Events(ctx context.Context, by fleet.Token, f EventFilter, p Page) (List[Event], error) {
	return s.opt.Book.Events(ctx, by.Tenant, f, p)
}

// Readings lists the readings of a device, newest first.
func (s *Service) Readings(ctx context.Context, by fleet.Token, f ReadingFilter, p Page) (List[meterread.Reading], error) {
	return s.opt.Book.Readings(ctx, by.Tenant, f, p)
}

// Latest is the newest reading of each item of a device.
func (s *Service) Latest(ctx context.Context, by fleet.Token, d DeviceID) ([]meterread.Reading, error) {
	if err := s.opt.Book.Owns(ctx, by.Tenant, d); err != nil {
		return nil, err
	}
	var rs []meterread.Reading
	var ok bool
	var token string
	live := s.patiently(ctx, "load newest readings", func(ctx context.Context) (err error) {
		if rs, ok, err = s.opt.Newest.Latest(ctx, d); err == nil && !ok {
			token, err = s.opt.Newest.PrepareLatest(ctx, d)
		}
		return err
	})
	if live == nil && ok {
		return rs, nil
	}
	rs, err := s.opt.Book.Latest(ctx, by.Tenant, d)
	if err == nil && live == nil {
		_ = s.patiently(ctx, "fill newest readings", func(ctx context.Context) error { return s.opt.Newest.FillLatest(ctx, d, token, rs) })
	}
	return rs, err
}
