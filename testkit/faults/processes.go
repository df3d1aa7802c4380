package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meterline/fault"
	"meterline/testkit"
	"meterline/testkit/cluster"
)

// down kills a process now, holds that, and starts it again.
func (s *scene) down(ctx context.Context, n *cluster.Node) error {
	pid := n.PID()
	if err := n.Kill(); err != nil {
		return err
	}
	s.saw("killed %s, process %d", n.Name, pid)
	return s.rise(ctx, n)
}

// rise holds what is, and starts n again.
func (s *scene) rise(ctx context.Context, n *cluster.Node) error {
	if err := s.keep(ctx); err != nil {
		return err
	}
	return n.Start()
}

func killGateway(ctx context.Context, s *scene) error { return s.down(ctx, one(s, s.Gateways)) }

func killBackend(ctx context.Context, s *scene) error { return s.down(ctx, one(s, s.Backends)) }

// mostSkipped is how often a point may be passed before it is hit, so that it does not always hit the first one.
const mostSkipped = 5

// at arms n at a point, and returns when it was hit there.
func (s *scene) at(ctx context.Context, n *cluster.Node, a fault.Armed) error {
	a.ID = s.id
	if err := n.Arm(fault.Plan{Points: []fault.Armed{a}}); err != nil {
		return err
	}
	err := until(ctx, fmt.Sprintf("%s passes %s", n.Name, a.Point), func() error { return s.wasHit(n) })
	if errors.Is(err, errNotYet) {
		return fmt.Errorf("%w: %w", ErrNotHit, err)
	}
	return err
}

var errNotYet = errors.New("it has not")

func (s *scene) wasHit(n *cluster.Node) error {
	hits, err := n.Hits()
	if err != nil {
		return err
	}
	for _, h := range hits {
		if h.ID == s.id {
			s.saw("%s passed %s and was hit, process %d", n.Name, h.Point, h.PID)
			return nil
		}
	}
	return errNotYet
}

// killAt lets n die at a point, holds that, and starts it again.
func (s *scene) killAt(ctx context.Context, n *cluster.Node, point fault.Name, skip int) error {
	if err := s.at(ctx, n, fault.Armed{Point: point, Skip: skip, Action: fault.Kill}); err != nil {
		return err
	}
	return s.died(ctx, n)
}

func (s *scene) died(ctx context.Context, n *cluster.Node) error {
	if err := n.WaitDown(ctx); err != nil {
		return err
	}
	if err := n.Arm(fault.Plan{}); err != nil { // it must not hit the next one
		return err
	}
	return s.rise(ctx, n)
}

// killGatewayAt lets whichever gateway passes the point first die there: all devices may be at one.
func killGatewayAt(point fault.Name) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		return s.killWhoever(ctx, s.Gateways, fault.Armed{Point: point, Skip: s.rand.IntN(mostSkipped)}, func() error { return nil })
	}
}

func killWorkerAt(point fault.Name) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		n, err := s.worker(ctx)
		if err != nil {
			return err
		}
		return s.killAt(ctx, n, point, s.rand.IntN(mostSkipped))
	}
}

// killAtTakeOver kills the owner of partitions, and then the one who takes them over while it does.
func killAtTakeOver(ctx context.Context, s *scene) error {
	first, second, err := s.pair(ctx)
	if err != nil {
		return err
	}
	if err := first.Kill(); err != nil {
		return err
	}
	return errors.Join(s.killAt(ctx, second, fault.TakeOverRecovered, 0), first.Start())
}

// killAtRelease lets an owner die while it gives partitions to a newcomer.
func killAtRelease(ctx context.Context, s *scene) error {
	first, second, err := s.pair(ctx)
	if err != nil {
		return err
	}
	if err := first.Kill(); err != nil {
		return err
	}
	if err := s.WaitShares(ctx, map[string]int{second.Name: partitions / (len(s.Backends) - 1)}); err != nil {
		return err
	}
	armed := fault.Armed{ID: s.id, Point: fault.HoldReleasing, Action: fault.Kill}
	if err := second.Arm(fault.Plan{Points: []fault.Armed{armed}}); err != nil {
		return err
	}
	if err := first.Start(); err != nil {
		return err
	}
	if err := s.at(ctx, second, armed); err != nil {
		return err
	}
	return s.died(ctx, second)
}

// partitions is how many there are, as migrate sets it.
const partitions = 16

// pair is two different backends, the first of which owns partitions.
func (s *scene) pair(ctx context.Context) (first, second *cluster.Node, err error) {
	if len(s.Backends) < 2 {
		return nil, nil, fmt.Errorf("%w: it takes two backends", ErrNotHit)
	}
	if first, err = s.worker(ctx); err != nil {
		return nil, nil, err
	}
	for second = first; second == first; {
		second = one(s, s.Backends)
	}
	return first, second, nil
}

// pauseOwner lets an owner stand still for longer than its leases, so that there are two who believe to own.
func pauseOwner(ctx context.Context, s *scene) error {
	n, err := s.worker(ctx)
	if err != nil {
		return err
	}
	if err := n.Pause(); err != nil {
		return err
	}
	return s.wake(ctx, n)
}

// stopWorkerAt is pauseOwner at a point.
func stopWorkerAt(point fault.Name) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		n, err := s.worker(ctx)
		if err != nil {
			return err
		}
		if err := s.at(ctx, n, fault.Armed{Point: point, Skip: s.rand.IntN(mostSkipped), Action: fault.Stop}); err != nil {
			return err
		}
		if err := n.Arm(fault.Plan{}); err != nil {
			return err
		}
		return s.wake(ctx, n)
	}
}

// wake waits until the others have taken over what a standing owner had, and lets it go on.
func (s *scene) wake(ctx context.Context, n *cluster.Node) error {
	began := time.Now()
	err := until(ctx, "others own what "+n.Name+" had", func() error {
		shares, err := s.sharesWithout(ctx, n)
		if err != nil || shares == partitions {
			return err
		}
		return fmt.Errorf("they own %d of %d", shares, partitions)
	})
	if len(s.Backends) > 1 && err != nil {
		return errors.Join(err, n.Resume())
	}
	if left := s.hold - time.Since(began); left > 0 {
		err = testkit.Pause(ctx, left)
	}
	s.saw("%s stood still for %v, others took over", n.Name, time.Since(began).Round(time.Millisecond))
	return errors.Join(err, n.Resume())
}

// sharesWithout is how many partitions others than n own.
func (s *scene) sharesWithout(ctx context.Context, n *cluster.Node) (sum int, err error) {
	for _, other := range s.Backends {
		if other == n {
			continue
		}
		owned, err := other.Metric(ctx, "meterline_worker_partitions")
		if err != nil {
			return 0, err
		}
		sum += int(owned)
	}
	return sum, nil
}

// setClocks lets every process have a clock of its own, off by up to five seconds.
func setClocks(ctx context.Context, s *scene) error {
	began := time.Now()
	for _, n := range s.Nodes() {
		off := time.Duration(s.rand.Int64N(int64(10*time.Second))) - 5*time.Second
		if err := n.Arm(fault.Plan{ClockOffset: off.Milliseconds()}); err != nil {
			return err
		}
	}
	if err := s.keep(ctx); err != nil {
		return err
	}
	for _, n := range s.Nodes() {
		hits, err := n.Hits()
		if err != nil {
			return err
		}
		for _, h := range hits {
			if h.ClockOffset != 0 && h.At.After(began) {
				s.saw("%s goes by a clock that is %d ms off", n.Name, h.ClockOffset)
			}
		}
	}
	return nil
}

// delayCommand holds up commands that are claimed and not yet published.
func delayCommand(ctx context.Context, s *scene) error {
	n, err := s.worker(ctx)
	if err != nil {
		return err
	}
	return s.at(ctx, n, fault.Armed{Point: fault.DispatchClaimed, Skip: s.rand.IntN(mostSkipped), Action: fault.Delay, Millis: s.hold.Milliseconds()})
}

// upgrade replaces the programs of one process after the other.
func upgrade(ctx context.Context, s *scene) error {
	if other := s.Nodes()[0].Programs; s.other == "" && other != s.Cluster.Programs {
		s.other = s.Cluster.Programs // and back
	}
	if s.other == "" {
		b := s.Build()
		b.Stamp += "+"
		var err error
		if s.other, err = b.Programs(ctx); err != nil {
			return err
		}
	}
	for _, n := range s.Nodes() {
		if err := n.Upgrade(ctx, s.other); err != nil {
			return err
		}
		s.saw("%s runs the other programs, process %d", n.Name, n.PID())
	}
	return nil
}
