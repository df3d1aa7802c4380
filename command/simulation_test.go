package command_test

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag      = flag.Int64("seed", -1, "play this schedule of the simulation alone and tell what happens in it")
	schedulesFlag = flag.Int("schedules", 1000, "how many schedules of the simulation are played")
	fromFlag      = flag.Uint64("from", 1, "the seed of the first of them")
)

// coverage is what schedules reached, all together.
type coverage struct {
	mu      sync.Mutex
	traces  map[uint64]struct{}
	exist   map[string]int // calls that leave the process, by where they are made
	crashes map[string]int // by where, before or after
}

func newCoverage() *coverage {
	return &coverage{traces: map[uint64]struct{}{}, exist: map[string]int{}, crashes: map[string]int{}}
}

// watched says whether a schedule notes every call, which is dear.
func (*coverage) watched(seed uint64) bool { return seed%64 == 0 }

func (c *coverage) exists(at string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exist[at]++
}

func (c *coverage) crashed(at string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.crashes[at]++
}

func (c *coverage) played(trace uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.traces[trace] = struct{}{}
}

// play plays one schedule and says what was wrong with it; "" when nothing was.
func play(t *testing.T, seed uint64, cover *coverage, tell bool) (wrong string, lines []string) {
	synctest.Test(t, func(*testing.T) {
		w := newWorld(seed, cover, tell)
		w.run()
		wrong, lines = w.check.what, w.trace.lines
		cover.played(w.trace.hash.Sum64())
	})
	return wrong, lines
}

// TestSimulation plays schedules, each drawn from its seed, and finds nothing wrong in any: see docs/simulation.md.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if *seedFlag >= 0 {
		wrong, lines := play(t, uint64(*seedFlag), newCoverage(), true)
		t.Logf("schedule %d\n%s", *seedFlag, strings.Join(lines, "\n"))
		if wrong != "" {
			t.Fatalf("schedule %d: %s", *seedFlag, wrong)
		}
		return
	}
	began, cover := time.Now(), newCoverage()
	var next atomic.Uint64
	var bad atomic.Int64
	var players sync.WaitGroup
	for range 2 {
		players.Go(func() {
			for bad.Load() < 5 {
				n := next.Add(1) - 1
				if n >= uint64(*schedulesFlag) {
					return
				}
				if wrong, _ := play(t, *fromFlag+n, cover, false); wrong != "" {
					bad.Add(1)
					t.Errorf("schedule %d: %s\n\tgo test ./command -run Simulation -seed=%d -v", *fromFlag+n, wrong, *fromFlag+n)
				}
			}
		})
	}
	players.Wait()
	t.Logf("%d schedules in %.1f s: %d distinct traces; killed at %d of %d crash points", next.Load(), time.Since(began).Seconds(),
		len(cover.traces), len(cover.crashes), 2*len(cover.exist))
	if testing.Verbose() {
		for _, at := range slices.Sorted(maps.Keys(cover.exist)) {
			t.Logf("%6d before, %6d after  %s", cover.crashes[at+", before"], cover.crashes[at+", after"], at)
		}
	}
}

// What a seed means does not depend on maps, clocks or what else runs.
func TestASeedIsOneSchedule(t *testing.T) {
	t.Parallel()
	for seed := range uint64(25) {
		_, first := play(t, seed, newCoverage(), true)
		_, again := play(t, seed, newCoverage(), true)
		if !slices.Equal(first, again) {
			for i := range first {
				if i >= len(again) || first[i] != again[i] {
					t.Fatalf("schedule %d, step %d: %q", seed, i, first[i:min(i+3, len(first))])
				}
			}
			t.Fatalf("schedule %d goes on at its second time", seed)
		}
	}
}
