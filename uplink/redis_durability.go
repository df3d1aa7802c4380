package uplink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// lookWithin is how long Run waits for an answer about durability.
const lookWithin = 3 * time.Second

// weakness is what is wrong with a Redis that can lose what it acknowledged.
type weakness string

func (w weakness) Error() string { return string(w) }

// CheckDurability says what is weak about the Redis behind the log, each master of a Cluster: an acknowledged uplink
// survives every crash only with appendonly, appendfsync always and no eviction.
func (r *Redis) CheckDurability(ctx context.Context) error { return r.eachMaster(ctx, durable) }

// Ready says why the log cannot be relied upon now: it cannot be reached, it is weak, or it has too few replicas. After a
// failover another server answers, with its own configuration.
func (r *Redis) Ready(ctx context.Context) error {
	err := r.CheckDurability(ctx)
	if errors.As(err, new(weakness)) && r.opt.AllowWeak {
		err = nil
	}
	return errors.Join(err, r.eachMaster(ctx, r.enoughReplicas))
}

// look notices when Redis becomes weak, or is not any more. A Redis that does not answer has not changed.
func (r *Redis) look(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, lookWithin)
	defer stop()
	err := r.CheckDurability(ctx)
	if err != nil && !errors.As(err, new(weakness)) {
		return
	}
	now := ""
	if err != nil {
		now = err.Error()
	}
	r.mu.Lock()
	before := r.weak
	r.weak = now
	r.mu.Unlock()
	switch {
	case now == "":
		r.metrics.weak.Set(0)
		if before != "" {
			r.opt.Logger.Info("the uplink log is durable again")
		}
	default:
		r.metrics.weak.Set(1)
		if now != before {
			r.opt.Logger.Error("the uplink log is weak: what it acknowledges may be lost", "error", err)
		}
	}
}

// eachMaster asks every server that takes entries.
func (r *Redis) eachMaster(ctx context.Context, ask func(context.Context, redis.Cmdable) error) error {
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok {
		return ask(ctx, r.client)
	}
	var mu sync.Mutex
	var errs []error
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		if err := ask(ctx, node); err != nil {
			mu.Lock() // nodes are visited at once
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("%s: %w", node.Options().Addr, err))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

var needed = [][2]string{{"appendonly", "yes"}, {"appendfsync", "always"}, {"maxmemory-policy", "noeviction"}}

// durable is a weakness when the server could lose what it answered.
func durable(ctx context.Context, c redis.Cmdable) error {
	var weak []string
	for _, must := range needed {
		got, err := c.ConfigGet(ctx, must[0]).Result()
		if redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "ERR") {
			return weakness(fmt.Sprintf("whether the uplink log's Redis is durable cannot be known, CONFIG is unavailable: %v", err))
		}
		if err != nil {
			return fmt.Errorf("look whether the uplink log's Redis is durable: %w", err)
		}
		if got[must[0]] != must[1] {
			weak = append(weak, fmt.Sprintf("%s is %q, not %q", must[0], got[must[0]], must[1]))
		}
	}
	if len(weak) > 0 {
		return weakness("the uplink log's Redis may lose acknowledged uplinks: " + strings.Join(weak, ", "))
	}
	return nil
}

// enoughReplicas complains when appends cannot be acknowledged for want of replicas.
func (r *Redis) enoughReplicas(ctx context.Context, c redis.Cmdable) error {
	info, err := c.Info(ctx, "replication").Result()
	if err != nil {
		return fmt.Errorf("look at the replicas of the uplink log: %w", err)
	}
	online := strings.Count(info, "state=online")
	if online < r.opt.Replicas {
		return errors.New("the uplink log needs " + strconv.Itoa(r.opt.Replicas) + " replicas and has " + strconv.Itoa(online))
	}
	return nil
}
