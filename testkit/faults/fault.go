package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"meterline/testkit"
	"meterline/testkit/cluster"
)

// Fault is one way to break a cluster.
type Fault struct {
	Number int    // in the list of faults that the project tests itself against
	Name   string // unique: redis-killed
	// Short and Long are how long it is held in a short run and in a long one; 0: the fault knows by itself.
	Short, Long time.Duration
	OnlyLong    bool // takes too long for a short run
	// Flushes says that what was acknowledged and not yet stored may be lost: such a fault has a row of its own.
	Flushes bool
	// Uplink, when set, is the only uplink log that this fault can be tried with.
	Uplink string
	// Armed says that the programs must be built with the tag faults.
	Armed bool
	// Panics says that a message of the fault's own device becomes a dead letter because it panics what judges it.
	Panics bool

	inject func(context.Context, *scene) error
}

// ErrNotHit is the error of a fault that was produced and hit nothing. A run with it proves nothing.
var ErrNotHit = errors.New("the fault hit nothing")

// scene is what a fault has while it is produced.
type scene struct {
	*cluster.Cluster
	rand     *rand.Rand
	id       string        // unique in the life of a cluster
	hold     time.Duration // how long the fault is to be held
	evidence []string
	other    string // directory of other programs, for an upgrade; "": built when needed
}

// saw notes what shows that the fault was hit.
func (s *scene) saw(format string, args ...any) {
	s.evidence = append(s.evidence, fmt.Sprintf(format, args...))
}

// keep holds the fault for its time.
func (s *scene) keep(ctx context.Context) error { return testkit.Pause(ctx, s.hold) }

// one chooses by chance.
func one[T any](s *scene, from []T) T { return from[s.rand.IntN(len(from))] }

// worker is a backend that owns partitions.
func (s *scene) worker(ctx context.Context) (*cluster.Node, error) {
	var owners []*cluster.Node
	err := until(ctx, "a backend owns partitions", func() error {
		shares, err := s.Shares(ctx)
		if err != nil {
			return err
		}
		owners = owners[:0]
		for _, n := range s.Backends {
			if shares[n.Name] > 0 {
				owners = append(owners, n)
			}
		}
		if len(owners) == 0 {
			return errors.New("none does")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return one(s, owners), nil
}

const (
	pollEvery = 20 * time.Millisecond
	// settleWithin is how long the cluster may take until what a fault waits for is so.
	settleWithin = 60 * time.Second
)

// until polls, for settleWithin at most.
func until(ctx context.Context, what string, cond func() error) error {
	ctx, stop := context.WithTimeout(ctx, settleWithin)
	defer stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		if testkit.Pause(ctx, pollEvery) != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
	}
}
