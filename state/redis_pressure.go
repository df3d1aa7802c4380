package state

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Live state may share its Redis with the uplink log, which must not run out of memory: above pressure of maxmemory
// what can be read from the record again is dropped, and no more is put in. Presence is small and stays.

const (
	pressure    = 0.6
	relieveTick = 5 * time.Second
)

// Run watches how full Redis is until ctx is done. Without it nothing is dropped.
func (r *Redis) Run(ctx context.Context) error {
	tick := time.NewTicker(relieveTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_, _ = r.Relieve(ctx) // a Redis that cannot be asked takes nothing in, either
		}
	}
}

// Relieve drops commands and newest readings when Redis is above 60 % of its maxmemory, and says how many keys it
// dropped. From then on, until it finds Redis below, Fill and FillLatest do nothing.
func (r *Redis) Relieve(ctx context.Context) (dropped int, err error) {
	full := false
	err = r.masters(ctx, func(ctx context.Context, node *redis.Client) error {
		tight, err := isTight(ctx, node)
		full = full || tight
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("look at the memory of Redis: %w", err)
	}
	r.full.Store(full)
	if !full {
		return 0, nil
	}
	err = r.masters(ctx, func(ctx context.Context, node *redis.Client) error {
		n, err := dropLiveState(ctx, node)
		dropped += n
		return err
	})
	if err != nil {
		return dropped, fmt.Errorf("drop live state: %w", err)
	}
	return dropped, nil
}

// isTight says whether a node is above pressure of its maxmemory.
func isTight(ctx context.Context, node *redis.Client) (bool, error) {
	info, err := node.Info(ctx, "memory").Result()
	if err != nil {
		return false, err
	}
	used, most := infoNumber(info, "used_memory"), infoNumber(info, "maxmemory")
	return most > 0 && used > pressure*most, nil
}

// infoNumber finds a number in what INFO answers, 0 where it is missing.
func infoNumber(info, name string) float64 {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(v), 64)
			return n
		}
	}
	return 0
}

func dropLiveState(ctx context.Context, node *redis.Client) (dropped int, err error) {
	for _, pattern := range []string{"meterline:command:*", "meterline:latest:*"} {
		var cursor uint64
		for {
			keys, next, err := node.Scan(ctx, cursor, pattern, 1000).Result()
			if err != nil {
				return dropped, err
			}
			if len(keys) > 0 {
				_, err := node.Pipelined(ctx, func(p redis.Pipeliner) error { // one key each: slots may differ
					for _, k := range keys {
						p.Unlink(ctx, k)
					}
					return nil
				})
				if err != nil {
					return dropped, err
				}
				dropped += len(keys)
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return dropped, nil
}
