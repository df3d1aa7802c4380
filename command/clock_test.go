package command

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// ledgerClock is a record that is asked for the time: its clock is off by so much, and its answer takes some time.
type ledgerClock struct {
	off, trip time.Duration
	away      atomic.Bool
	asked     atomic.Int64
}

func (l *ledgerClock) Now(context.Context) (time.Time, error) {
	l.asked.Add(1)
	time.Sleep(l.trip / 2) // virtual time
	now := time.Now().Add(l.off)
	time.Sleep(l.trip / 2)
	if l.away.Load() {
		return time.Time{}, errors.New("away")
	}
	return now, nil
}

func TestClockFollowsTheRecord(t *testing.T) {
	for _, off := range []time.Duration{0, 5 * time.Second, -5 * time.Second, 10 * 365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			l := &ledgerClock{off: off, trip: 20 * time.Millisecond}
			c := NewClock(l)
			if err := c.Measure(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if wrong := c.Now().Sub(time.Now().Add(off)); wrong.Abs() > time.Millisecond {
					t.Errorf("off by %v: it is wrong by %v", off, wrong)
				}
				time.Sleep(time.Hour)
			}
		})
	}
}

// What a slow answer says is worth less than what is known, unless it shows that that is wrong.
func TestClockAndSlowAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledgerClock{}
		c := NewClock(l)
		measure := func(off, trip time.Duration) {
			l.off, l.trip = off, trip
			if err := c.Measure(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		is := func(off time.Duration, why string) {
			t.Helper()
			if wrong := c.Now().Sub(time.Now().Add(off)); wrong.Abs() > time.Millisecond {
				t.Errorf("%s: wrong by %v", why, wrong)
			}
		}
		measure(0, 0)
		measure(time.Second/10, time.Second)
		is(0, "an answer that took a second says it is a tenth off")
		measure(5*time.Second, time.Second)
		is(5*time.Second, "an answer that took a second says it is five off")
	})
}

// While the record is away the clock counts on, and asks again and again.
func TestClockWithoutTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledgerClock{off: time.Minute}
		c := NewClock(l)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Run(ctx) }()
		synctest.Wait()
		l.away.Store(true)
		time.Sleep(time.Minute)
		if wrong := c.Now().Sub(time.Now().Add(time.Minute)); wrong.Abs() > time.Millisecond || l.asked.Load() < 10 {
			t.Errorf("wrong by %v after having asked %d times", wrong, l.asked.Load())
		}
		stop()
		<-done
	})
}
