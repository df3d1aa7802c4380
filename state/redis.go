package state

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
)

// lifetime is how long live state is kept after its last write.
const lifetime = 24 * time.Hour

// pipelineLength is how many commands travel to Redis together at most.
const pipelineLength = 500

// Redis is the live state in Redis: one node, Sentinel or Cluster. What one script touches shares a hash tag. No method
// blocks longer than its context says, given a client with ContextTimeoutEnabled; errors of Redis, out of memory
// included, are returned.
type Redis struct {
	client redis.UniversalClient
	full   atomic.Bool // no more is put in; see Relieve

	mu   sync.Mutex
	owed map[string]struct{} // keys of what changed while Redis could not be told: to be dropped first

	looked, announced string // histories of the masters, as Lost saw them last, and when Announce did; see Lost
	listed, vanished  bool   // Lost found the gateway's entry; Announce found none where Lost had
}

// NewRedis keeps the live state behind client, which stays the caller's to close.
func NewRedis(client redis.UniversalClient) *Redis {
	return &Redis{client: client, owed: map[string]struct{}{}}
}

var (
	_ command.Live     = (*Redis)(nil)
	_ command.Notices  = (*Redis)(nil)
	_ command.Presence = (*Redis)(nil)
)

// call is one run of a script.
type call struct {
	keys []string
	args []any
}

// runAll runs the script once per call, all of them together, in order per key as long as Redis knows the script. The
// answers are in the calls' order, each with its own error; err is the first of them.
func (r *Redis) runAll(ctx context.Context, s *redis.Script, calls []call) (answers []*redis.Cmd, err error) {
	answers = make([]*redis.Cmd, 0, len(calls))
	for len(calls) > 0 {
		part := calls[:min(len(calls), pipelineLength)]
		calls = calls[len(part):]
		got := r.pipeline(ctx, part, s.EvalSha)
		var again []call
		var places []int
		for i, a := range got {
			if redis.HasErrorPrefix(a.Err(), "NOSCRIPT") {
				again, places = append(again, part[i]), append(places, i)
			}
		}
		for i, a := range r.pipeline(ctx, again, s.Eval) {
			got[places[i]] = a
		}
		answers = append(answers, got...)
	}
	for _, a := range answers {
		if a.Err() != nil {
			return answers, a.Err()
		}
	}
	return answers, nil
}

type evalFunc func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

func (r *Redis) pipeline(ctx context.Context, calls []call, eval evalFunc) []*redis.Cmd {
	if len(calls) == 0 {
		return nil
	}
	answers := make([]*redis.Cmd, len(calls))
	_, _ = r.client.Pipelined(ctx, func(p redis.Pipeliner) error { // each answer carries its own error
		for i, c := range calls {
			answers[i] = eval(ctx, p, c.keys, c.args...)
		}
		return nil
	})
	return answers
}

// owe notes keys whose contents are not up to date any more.
func (r *Redis) owe(keys ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range keys {
		r.owed[k] = struct{}{}
	}
}

// settle drops what Redis could not be told about. What it cannot drop now it drops the next time.
func (r *Redis) settle(ctx context.Context) error {
	r.mu.Lock()
	keys := slices.Collect(maps.Keys(r.owed))
	clear(r.owed)
	r.mu.Unlock()
	for len(keys) > 0 {
		part := keys[:min(len(keys), pipelineLength)]
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, k := range part { // one by one: slots differ
				p.Unlink(ctx, k)
			}
			return nil
		})
		if err != nil {
			r.owe(keys...)
			return fmt.Errorf("drop what is not up to date: %w", err)
		}
		keys = keys[len(part):]
	}
	return nil
}

// newToken is what a caller that fills something in shows to prove that nothing happened meanwhile.
func newToken() string { return rand.Text() }
