package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	sparingBurst = 10               // lines of one kind at once
	sparingPause = 10 * time.Second // and then from one to the next
)

// sparing logs what clients could flood the log with: of each kind a few lines at once, then one now and then, which tells
// how many were left out before it. So no kind hides another, and each shows that it goes on. Metrics count them all.
type sparing struct {
	log   *slog.Logger
	burst int

	mu    sync.Mutex
	kinds map[string]*spared
}

type spared struct {
	limit *rate.Limiter
	out   int // lines left out since the last one
}

func newSparing(log *slog.Logger) *sparing {
	return &sparing{log: log, burst: sparingBurst, kinds: map[string]*spared{}}
}

// say logs a line, or leaves it out. Kinds are words of ours, so they are few.
func (s *sparing) say(level slog.Level, kind, msg string, args ...any) {
	if !s.log.Enabled(context.Background(), level) {
		return
	}
	out, ok := s.turn(kind)
	if !ok {
		return
	}
	if out > 0 {
		args = append(args, "left_out", out)
	}
	s.log.Log(context.Background(), level, msg, args...)
}

// turn says whether a line of the kind is logged now, and how many were not before it.
func (s *sparing) turn(kind string) (out int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kinds[kind]
	if k == nil {
		k = &spared{limit: rate.NewLimiter(rate.Every(sparingPause), s.burst)}
		s.kinds[kind] = k
	}
	if !k.limit.Allow() {
		k.out++
		return 0, false
	}
	out, k.out = k.out, 0
	return out, true
}
