package httpapi

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter holds each token to so many requests per second.
type limiter struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[string]*rate.Limiter // by token id
}

func newLimiter(limit rate.Limit, burst int) *limiter {
	return &limiter{limit: limit, burst: max(burst, 1), buckets: map[string]*rate.Limiter{}}
}

// take complains when the token has asked too often, and says when it may again.
func (l *limiter) take(token string, now time.Time) error {
	if l.limit <= 0 {
		return nil
	}
	r := l.bucket(token, now).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait <= 0 {
		return nil
	}
	r.CancelAt(now)
	p := newProblem(http.StatusTooManyRequests, "RATE_LIMITED", "the token has made too many requests")
	p.retryAfter = wait
	return p
}

// bucket is the token's. Full ones are forgotten when there are many: a new one is as full.
func (l *limiter) bucket(token string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ok := l.buckets[token]; ok {
		return b
	}
	if len(l.buckets) >= maxTokens {
		for id, b := range l.buckets {
			if b.TokensAt(now) >= float64(l.burst) {
				delete(l.buckets, id)
			}
		}
	}
	b := rate.NewLimiter(l.limit, l.burst)
	l.buckets[token] = b
	return b
}
