package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/fault"
)

// The log in Redis is one stream per partition, meterline:uplink:{<n>}, with a key beside it that names its generation,
// meterline:uplink:{<n>}:generation: whoever finds that missing (Redis was flushed) makes another, and readers begin
// again at the start. There are no consumer groups: positions live in the record, with the data.

const wakeChannel = "meterline:uplinks"

// DefaultLimit is how many entries a partition holds when nothing else is said.
const DefaultLimit = 1_000_000

// Options of the log in Redis; zero fields mean the defaults.
type Options struct {
	Limit      int                   // entries per partition; DefaultLimit
	TrimEvery  time.Duration         // how often Run forgets what is stored; a second
	Logger     *slog.Logger          // nowhere
	Registerer prometheus.Registerer // nowhere
}

// Redis is the log in Redis, durable as far as that Redis is; see CheckDurability. Its methods block no longer than
// their context says, given a client with ContextTimeoutEnabled.
type Redis struct {
	client  redis.UniversalClient
	opt     Options
	metrics *metrics
	arrived chan struct{}

	mu      sync.Mutex
	lengths map[int]int64               // of partitions, as Append saw them last
	stored  map[int]command.LogPosition // to be trimmed by Run
}

// NewRedis keeps the log behind client, which stays the caller's to close. Gateways need no Run.
func NewRedis(client redis.UniversalClient, opt Options) *Redis {
	if opt.Limit == 0 {
		opt.Limit = DefaultLimit
	}
	if opt.TrimEvery == 0 {
		opt.TrimEvery = time.Second
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	return &Redis{client: client, opt: opt, metrics: newMetrics(opt.Registerer), arrived: make(chan struct{}, 1),
		lengths: map[int]int64{}, stored: map[int]command.LogPosition{}}
}

// keysOf are the stream of a partition and its generation.
func keysOf(partition int) []string {
	k := "meterline:uplink:{" + strconv.Itoa(partition) + "}"
	return []string{k, k + ":generation"}
}

// Arrived signals that there may be something to read, while Run runs.
func (r *Redis) Arrived() <-chan struct{} { return r.arrived }

// Run listens for what is appended and forgets what is stored, until ctx is done.
func (r *Redis) Run(ctx context.Context) error {
	sub := r.client.Subscribe(ctx, wakeChannel)
	wakes := sub.Channel() // connects again by itself
	defer func() { _ = sub.Close() }()
	tick := time.NewTicker(r.opt.TrimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-wakes:
			if !open {
				return errors.New("listen for uplinks: the client was closed")
			}
			r.signal()
		case <-tick.C:
			if err := r.trim(ctx); err != nil && ctx.Err() == nil {
				r.opt.Logger.Warn("uplink log not trimmed", "error", err)
			}
		}
	}
}

func (r *Redis) signal() {
	select {
	case r.arrived <- struct{}{}:
	default: // signalled already
	}
}

// Stored notes what Run may forget. It does not block.
func (r *Redis) Stored(_ context.Context, positions []command.LogPosition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range positions {
		if p.Position != "" {
			r.stored[p.Partition] = p
		}
	}
}

// trim forgets what is below the stored positions, roughly: whole nodes of the stream, which costs next to nothing.
// What it cannot do now is done the next time.
func (r *Redis) trim(ctx context.Context) error {
	r.mu.Lock()
	due := r.stored
	r.stored = map[int]command.LogPosition{}
	r.mu.Unlock()
	var calls []call
	for n, p := range due {
		calls = append(calls, call{n, []any{p.Generation, string(p.Position)}})
	}
	script := trimScript
	if fault.Bug(fault.BugTrimByLength) {
		script = redis.NewScript(`return redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)`)
	}
	var failed error
	for i, a := range r.runAll(ctx, script, calls) {
		n := calls[i].partition
		removed, err := a.Int64()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("trim partition %d: %w", n, err))
			r.mu.Lock()
			if _, newer := r.stored[n]; !newer {
				r.stored[n] = due[n]
			}
			r.mu.Unlock()
		}
		r.metrics.trimmed.Add(float64(removed))
	}
	return failed
}

// trimScript forgets entries below a position, unless the log is of another generation. It answers how many.
//
//	KEYS 1 stream, 2 generation
//	ARGV 1 generation, 2 position
var trimScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[2], 'LIMIT', 200000)
`)

// call is one run of a script on a partition.
type call struct {
	partition int
	args      []any
}

// runAll runs a script once per call, all of them together, and then what else is given. The answers are in the calls'
// order, each with its own error.
func (r *Redis) runAll(ctx context.Context, s *redis.Script, calls []call, then ...func(context.Context, redis.Pipeliner)) []*redis.Cmd {
	answers := r.pipeline(ctx, s.EvalSha, calls, then)
	var again []call
	var places []int
	for i, a := range answers {
		if redis.HasErrorPrefix(a.Err(), "NOSCRIPT") {
			again, places = append(again, calls[i]), append(places, i)
		}
	}
	for i, a := range r.pipeline(ctx, s.Eval, again, then) {
		answers[places[i]] = a
	}
	return answers
}

type evalFunc func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

func (r *Redis) pipeline(ctx context.Context, eval evalFunc, calls []call, then []func(context.Context, redis.Pipeliner)) []*redis.Cmd {
	if len(calls) == 0 {
		return nil
	}
	answers := make([]*redis.Cmd, len(calls))
	_, _ = r.client.Pipelined(ctx, func(p redis.Pipeliner) error { // each answer carries its own error
		for i, c := range calls {
			answers[i] = eval(ctx, p, keysOf(c.partition), c.args...)
		}
		for _, f := range then {
			f(ctx, p)
		}
		return nil
	})
	return answers
}

// CheckDurability says what is weak about the Redis behind the log: an acknowledged uplink survives every crash only
// with appendonly, appendfsync always and no eviction.
func (r *Redis) CheckDurability(ctx context.Context) error {
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return durable(ctx, node) })
	}
	return durable(ctx, r.client)
}

func durable(ctx context.Context, c redis.Cmdable) error {
	var weak []string
	for _, must := range [][2]string{{"appendonly", "yes"}, {"appendfsync", "always"}, {"maxmemory-policy", "noeviction"}} {
		got, err := c.ConfigGet(ctx, must[0]).Result()
		if err != nil {
			return fmt.Errorf("whether the uplink log's Redis is durable cannot be known, CONFIG is unavailable: %w", err)
		}
		if got[must[0]] != must[1] {
			weak = append(weak, fmt.Sprintf("%s is %q, not %q", must[0], got[must[0]], must[1]))
		}
	}
	if len(weak) > 0 {
		return errors.New("the uplink log's Redis may lose acknowledged uplinks: " + strings.Join(weak, ", "))
	}
	return nil
}

// newGeneration names a generation, should there be none.
func newGeneration() string { return rand.Text() }
