package command

import (
	"context"
	"errors"

	"meterline/fleet"
	"meterline/meterread"
)

// ReplayEpoch marks an uplink that is handled again. Should it fail again it becomes a dead letter of its own.
const ReplayEpoch = -1

// Replay handles a dead letter again: an uplink as it was, a dead operation as a new command.
func (s *Service) Replay(ctx context.Context, by fleet.Token, id string) (DeadLetter, error) {
	l, err := s.opt.Book.DeadLetter(ctx, by.Tenant, id)
	if err != nil {
		return DeadLetter{}, err
	}
	if l.Status != LetterOpen {
		return DeadLetter{}, ErrAlreadyDecided
	}
	made := ID("")
	if l.Source == LetterOperation {
		made, err = s.reissue(ctx, by, l)
	} else {
		err = s.opt.Log.Append(ctx, []Uplink{{
			Partition: fleet.Partition(l.EndpointID, s.opt.Partitions),
			Endpoint:  l.EndpointID, Epoch: ReplayEpoch, Kind: l.Kind, Payload: l.Payload,
		}})
	}
	if err != nil {
		return DeadLetter{}, err
	}
	return s.decide(ctx, by, id, LetterReplayed, made)
}

// reissue makes the new command of a dead operation. Its idempotency key is the letter's: two who replay it at once get
// the same command.
func (s *Service) reissue(ctx context.Context, by fleet.Token, l DeadLetter) (ID, error) {
	c, err := s.recorded(ctx, by, l.CommandID)
	if err != nil {
		return "", err
	}
	v, _, err := s.again(ctx, by, c, []DeviceID{l.DeviceID}, Idempotency{Key: "dead-letter:" + l.ID, BodyHash: []byte(l.ID)})
	return v.ID, err
}

// Discard closes a dead letter without doing anything about it.
func (s *Service) Discard(ctx context.Context, by fleet.Token, id string) (DeadLetter, error) {
	return s.decide(ctx, by, id, LetterDiscarded, "")
}

func (s *Service) decide(ctx context.Context, by fleet.Token, id, status string, made ID) (DeadLetter, error) {
	err := s.opt.Book.DecideDeadLetter(ctx, by.Tenant, id, status, by.ID, made)
	if err != nil && (status == LetterDiscarded || !errors.Is(err, ErrAlreadyDecided)) {
		return DeadLetter{}, err
	}
	return s.opt.Book.DeadLetter(ctx, by.Tenant, id)
}

// DeadLetters lists what could not be understood or was given up, newest first.
func (s *Service) DeadLetters(ctx context.Context, by fleet.Token, f DeadLetterFilter, p Page) (List[DeadLetter], error) {
	return s.opt.Book.DeadLetters(ctx, by.Tenant, f, p)
}

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
