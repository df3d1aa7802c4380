package command

import (
	"testing"
	"testing/synctest"
	"time"
)

// The log is read when it signals and after a while, not else; each of those who read it hears each signal.
func TestTheLogIsReadWhenItSignals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		arrived := make(chan struct{}, 1)
		var s logSignal
		for i, step := range []struct {
			before         func()
			took, overtook bool
		}{
			{func() {}, true, true}, // never read
			{func() {}, false, false},
			{func() { arrived <- struct{}{} }, true, true},
			{func() { time.Sleep(readEvery / 2) }, false, false},
			{func() { s.took.again() }, true, false},
			{func() { time.Sleep(readEvery / 2) }, false, true},
			{func() { time.Sleep(readEvery) }, true, true},
			{s.heard, true, true},
		} {
			step.before()
			if took, overtook := s.due(&s.took, arrived), s.due(&s.overtook, arrived); took != step.took || overtook != step.overtook {
				t.Errorf("step %d: %v, %v", i, took, overtook)
			}
		}
		for range 2 {
			if !s.due(&s.took, nil) {
				t.Error("a log that never signals is not read")
			}
		}
	})
}
