package simulator

import (
	"math"
	"slices"
	"time"
)

// Latency sums up how long something took. Percentiles are nearest-rank: a value that really was measured, the smallest
// that is no smaller than the share p of all. Milliseconds.
type Latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// SumUp sorts the times it is given.
func SumUp(times []time.Duration) Latency {
	if len(times) == 0 {
		return Latency{}
	}
	slices.Sort(times)
	at := func(p float64) float64 {
		rank := int(math.Ceil(p * float64(len(times))))
		return milliseconds(times[max(rank, 1)-1])
	}
	return Latency{Count: len(times), P50: at(0.50), P95: at(0.95), P99: at(0.99), Max: milliseconds(times[len(times)-1])}
}

func milliseconds(d time.Duration) float64 { return math.Round(float64(d)/1e4) / 100 }
