package testkit_test

import (
	"testing"
	"time"

	"meterline/testkit"
)

func TestAPulseMeasuresAndForgivesWhatItMeasured(t *testing.T) {
	p := testkit.StartPulse(t)
	testkit.Eventually(t, 10*time.Second, func() bool { return p.Longest() > 0 }, "something was measured")
	if got := p.Limit(time.Nanosecond); got < 10*time.Nanosecond || got > 10*p.Longest() {
		t.Errorf("limit %v, longest %v", got, p.Longest())
	}
	if got := p.Limit(time.Hour); got != time.Hour {
		t.Errorf("a promise of an hour is judged by %v", got)
	}
}
