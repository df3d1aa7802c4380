//go:build faults

package command

import (
	"context"
	"testing"
	"time"

	"meterline/fault"
)

// rightClock is a record whose clock is right.
type rightClock struct{}

func (rightClock) Now(context.Context) (time.Time, error) { return time.Now(), nil }

// Setting the clock of the machine does not move what a process believes to be the record's.
func TestClockIsNotMovedByTheMachines(t *testing.T) {
	defer fault.Set(fault.Plan{})
	for _, off := range []time.Duration{-5 * time.Second, 5 * time.Second} {
		fault.Set(fault.Plan{ClockOffset: off.Milliseconds()})
		c := NewClock(rightClock{})
		if got := time.Until(c.Now()); (got - off).Abs() > time.Second {
			t.Errorf("before it was measured the clock is off by %v, want %v", got, off)
		}
		fault.Set(fault.Plan{})
		if err := c.Measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		fault.Set(fault.Plan{ClockOffset: off.Milliseconds()})
		if got := time.Until(c.Now()); got.Abs() > time.Second {
			t.Errorf("the machine's clock was set by %v, and the record's seems to be off by %v", off, got)
		}
	}
}
