package cluster

import (
	"context"
	"fmt"
)

// Shares says how many partitions each backend says that it owns; those that are down are not listed.
func (c *Cluster) Shares(ctx context.Context) (map[string]int, error) {
	shares := map[string]int{}
	for _, n := range c.Backends {
		if n.PID() == 0 {
			continue
		}
		owned, err := n.Metric(ctx, "meterline_worker_partitions")
		if err != nil {
			return nil, fmt.Errorf("ask for the partitions of %s: %w", n.Name, err)
		}
		shares[n.Name] = int(owned)
	}
	return shares, nil
}

// WaitShares waits until the backends own what want says.
func (c *Cluster) WaitShares(ctx context.Context, want map[string]int) error {
	return until(ctx, fmt.Sprintf("the partitions are shared as %v", want), func() error {
		got, err := c.Shares(ctx)
		if err != nil {
			return err
		}
		for name, n := range want {
			if got[name] != n {
				return fmt.Errorf("they are shared as %v", got)
			}
		}
		return nil
	})
}
