package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/command"
)

var (
	_ command.Log   = (*UplinkLog)(nil)
	_ command.Ahead = (*UplinkLog)(nil)
)

// DefaultUplinkBound is how many entries a partition holds when nothing else is said.
const DefaultUplinkBound = 2_000_000

// UplinkLogOptions of the log in SQL; zero fields mean the defaults.
type UplinkLogOptions struct {
	Bound      int                   // entries per partition that are not stored yet; DefaultUplinkBound
	Logger     *slog.Logger          // nowhere
	Registerer prometheus.Registerer // nowhere
	Backlogs   prometheus.Registerer // of how much the log holds, which Run looks at; nowhere
}

// UplinkLog is the uplink log as a table beside the record, for installations without a Redis to keep it in. Gateways
// append, the owner of a partition reads it in order.
//
// Appends take turns, across all processes, from before an entry gets its number until it is committed: so the order of
// the numbers is the order of the commits, and a reader that has seen a number has seen all before it. In PostgreSQL an
// append is one statement: a process that stands still in the middle of it keeps nobody waiting.
//
// It is safe for concurrent use. Gateways, which only append, need no Run.
type UplinkLog struct {
	db      *DB
	opt     UplinkLogOptions
	metrics *uplinkMetrics
	watch   *command.BacklogWatch
	arrived chan struct{}

	mu         sync.Mutex
	generation string            // "" until it is known
	room       map[int]occupancy // of partitions, as Append saw them last
	reading    map[int]readUpTo  // what Read was asked for lately
	stored     map[int]int64     // to be trimmed by Run
	recorded   map[int]int64     // of partitions that are read: up to where they are in the record
}

// readUpTo is how far a partition has been read.
type readUpTo struct {
	seq int64
	at  time.Time
}

// UplinkLog makes the log. The record stays the caller's to close.
func (db *DB) UplinkLog(opt UplinkLogOptions) *UplinkLog {
	if opt.Bound <= 0 {
		opt.Bound = DefaultUplinkBound
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	return &UplinkLog{db: db, opt: opt, metrics: newUplinkMetrics(opt.Registerer), arrived: make(chan struct{}, 1),
		watch: command.NewBacklogWatch(opt.Backlogs, "store", opt.Logger),
		room:  map[int]occupancy{}, reading: map[int]readUpTo{}, stored: map[int]int64{}, recorded: map[int]int64{}}
}

// Arrived signals that there may be something to read: while Run runs, whoever appended it.
func (l *UplinkLog) Arrived() <-chan struct{} { return l.arrived }

// Signal makes Arrived signal, for those who heard of an append before Run saw it. It does not block.
func (l *UplinkLog) Signal() {
	select {
	case l.arrived <- struct{}{}:
	default: // signalled already
	}
}

const (
	watchEvery = 250 * time.Millisecond
	trimEvery  = time.Second
	trimRows   = 5000 // per transaction
	// readLately is how long a partition is watched after it was read last: others read it now.
	readLately = 10 * time.Second
)

// Run signals when something was appended to the partitions that are being read, which it is told of and looks for besides, and
// forgets what is stored, until ctx is done. Failures are logged and tried again a second later.
func (l *UplinkLog) Run(ctx context.Context) error {
	watch, trim, look := time.NewTicker(watchEvery), time.NewTicker(trimEvery), time.NewTicker(lookEvery)
	defer look.Stop()
	defer watch.Stop()
	defer trim.Stop()
	if l.db.postgres {
		var hearing sync.WaitGroup
		hearing.Go(func() { l.hear(ctx) })
		defer hearing.Wait()
	}
	blind := false // the last look failed; the next is with the next trim
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.C:
			if blind {
				continue
			}
		case <-look.C:
			if err := l.look(ctx); err != nil && ctx.Err() == nil {
				l.watch.Lost()
				l.opt.Logger.Warn("cannot see how much the uplink log holds", "error", err)
			}
			continue
		case <-trim.C:
			if err := l.trim(ctx); err != nil && ctx.Err() == nil {
				l.opt.Logger.Warn("uplink log not trimmed", "error", err)
			}
		}
		waiting, err := l.waiting(ctx)
		if blind = err != nil; blind && ctx.Err() == nil {
			l.opt.Logger.Warn("uplink log not watched", "error", err)
		}
		if waiting {
			l.Signal()
		}
	}
}

var watchColumns = columns("v_partition bigint, v_seq bigint")

// waiting says whether there is something after what was read of the partitions that are being read.
func (l *UplinkLog) waiting(ctx context.Context) (found bool, err error) {
	in := newInput(watchColumns, 16)
	l.mu.Lock()
	for n, r := range l.reading {
		if time.Since(r.at) > readLately {
			delete(l.reading, n)
			continue
		}
		in.add(n, r.seq)
	}
	l.mu.Unlock()
	if in.len() == 0 {
		return false, nil
	}
	err = l.db.single(ctx, func(t *tx) error {
		return t.get(&found, `
			SELECT EXISTS (
				SELECT 1
				FROM `+t.relation(watchColumns, 1)+`
				JOIN uplink_log ON partition = v_partition AND seq > v_seq)`, in.args(t.dialect)...)
	})
	if err != nil {
		return false, fmt.Errorf("watch uplink log: %w", err)
	}
	return found, nil
}

// Stored notes what Run may forget. It does not block.
func (l *UplinkLog) Stored(_ context.Context, positions []command.LogPosition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range positions {
		if p.Generation == l.generation && p.Position != "" {
			l.stored[p.Partition] = max(l.stored[p.Partition], sequence(p.Position))
			l.recorded[p.Partition] = l.stored[p.Partition]
		}
	}
}

// trim forgets what is stored. What it cannot do now is done the next time.
func (l *UplinkLog) trim(ctx context.Context) error {
	l.mu.Lock()
	due := l.stored
	l.stored = map[int]int64{}
	l.mu.Unlock()
	var failed error
	for n, seq := range due {
		if failed == nil {
			failed = l.trimPartition(ctx, n, seq)
		}
		if failed != nil { // this one and those that are left
			l.mu.Lock()
			l.stored[n] = max(l.stored[n], seq)
			l.mu.Unlock()
		}
	}
	return failed
}

// trimPartition deletes a partition's entries up to seq, some in each transaction.
func (l *UplinkLog) trimPartition(ctx context.Context, partition int, seq int64) error {
	for {
		var n int
		err := l.db.write(ctx, bulk, func(t *tx) (err error) {
			n, err = t.exec(`
				DELETE FROM uplink_log
				WHERE partition = $1 AND seq <= (
					SELECT max(seq)
					FROM (
						SELECT seq
						FROM uplink_log
						WHERE partition = $1 AND seq <= $2
						ORDER BY seq
						LIMIT $3) AS part)`, partition, seq, trimRows)
			return err
		})
		if err != nil {
			return fmt.Errorf("trim partition %d: %w", partition, err)
		}
		l.metrics.trimmed.Add(float64(n))
		l.freed(partition, n)
		if n < trimRows {
			return nil
		}
	}
}

// settingUplinkGeneration is the key of the setting that tells this log from every other.
const settingUplinkGeneration = "uplink_log_generation"

// generationOf reads the log's generation, and makes it when nobody has before.
func (l *UplinkLog) generationOf(ctx context.Context) (string, error) {
	l.mu.Lock()
	known := l.generation
	l.mu.Unlock()
	if known != "" {
		return known, nil
	}
	err := l.db.write(ctx, urgent, func(t *tx) error {
		_, err := t.exec(`
			INSERT INTO settings (key, value)
			VALUES ($1, $2)
			ON CONFLICT (key) DO NOTHING`, settingUplinkGeneration, rand.Text())
		if err != nil {
			return err
		}
		return t.get(&known, `
			SELECT value
			FROM settings
			WHERE key = $1`, settingUplinkGeneration)
	})
	if err != nil {
		return "", fmt.Errorf("read generation of the uplink log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation = known
	return known, nil
}
