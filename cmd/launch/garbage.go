package launch

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// spareHeap is how much garbage may pile up at least before it is collected. What our programs keep is often no more than 30 MiB, and
// Go collects whenever as much again has been allocated: with each batch of uplinks, at a quarter of all their CPU.
const spareHeap = 128 << 20

// SpareHeap lets garbage pile up to spareHeap, and to as much as what is kept where that is more, as Go has it. Where GOGC or
// GOMEMLIMIT is set they alone count.
func SpareHeap() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		afterCollection(func() { debug.SetGCPercent(gcPercent(heapKept())) })
	}
}

// gcPercent is GOGC for a heap of which so much is kept.
func gcPercent(kept uint64) int {
	return 100 + int(100*uint64(spareHeap)/max(kept, leastHeap))
}

// leastHeap is what Go takes a heap for that is smaller.
const leastHeap = 4 << 20

// heapKept is what the last collection left, in bytes.
func heapKept() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// afterCollection calls f now and after each collection: what nobody holds any more is found by it.
func afterCollection(f func()) {
	f()
	type tick struct{ _ *tick } // with a pointer, or it might lie in a block with others and live as long as they do
	runtime.AddCleanup(new(tick), afterCollection, f)
}
