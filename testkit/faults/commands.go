package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meterline/command"
	"meterline/fault"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit"
	"meterline/testkit/cluster"
)

// killAtIssue lets a backend die when it has committed a command and not answered. The same key must give the same command
// afterwards.
func killAtIssue(ctx context.Context, s *scene) error {
	n, of := s.apiNode(), s.direct("issue")
	api, err := s.bait(ctx, n, of)
	if err != nil {
		return err
	}
	if err := n.Arm(fault.Plan{Points: []fault.Armed{{ID: s.id, Point: fault.IssueCommitted, Action: fault.Kill}}}); err != nil {
		return err
	}
	if err := testkit.Pause(ctx, armedWithin); err != nil {
		return err
	}
	_, first := api.Issue(ctx, order(of.ID, time.Second), s.id) // its connection breaks, if it was what was hit
	if err := until(ctx, n.Name+" is hit", func() error { return s.wasHit(n) }); err != nil {
		return errors.Join(ErrNotHit, err)
	}
	if err := s.died(ctx, n); err != nil {
		return err
	}
	if _, err := api.Issue(ctx, order(of.ID, time.Second), s.id); err != nil {
		return fmt.Errorf("ask again with the same key: %w", err)
	}
	made, err := s.count(ctx, `SELECT count(*) FROM operations WHERE device_id = $1`, of.ID)
	if err == nil && made != 1 {
		err = fmt.Errorf("%d commands with one key; the first was answered with: %w", made, first)
	}
	return err
}

// large is more devices than the transaction that accepts a command makes operations for.
const large = 1200

// killAtExpand lets a backend die between two chunks of a large command.
func killAtExpand(ctx context.Context, s *scene) error {
	ipc := simulator.Registration{ID: meterread.DeviceID(s.short() + "ipc"), Kind: "ipc", Enabled: true, Secret: secret}
	group := s.short()[:len(s.short())-1]
	devices := []simulator.Registration{ipc}
	for i := range large {
		devices = append(devices, simulator.Registration{ID: meterread.DeviceID(fmt.Sprintf("%s%04d", s.short(), i)), Kind: "meter",
			EndpointID: ipc.ID, Route: []byte(fmt.Sprintf(`[{"meter":"%d"}]`, i)), Enabled: true, Tags: map[string]string{"bait": group}})
	}
	api, err := s.bait(ctx, s.apiNode(), devices...)
	if err != nil {
		return err
	}
	o := order("", 5*time.Second)
	o.Targets = command.Selector{Tags: map[string]string{"bait": group}}
	var v simulator.CommandView
	err = s.killWhoever(ctx, s.Backends, fault.Armed{Point: fault.ExpandCommitted}, func() error {
		v, err = api.Issue(ctx, o, s.id)
		return err
	})
	if err != nil {
		return err
	}
	return s.becomes(ctx, "every operation was made and has ended", large,
		`SELECT count(*) FROM operations WHERE command_id = $1 AND state = 'expired'`, v.ID)
}

// killAtDeadline lets an owner die while it ends what is due.
func killAtDeadline(ctx context.Context, s *scene) error {
	of := s.direct("due")
	api, err := s.bait(ctx, s.apiNode(), of)
	if err != nil {
		return err
	}
	return s.killWhoever(ctx, s.Backends, fault.Armed{Point: fault.SweepDeadline}, func() error {
		_, err := api.Issue(ctx, order(of.ID, time.Second), s.id)
		return err
	})
}

// killAtLease lets an owner die while it sweeps a lease that is over: that of a device that says nothing.
func killAtLease(point fault.Name) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		of := s.direct("deaf")
		api, err := s.bait(ctx, s.apiNode(), of)
		if err != nil {
			return err
		}
		d, err := connect(of.ID, one(s, s.Gateways), true)
		if err != nil {
			return err
		}
		defer d.close()
		return s.killWhoever(ctx, s.Backends, fault.Armed{Point: point}, func() error {
			_, err := api.Issue(ctx, order(of.ID, 2*time.Minute), s.id)
			return err
		})
	}
}

// killWhoever arms all of nodes, does something, and lets those that are hit by it rise again.
func (s *scene) killWhoever(ctx context.Context, nodes []*cluster.Node, armed fault.Armed, do func() error) error {
	armed.ID, armed.Action = s.id, fault.Kill
	for _, n := range nodes {
		if err := n.Arm(fault.Plan{Points: []fault.Armed{armed}}); err != nil {
			return err
		}
	}
	if err := testkit.Pause(ctx, armedWithin); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	hit, err := s.whoever(ctx, nodes, armed.Point)
	if err != nil {
		return errors.Join(ErrNotHit, err)
	}
	for _, n := range nodes {
		if err := n.Arm(fault.Plan{}); err != nil {
			return err
		}
	}
	if err := s.died(ctx, hit); err != nil {
		return err
	}
	for _, n := range nodes { // another may have been hit before it was disarmed
		if n.PID() == 0 {
			if err := n.Start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// whoever is the first node that is hit.
func (s *scene) whoever(ctx context.Context, nodes []*cluster.Node, point fault.Name) (hit *cluster.Node, err error) {
	err = until(ctx, "somebody passes "+string(point), func() error {
		for _, n := range nodes {
			if s.wasHit(n) == nil {
				hit = n
				return nil
			}
		}
		return errNotYet
	})
	return hit, err
}
