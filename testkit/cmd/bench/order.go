//go:build linux

package main

import (
	"context"
	"encoding/json"

	"golang.org/x/sync/errgroup"

	"meterline/command"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit/swarm"
)

// order is the body of a command to read meters. Nothing of it expires within a run.
func order(mode command.Mode, targets command.Selector) []byte {
	const longEnough = 3600
	b, _ := json.Marshal(simulator.Order{Kind: command.MeterRead, Mode: mode, Targets: targets, // of strings and numbers
		Items: []meterread.Item{swarm.Item}, TimeoutS: longEnough})
	return b
}

// together does n things side by side; the first error ends all.
func together(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}
