package testkit

import (
	"testing"
	"time"
)

func TestAPulseMeasuresAndForgivesWhatItMeasured(t *testing.T) {
	p := StartPulse(t)
	Eventually(t, time.Minute, func() bool { return p.Longest() > 0 }, "something was measured")
	if got := p.Limit(time.Nanosecond); got < 10*time.Nanosecond || got > 10*p.Longest() {
		t.Errorf("limit %v, longest %v", got, p.Longest())
	}
	if got := p.Limit(time.Hour); got != time.Hour {
		t.Errorf("a promise of an hour is judged by %v", got)
	}
}

// Who measures may wake up later than who asks.
func TestWhatAPulseWaitsForCounts(t *testing.T) {
	t.Parallel()
	p := &Pulse{began: time.Now().Add(-time.Minute)}
	if got := p.Longest(); got < time.Minute-pulseEvery {
		t.Errorf("a beat that has been under way for a minute is %v", got)
	}
	p.Restart()
	if got := p.Longest(); got > 30*time.Second {
		t.Errorf("it began anew, and is %v", got)
	}
	p.between()
	if was := p.Longest(); p.Longest() != was {
		t.Error("it grows though nothing is under way")
	}
}
