package command

import (
	"context"
	"sync/atomic"
	"time"

	"meterline/fault"
)

// Clock follows the record's clock, which decides deadlines and leases, without asking it each time: it keeps what that
// said last, and counts on from there by this process's monotonic clock. What this host takes for the time of day has no
// say, and may be set back and forth.
type Clock struct {
	ledger interface {
		Now(context.Context) (time.Time, error)
	}
	last    atomic.Pointer[reading]
	doubted chan struct{} // the host's clocks disagree: it was set, or the host has slept
}

// reading is what both clocks said at one moment.
type reading struct{ here, record time.Time }

const (
	clockEvery = 5 * time.Second        // how often it is measured again
	clockAgain = 250 * time.Millisecond // when it is in doubt and the record cannot be asked
	slowTrip   = 100 * time.Millisecond // an answer that took longer says too little
)

// NewClock makes a Clock that is right once Measure or Run has succeeded.
func NewClock(ledger interface {
	Now(context.Context) (time.Time, error)
}) *Clock {
	return &Clock{ledger: ledger, doubted: make(chan struct{}, 1)}
}

// Now is the record's clock, as far as known.
func (c *Clock) Now() time.Time {
	now, last := time.Now(), c.last.Load()
	if last == nil {
		return fault.Now().UTC()
	}
	passed := now.Sub(last.here)
	// A host that slept has missed that on its monotonic clock.
	if byDay := now.Round(0).Sub(last.here.Round(0)); (byDay - passed).Abs() > slowTrip {
		select {
		case c.doubted <- struct{}{}:
		default:
		}
	}
	return last.record.Add(passed)
}

// Measure asks the record's clock once. The answer is taken to be from the middle of the round trip.
func (c *Clock) Measure(ctx context.Context) error {
	before := time.Now()
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return err
	}
	trip := time.Since(before)
	if last := c.last.Load(); last != nil && trip > slowTrip && last.record.Add(time.Since(last.here)).Sub(now).Abs() < trip {
		return nil // too coarse to be better than what is known
	}
	c.last.Store(&reading{before.Add(trip / 2), now.UTC()})
	return nil
}

// Run measures from time to time, and when there is doubt, until ctx is done. While the record is away it counts on.
func (c *Clock) Run(ctx context.Context) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		if c.Measure(ctx) != nil {
			pause(ctx, clockAgain)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.doubted:
		case <-tick.C:
		}
	}
}
