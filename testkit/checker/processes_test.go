package checker_test

import (
	"testing"
	"time"

	"meterline/simulator"
	"meterline/testkit"
)

// A gateway and a backend are killed under load, and the checker finds nothing wrong: neither with the product nor, by
// mistake, with what is right.
func TestKillsLoseNothing(t *testing.T) {
	w := newTown(t, "redis", 2, 2)
	w.begin(nil)
	w.reaches("uplinks", 600, func(c simulator.Counters) int64 { return c.Published })
	w.kill(w.Gateways[0], "1")
	w.reaches("uplinks after the gateway", 1200, func(c simulator.Counters) int64 { return c.Published })
	w.kill(w.Backends[0], "2")
	w.reaches("uplinks after the backend", 1800, func(c simulator.Counters) int64 { return c.Published })
	r := w.judge()
	for _, v := range r.Violations {
		t.Error(v)
	}
	for _, why := range r.Void {
		t.Error(why)
	}
	if r.Uplinks != r.AckedUplinks || r.Commands < 10 || r.DeadLetters == 0 || len(r.Recoveries) != 2 || r.Longest <= 0 ||
		r.PerSecond() <= 0 || r.UnderLoad > r.Stored {
		t.Errorf("%+v", r)
	}
}

func (w *town) reaches(what string, n int64, count func(simulator.Counters) int64) {
	w.t.Helper()
	testkit.Eventually(w.t, 2*time.Minute, func() bool { return count(w.load.Counters()) >= n }, what)
}
