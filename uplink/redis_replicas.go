package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrNotReplicated is what Append answers when not so many replicas as must have confirmed the entries in time. They are in
// the log all the same, unless the master is lost before a replica has them.
var ErrNotReplicated = errors.New("too few replicas have the entries")

const (
	// waitMost is how long replicas are waited for at most: less than the client waits for an answer.
	waitMost = 2800 * time.Millisecond
	// waitSpare, or a tenth, is left of the caller's time for the answer's way back.
	waitSpare = 50 * time.Millisecond
)

// appendAll runs appendScript for all calls and waits for the replicas.
func (r *Redis) appendAll(ctx context.Context, calls []call) error {
	if r.opt.Replicas == 0 {
		return r.outcome(calls, runAll(ctx, r.client, appendScript, calls, wake))
	}
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok {
		return r.appendReplicated(ctx, r.client, calls)
	}
	groups := map[*redis.Client][]call{}
	for _, c := range calls {
		node, err := cluster.MasterForKey(ctx, keysOf(c.partition)[0])
		if err != nil {
			return fmt.Errorf("find the master of partition %d: %w", c.partition, err)
		}
		groups[node] = append(groups[node], c)
	}
	var work sync.WaitGroup
	errs := make(chan error, len(groups))
	for node, calls := range groups {
		work.Go(func() { errs <- r.appendReplicated(ctx, node, calls) })
	}
	work.Wait()
	close(errs)
	var failed error
	for err := range errs {
		failed = errors.Join(failed, err)
	}
	if _, moved := redis.IsMovedError(failed); moved {
		cluster.ReloadState(ctx)
	}
	return failed
}

// appendReplicated appends at one master. WAIT is for what its own connection has written, so it travels with the writes; and
// the script with the first of them, since to be told that it is missing would take a WAIT's time.
func (r *Redis) appendReplicated(ctx context.Context, master pipelining, calls []call) error {
	var wait *redis.Cmd
	first := true
	run := func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd {
		if first {
			first = false
			return appendScript.Eval(ctx, c, keys, args...)
		}
		return appendScript.EvalSha(ctx, c, keys, args...)
	}
	answers := pipeline(ctx, master, run, calls, []func(context.Context, redis.Pipeliner){wake, func(ctx context.Context, p redis.Pipeliner) {
		wait = p.Do(ctx, "WAIT", r.opt.Replicas, patience(ctx).Milliseconds())
	}})
	if err := r.outcome(calls, answers); err != nil {
		return err
	}
	have, err := wait.Int64()
	switch {
	case err != nil:
		return fmt.Errorf("wait for replicas: %w", err)
	case have < int64(r.opt.Replicas):
		return fmt.Errorf("append, with %d of %d replicas: %w", have, r.opt.Replicas, ErrNotReplicated)
	}
	return nil
}

// patience is how long replicas may take.
func patience(ctx context.Context) time.Duration {
	most := waitMost
	if until, ok := ctx.Deadline(); ok {
		left := time.Until(until)
		most = min(most, left-max(left/10, waitSpare))
	}
	return max(most, time.Millisecond) // 0 would be for ever
}
