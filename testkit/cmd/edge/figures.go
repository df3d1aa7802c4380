//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// figures are what many times of the same kind come to, in milliseconds.
type figures struct {
	N          int     `json:"n"`
	Unfinished int     `json:"unfinished"` // of N: had not come to an end when the phase did; their age counts
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
}

func figuresOf(times []time.Duration, unfinished int) figures {
	f := figures{N: len(times), Unfinished: unfinished}
	if len(times) == 0 {
		return f
	}
	slices.Sort(times)
	at := func(share float64) float64 {
		i := int(math.Ceil(share*float64(len(times)))) - 1 // nearest rank
		return float64(times[max(i, 0)].Microseconds()) / 1000
	}
	f.P50, f.P99, f.Max = at(0.5), at(0.99), at(1)
	return f
}

// cells are p50, p99 and max for a table.
func (f figures) cells() []string { return []string{ms(f.P50), ms(f.P99), ms(f.Max)} }

func ms(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// recorder takes the times of one phase. Each round trip is begun under a key of its own; it counts in the phase that it
// was due in, also when it never ends.
type recorder struct {
	mu    sync.Mutex
	open  map[uint64]time.Time
	times []time.Duration
}

func newRecorder() *recorder { return &recorder{open: map[uint64]time.Time{}} }

// begin notes that a round trip was due at a time.
func (r *recorder) begin(key uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[key] = at
}

// end notes that it has come to its end; a key that is not open is passed over.
func (r *recorder) end(key uint64) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.open[key]; ok {
		delete(r.open, key)
		r.times = append(r.times, now.Sub(at))
	}
}

func (r *recorder) pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

// close takes what is still open with the age it has reached. Nothing is recorded any more.
func (r *recorder) close() figures {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	unfinished := len(r.open)
	for _, at := range r.open {
		r.times = append(r.times, now.Sub(at))
	}
	clear(r.open)
	return figuresOf(r.times, unfinished)
}
