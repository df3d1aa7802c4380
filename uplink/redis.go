package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
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
//
// What readers see as the generation is that key and the replication id of the master that answers. It is another one
// whenever the history of the data may have lost its end: after a failover, and after any restart. A reader then begins
// at the start, too: entry ids come from the clock of the master, so a new master, which may never have had what was
// read last, can give entries ids below the reader's position. What is read twice is absorbed by its keys, and what is
// stored has been trimmed, but for the last second.

const wakeChannel = "meterline:uplinks"

// DefaultLimit is how many entries a partition holds when nothing else is said.
const DefaultLimit = 1_000_000

// Options of the log in Redis; zero fields mean the defaults.
type Options struct {
	Limit      int                   // entries per partition; DefaultLimit
	TrimEvery  time.Duration         // how often Run forgets what is stored; a second
	Replicas   int                   // that must have an entry before it counts as appended; none
	CheckEvery time.Duration         // how often Run looks whether Redis is still as durable as it must be; 5 s
	AllowWeak  bool                  // Ready says nothing of a Redis that is not
	Logger     *slog.Logger          // nowhere
	Registerer prometheus.Registerer // nowhere
	Backlogs   prometheus.Registerer // of how much the log holds, which Run looks at; nowhere
}

// Redis is the log in Redis, durable as far as that Redis is; see CheckDurability. Its methods block no longer than
// their context says, given a client with ContextTimeoutEnabled.
type Redis struct {
	client  redis.UniversalClient
	opt     Options
	metrics *metrics
	watch   *command.BacklogWatch
	arrived chan struct{}

	mu       sync.Mutex
	lengths  map[int]int64               // of partitions, as Append saw them last
	stored   map[int]command.LogPosition // to be trimmed by Run
	recorded map[int]command.Position    // of partitions that are read: up to where they are in the record
	another  map[int]string              // generations that readers were told of
	weak     string                      // what was wrong with the durability of Redis when Run looked last
}

// NewRedis keeps the log behind client, which stays the caller's to close. Without Run nothing is trimmed, Arrived does not
// signal, and nobody notices a Redis that becomes weak.
func NewRedis(client redis.UniversalClient, opt Options) *Redis {
	if opt.Limit == 0 {
		opt.Limit = DefaultLimit
	}
	if opt.TrimEvery == 0 {
		opt.TrimEvery = time.Second
	}
	if opt.CheckEvery == 0 {
		opt.CheckEvery = 5 * time.Second
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	return &Redis{client: client, opt: opt, metrics: newMetrics(opt.Registerer), arrived: make(chan struct{}, 1),
		watch:   command.NewBacklogWatch(opt.Backlogs, "redis", opt.Logger),
		lengths: map[int]int64{}, stored: map[int]command.LogPosition{}, recorded: map[int]command.Position{}, another: map[int]string{}}
}

// keysOf are the stream of a partition and its generation.
func keysOf(partition int) []string {
	k := "meterline:uplink:{" + strconv.Itoa(partition) + "}"
	return []string{k, k + ":generation"}
}

// Arrived signals that there may be something to read, while Run runs.
func (r *Redis) Arrived() <-chan struct{} { return r.arrived }

// Run listens for what is appended, forgets what is stored and watches how durable Redis is, until ctx is done.
func (r *Redis) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() { every(ctx, r.opt.TrimEvery, r.trimOrWarn) })
	others.Go(func() { r.look(ctx); every(ctx, r.opt.CheckEvery, r.look) })
	others.Go(func() { every(ctx, measureEvery, r.measureOrWarn) })
	defer others.Wait()
	defer stop()
	sub := r.client.Subscribe(ctx, wakeChannel)
	wakes := sub.Channel() // connects again by itself
	defer func() { _ = sub.Close() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-wakes:
			if !open {
				return errors.New("listen for uplinks: the client was closed")
			}
			r.signal()
		}
	}
}

// every calls f each time, until ctx is done.
func every(ctx context.Context, d time.Duration, f func(context.Context)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f(ctx)
		}
	}
}

func (r *Redis) trimOrWarn(ctx context.Context) {
	if err := r.trim(ctx); err != nil && ctx.Err() == nil {
		r.opt.Logger.Warn("uplink log not trimmed", "error", err)
	}
}

func (r *Redis) measureOrWarn(ctx context.Context) {
	limit, stop := context.WithTimeout(ctx, measureEvery)
	defer stop()
	if err := r.measure(limit); err != nil && ctx.Err() == nil {
		r.watch.Lost()
		r.opt.Logger.Warn("cannot see how much the uplink log holds", "error", err)
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
			r.stored[p.Partition], r.recorded[p.Partition] = p, p.Position
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
	for i, a := range runAll(ctx, r.client, script, calls) {
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
var trimScript = redis.NewScript(generationLua + `
local name, master = redis.call('GET', KEYS[2]), history()
if not name or not master or name .. '.' .. master ~= ARGV[1] then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[2], 'LIMIT', 200000)
`)

// newGeneration names a generation, should there be none.
func newGeneration() string { return rand.Text() }
