package main

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"meterline/testkit"
	"meterline/testkit/cluster"
	"meterline/testkit/load"
)

const (
	sampleEvery  = 500 * time.Millisecond
	sampleWithin = 800 * time.Millisecond // what has not answered by then is not known
)

// unknown is the value of what could not be asked for.
const unknown = -1

// sample is one look at the system.
type sample struct {
	at        time.Duration // since the run's start
	ready     int           // processes
	open      float64       // operations
	entries   float64       // that the uplink log holds, some that are stored and not trimmed yet included
	oldest    float64       // age of the oldest entry that is not stored, s
	connected int64         // endpoints
	failed    int64         // attempts of endpoints to connect that failed, so far
	kept      int64         // messages at the endpoints, without PUBACK
}

// nothing is a sample that there was no time for.
var nothing = sample{ready: unknown, open: unknown, entries: unknown, oldest: unknown, connected: unknown, kept: unknown}

// sampler looks again and again.
type sampler struct {
	cluster   *cluster.Cluster
	processes int // of it
	load      *load.Load
	end       context.CancelFunc
	running   sync.WaitGroup

	mu      sync.Mutex
	samples []sample
}

func watch(ctx context.Context, c *cluster.Cluster, l *load.Load) *sampler {
	ctx, end := context.WithCancel(ctx)
	s := &sampler{cluster: c, processes: len(c.Nodes()), load: l, end: end}
	s.running.Go(func() {
		open := s.opened(ctx)
		for testkit.Pause(ctx, sampleEvery) == nil {
			s.running.Go(func() { s.look(ctx, open) }) // one that waits for an answer does not hold up the next
		}
	})
	return s
}

func (s *sampler) stop() {
	s.end()
	s.running.Wait()
}

// last is the newest sample.
func (s *sampler) last() sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples) == 0 {
		return nothing
	}
	return s.samples[len(s.samples)-1]
}

func (s *sampler) all() []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedStableFunc(slices.Values(s.samples), func(a, b sample) int { return int(a.at - b.at) })
}

func (s *sampler) look(ctx context.Context, open func() float64) {
	ctx, stop := context.WithTimeout(ctx, sampleWithin)
	defer stop()
	devices := s.load.Counters()
	one := sample{at: time.Since(s.load.History().Start()), open: open(), entries: unknown, oldest: unknown,
		connected: devices.Connected, failed: devices.ConnectErrors, kept: devices.Journal}
	var asked sync.WaitGroup
	var mu sync.Mutex
	for _, n := range s.cluster.Nodes() {
		asked.Go(func() {
			if n.Ready(ctx) == nil {
				mu.Lock()
				one.ready++
				mu.Unlock()
			}
		})
	}
	for _, n := range s.cluster.Backends {
		asked.Go(func() {
			of := `{log="` + s.cluster.Uplink() + `"}` // the other log is empty, and may be away
			entries, err := n.Metric(ctx, "meterline_uplink_log_entries"+of)
			oldest, err2 := n.Metric(ctx, "meterline_uplink_log_oldest_seconds"+of)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && err2 == nil && !math.IsNaN(entries+oldest) { // NaN: the log could not be looked at
				one.entries, one.oldest = max(one.entries, entries), max(one.oldest, oldest)
			}
		})
	}
	asked.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, one)
}

// opened asks the record for the number of open operations, apart from all else since the driver waits for a server that
// stands still. What it gives is the last answer, unless that is too old.
func (s *sampler) opened(ctx context.Context) func() float64 {
	var mu sync.Mutex
	var n float64
	var at time.Time
	s.running.Go(func() {
		for testkit.Pause(ctx, sampleEvery) == nil {
			var open float64
			asked := time.Now()
			err := s.cluster.DB.QueryRow(`SELECT count(*) FROM operations WHERE open`).Scan(&open)
			if err == nil && time.Since(asked) < sampleWithin {
				mu.Lock()
				n, at = open, asked
				mu.Unlock()
			}
		}
	})
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(at) > sampleEvery+sampleWithin {
			return unknown
		}
		return n
	}
}
