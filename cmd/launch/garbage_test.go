package launch

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"meterline/testkit"
)

func TestGCPercent(t *testing.T) {
	for kept, want := range map[uint64]int{0: 3300, leastHeap: 3300, 32 << 20: 500, spareHeap: 200, 8 * spareHeap: 112} {
		if got := gcPercent(kept); got != want {
			t.Errorf("%d bytes kept: %d, want %d", kept, got, want)
		}
	}
}

func gogc() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// What is kept tells after each collection how much garbage may pile up until the next, unless the environment has its say.
func TestSpareHeap(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GOGC", "")
			t.Setenv("GOMEMLIMIT", "")
			t.Setenv(name, "100")
			SpareHeap()
			if got := gogc(); got != 100 {
				t.Errorf("GOGC is %d", got)
			}
		})
	}
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	SpareHeap()
	small := gogc()
	big := make([]byte, spareHeap)
	testkit.Eventually(t, time.Minute, func() bool { runtime.GC(); return gogc() <= 200 && small > 200 }, "a large heap to count")
	runtime.KeepAlive(big)
	testkit.Eventually(t, time.Minute, func() bool { runtime.GC(); return gogc() > 200 }, "a small heap to count again")
}
