package command

import (
	"context"
	"sync/atomic"
	"time"

	"meterline/fault"
)

// Clock follows the record's clock, which decides deadlines and leases, without asking it each time: it keeps what that
// said last, and counts on from there. That the clock of this machine is off, or is set, does not matter to it.
type Clock struct {
	ledger interface {
		Now(context.Context) (time.Time, error)
	}
	last atomic.Pointer[sample] // nil until it was measured
}

// sample is a moment by both clocks.
type sample struct {
	here   time.Time // with a reading of the monotonic clock, which nobody sets
	record time.Time
}

const (
	clockEvery = 5 * time.Second        // how often it is measured again
	slowTrip   = 100 * time.Millisecond // an answer that took longer says too little
)

// NewClock makes a Clock that is right once Measure or Run has succeeded.
func NewClock(ledger interface {
	Now(context.Context) (time.Time, error)
}) *Clock {
	return &Clock{ledger: ledger}
}

// Now is the record's clock, as far as known.
func (c *Clock) Now() time.Time {
	if s := c.last.Load(); s != nil {
		return s.record.Add(time.Since(s.here)).UTC()
	}
	return fault.Now().UTC()
}

// Measure asks the record's clock once. The answer is taken to be from the middle of the round trip.
func (c *Clock) Measure(ctx context.Context) error {
	before := time.Now()
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return err
	}
	trip := time.Since(before)
	if trip > slowTrip && c.last.Load() != nil {
		return nil // too coarse to be better than what is known
	}
	c.last.Store(&sample{here: before.Add(trip / 2), record: now})
	return nil
}

// Run measures from time to time until ctx is done. While the record is away the last sample stands.
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
