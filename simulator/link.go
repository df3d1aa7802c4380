package simulator

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"meterline/meterread"
	"meterline/mqtt"
)

// link connects an endpoint, reads its connection and connects again when it is lost, for as long as run runs. The
// endpoint owns a session once it was told of it: it alone writes to it and closes it.
type link struct {
	id          meterread.DeviceID
	credentials Credentials
	brokers     []string // tried in turn
	behaviour   *Behaviour
	admit       func(context.Context) error // blocks until this endpoint may dial: bounds the rate of the whole fleet
	stats       *Stats
	news        chan news
	away        atomic.Int64 // not to connect before then; ns
}

// news is what a link tells its endpoint: a session that came up, a packet it read, or, with err, that it broke.
type news struct {
	session *session
	up      bool
	packet  packet
	err     error
}

// steady is for how long a connection has to last for the next attempt not to count as one more in a row.
const steady = 5 * time.Second

func (l *link) stayAway(d time.Duration) { l.away.Store(time.Now().Add(d).UnixNano()) }

func (l *link) run(ctx context.Context) {
	next := rand.IntN(len(l.brokers)) // which broker: chance is no part of a simulation here, as a DNS answer is not
	for failures := 0; ctx.Err() == nil; next++ {
		if !l.wait(ctx, failures) {
			return
		}
		s, err := dial(ctx, l.brokers[next%len(l.brokers)], l.credentials, mqtt.CommandTopic(l.id), l.behaviour.KeepAlive)
		if err != nil {
			failures++
			if ctx.Err() == nil {
				text := err.Error()
				l.stats.connectErrors.Add(1)
				l.stats.lastError.Store(&text)
			}
			continue
		}
		since := time.Now()
		l.follow(ctx, s)
		if time.Since(since) > steady {
			failures = 0
		}
		failures++ // losing a connection is a reason to wait a little, too
	}
}

// wait waits before an attempt: not at all before the first, then RetryMin, doubling up to RetryMax, ± 50 %.
func (l *link) wait(ctx context.Context, failures int) bool {
	delay := time.Duration(0)
	if failures > 0 {
		delay = l.behaviour.RetryMax
		if failures < 20 {
			delay = min(delay, l.behaviour.RetryMin<<(failures-1))
		}
		delay = delay/2 + rand.N(delay)
	}
	if away := time.Until(time.Unix(0, l.away.Load())); away > delay {
		delay = away
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
	}
	return l.admit(ctx) == nil
}

// follow hands a session to the endpoint and reads it until it breaks.
func (l *link) follow(ctx context.Context, s *session) {
	defer context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })()
	if !l.tell(ctx, news{session: s, up: true}) {
		s.close()
		return
	}
	for {
		p, err := s.read(ctx)
		if !l.tell(ctx, news{session: s, packet: p, err: err}) || err != nil {
			return
		}
	}
}

func (l *link) tell(ctx context.Context, n news) bool {
	select {
	case l.news <- n:
		return true
	case <-ctx.Done():
		return false
	}
}

// discard closes sessions that the endpoint was told of when it no longer listened. After run has returned.
func (l *link) discard() {
	for {
		select {
		case n := <-l.news:
			n.session.close()
		default:
			return
		}
	}
}
