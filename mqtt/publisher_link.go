package mqtt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"meterline/command"
)

// How long a link waits before it connects again: from the first to the last, doubled each time, half of it by chance.
const (
	firstPause = 100 * time.Millisecond
	tellEvery  = 10 * time.Second // between two lines in the log about the same trouble
	lastPause  = 5 * time.Second
)

// link is the way to one gateway: one connection after the other.
type link struct {
	opt     PublisherOptions
	metrics *publisherMetrics
	changed chan struct{}      // signalled when the gateway is another incarnation or elsewhere
	stop    context.CancelFunc // ends run

	mu      sync.Mutex
	gateway command.Gateway
	listed  time.Time   // when the directory had it last
	conn    *connection // nil while there is none

	// run only
	stands string // what the log says of it: the address that it is connected to; "": none
}

func newLink(opt PublisherOptions, m *publisherMetrics, g command.Gateway, now time.Time) *link {
	return &link{opt: opt, metrics: m, changed: make(chan struct{}, 1), gateway: g, listed: now}
}

// point notes what the directory says of the gateway.
func (l *link) point(g command.Gateway, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listed = now
	if l.gateway == g {
		return
	}
	l.gateway = g
	select {
	case l.changed <- struct{}{}:
	default: // signalled already
	}
}

func (l *link) seen() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listed
}

func (l *link) target() command.Gateway {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gateway
}

func (l *link) reachable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn != nil
}

// offer queues a message on the connection there is; an error means that it is not sent.
func (l *link) offer(j job) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return fmt.Errorf("gateway %s: %w", l.gateway.ID, command.ErrGatewayGone)
	}
	select {
	case l.conn.jobs <- j:
		return nil
	default:
		return fmt.Errorf("gateway %s is behind with %d messages: %w", l.gateway.ID, l.opt.Queue, command.ErrGatewayGone)
	}
}

// run connects, again and again, until ctx is done.
func (l *link) run(ctx context.Context) {
	defer l.stop()
	pause := firstPause
	var told time.Time
	again := false // it failed the last time, too
	for ctx.Err() == nil {
		began := time.Now()
		g := l.target()
		err := l.serve(ctx, g)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastPause {
			pause, again = firstPause, false // it was a good one
		}
		// That a connection is lost is no trouble when the next one stands at once, or when everything is being ended.
		if again && time.Since(told) > tellEvery {
			told, l.stands = time.Now(), ""
			l.opt.Logger.Warn("no connection to a gateway", "gateway", g.ID, "address", g.Address, "error", err)
		}
		again = true
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
		case <-l.changed:
			pause = firstPause
		case <-wait.C:
			pause = min(2*pause, lastPause)
		}
		wait.Stop()
	}
}

// serve connects to g and serves the connection until it is lost, g has changed or ctx is done.
func (l *link) serve(ctx context.Context, g command.Gateway) error {
	c, err := connect(ctx, l.opt, l.metrics, g)
	if err != nil {
		return err
	}
	l.tell(g)
	l.metrics.connections.Inc()
	var work sync.WaitGroup
	work.Go(c.send)
	work.Go(c.await)
	l.use(c)
	select {
	case <-ctx.Done():
		l.use(nil) // what was taken is sent, and waits for its PUBACK for a while
		c.drain(&work)
	case <-l.changed:
		c.lose(fmt.Errorf("gateway %s has changed", g.ID))
	case <-c.lost:
	}
	l.use(nil)
	l.metrics.connections.Dec()
	c.close()
	work.Wait()
	return c.why
}

// tell logs that the connection stands, unless that is what the log says anyway. One that was started again is connected to
// twice: when it answers, and when the directory says that it is another incarnation.
func (l *link) tell(g command.Gateway) {
	if l.stands != g.Address {
		l.stands = g.Address
		l.opt.Logger.Info("connected to a gateway", "gateway", g.ID, "address", g.Address)
	}
}

// use makes c the connection that messages are sent on; nil: none. What was queued on the one before still is.
func (l *link) use(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		close(l.conn.jobs)
	}
	l.conn = c
}
