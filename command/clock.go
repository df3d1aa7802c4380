package command

import (
	"context"
	"sync/atomic"
	"time"
)

// Clock follows the record's clock, which decides deadlines and leases, without asking it each time: it keeps how far
// this process's clock is off.
type Clock struct {
	ledger interface {
		Now(context.Context) (time.Time, error)
	}
	off      atomic.Int64 // nanoseconds to add to this process's clock
	measured atomic.Bool
}

const (
	clockEvery = 5 * time.Second        // how often the offset is measured again
	slowTrip   = 100 * time.Millisecond // an answer that took longer says too little
)

// NewClock makes a Clock that is right once Measure or Run has succeeded.
func NewClock(ledger interface {
	Now(context.Context) (time.Time, error)
}) *Clock {
	return &Clock{ledger: ledger}
}

// Now is the record's clock, as far as known.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.off.Load())).UTC() }

// Measure asks the record's clock once. The answer is taken to be from the middle of the round trip.
func (c *Clock) Measure(ctx context.Context) error {
	before := time.Now()
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return err
	}
	trip := time.Since(before)
	if trip > slowTrip && c.measured.Load() {
		return nil // too coarse to be better than what is known
	}
	c.measured.Store(true)
	c.off.Store(int64(now.Sub(before.Add(trip / 2))))
	return nil
}

// Run measures from time to time until ctx is done. While the record is away the last offset stands.
func (c *Clock) Run(ctx context.Context) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		_ = c.Measure(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
