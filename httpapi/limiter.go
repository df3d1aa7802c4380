package httpapi

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter holds each of many, such as tokens, to so many requests per second.
type limiter struct {
	limit  rate.Limit
	burst  int
	detail string // what is wrong when there were too many

	mu      sync.Mutex
	buckets map[string]*rate.Limiter // by the key
}

func newLimiter(limit rate.Limit, burst int, detail string) *limiter {
	return &limiter{limit: limit, burst: max(burst, 1), detail: detail, buckets: map[string]*rate.Limiter{}}
}

// take complains when whoever has the key has asked too often, and says when it may again.
func (l *limiter) take(key string, now time.Time) error {
	if l.limit <= 0 {
		return nil
	}
	r := l.bucket(key, now).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait <= 0 {
		return nil
	}
	r.CancelAt(now)
	p := newProblem(http.StatusTooManyRequests, "RATE_LIMITED", l.detail)
	p.retryAfter = wait
	return p
}

// forget lets whoever has the key begin anew.
func (l *limiter) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.buckets, key)
}

// bucket is the key's. Full ones are forgotten when there are many: a new one is as full.
func (l *limiter) bucket(key string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ok := l.buckets[key]; ok {
		return b
	}
	if len(l.buckets) >= maxTokens {
		for k, b := range l.buckets {
			if b.TokensAt(now) >= float64(l.burst) {
				delete(l.buckets, k)
			}
		}
	}
	b := rate.NewLimiter(l.limit, l.burst)
	l.buckets[key] = b
	return b
}
