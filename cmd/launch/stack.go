package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Stack starts actors one after the other and ends them in reverse order: what was started last, such as the intake of
// requests, ends first, and what others stand on ends last. One deadline is over all.
type Stack struct {
	logger *slog.Logger
	grace  time.Duration
	floors []floor
	failed chan error
}

type floor struct {
	name string
	stop func(context.Context)
}

// NewStack makes an empty stack that takes at most grace to end.
func NewStack(logger *slog.Logger, grace time.Duration) *Stack {
	return &Stack{logger: logger, grace: grace, failed: make(chan error, 1)}
}

// Go runs an actor. When it ends by itself with an error, Wait ends everything.
func (s *Stack) Go(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		err := run(ctx)
		if err != nil && ctx.Err() == nil {
			select {
			case s.failed <- fmt.Errorf("%s: %w", name, err):
			default: // another failed first
			}
		}
	})
	s.floors = append(s.floors, floor{name, func(limit context.Context) {
		cancel()
		ended := make(chan struct{})
		go func() { done.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-limit.Done():
			s.logger.Warn("did not end in time", "part", name)
		}
	}})
}

// Close adds something to be closed in its turn.
func (s *Stack) Close(name string, closing func() error) {
	s.floors = append(s.floors, floor{name, func(context.Context) {
		if err := closing(); err != nil {
			s.logger.Warn("did not close cleanly", "part", name, "error", err)
		}
	}})
}

// Wait returns when ctx is done, with nil, or when an actor failed, with its error; everything has ended by then.
func (s *Stack) Wait(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	s.Unwind()
	return err
}

// Unwind ends everything, last in first out.
func (s *Stack) Unwind() {
	limit, stop := context.WithTimeout(context.Background(), s.grace)
	defer stop()
	for i := len(s.floors) - 1; i >= 0; i-- {
		s.floors[i].stop(limit)
	}
	s.floors = nil
	if errors.Is(limit.Err(), context.DeadlineExceeded) {
		s.logger.Warn("ended late", "grace", s.grace)
	}
}
