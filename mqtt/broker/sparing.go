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
// how many were left out before it. So no kind hides another, and each shows that it goes on. Metrics count them all. All
// parts of a broker share one.
type sparing struct {
	log   *slog.Logger
	burst int

	mu    sync.Mutex
	kinds map[sentence]*spared
}

// sentence is what is counted together. Both are words of ours, so there are few.
type sentence struct{ msg, kind string }

type spared struct {
	limit *rate.Limiter
	out   int // lines left out since the last one
}

func newSparing(log *slog.Logger) *sparing {
	return &sparing{log: log, burst: sparingBurst, kinds: map[sentence]*spared{}}
}

// say logs a line, or leaves it out. The kind is a word of ours, "" when the message alone is one.
func (s *sparing) say(level slog.Level, kind, msg string, args ...any) {
	if !s.log.Enabled(context.Background(), level) {
		return
	}
	out, ok := s.turn(sentence{msg, kind})
	if !ok {
		return
	}
	if out > 0 {
		args = append(args, "left_out", out)
	}
	s.log.Log(context.Background(), level, msg, args...)
}

// turn says whether a line is logged now, and how many like it were not before.
func (s *sparing) turn(l sentence) (out int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kinds[l]
	if k == nil {
		k = &spared{limit: rate.NewLimiter(rate.Every(sparingPause), s.burst)}
		s.kinds[l] = k
	}
	if !k.limit.Allow() {
		k.out++
		return 0, false
	}
	out, k.out = k.out, 0
	return out, true
}
