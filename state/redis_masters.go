package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// masters calls f for every server that takes writes, one after the other as far as f can see.
func (r *Redis) masters(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	switch c := r.client.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			r.mu.Lock() // nodes are visited at once
			defer r.mu.Unlock()
			return f(ctx, node)
		})
	case *redis.Client:
		return f(ctx, c)
	}
	return fmt.Errorf("do not know the nodes of a %T", r.client)
}

// histories names the histories of the data that the masters have: another text after a failover, and after a restart.
func (r *Redis) histories(ctx context.Context) (string, error) {
	var all []string
	err := r.masters(ctx, func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx, "replication").Result()
		if err != nil {
			return err
		}
		if !strings.Contains(info, "role:master") {
			return errors.New("a replica answers")
		}
		_, rest, _ := strings.Cut(info, "master_replid:")
		id, _, _ := strings.Cut(rest, "\r\n")
		all = append(all, id)
		return nil
	})
	slices.Sort(all)
	return strings.Join(all, " "), err
}
