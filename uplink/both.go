package uplink

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"meterline/command"
)

// Both reads two logs as one: gateways may append to either, and a worker that read only one would let what the other holds
// wait for ever. A position of Both is a position in each, the first's before the separator; so is a generation. What is
// handed to Append goes to the first.
type Both struct {
	logs    [2]command.Log
	arrived chan struct{}

	// one goroutine only, the reader
	here  time.Time     // when the first log's clock was read, by this process's monotonic clock
	there time.Time     // and what it said
	ahead time.Duration // of the first log's clock
	plain reading
	past  reading // of a backlog
}

// reading is what is known of the two logs by reading them in one of two ways.
type reading struct {
	read      [2]func(context.Context, []command.LogPosition, int) ([]command.LogBatch, error)
	signalled [2]atomic.Bool // since they were read last
	quietFor  time.Duration

	away  [2]time.Time     // until when a log that could not be read is left alone
	quiet [2]map[int]quiet // partitions in which nothing was found: a log that does not signal need not be asked again at once
}

// quiet is a batch without entries, and when it was read.
type quiet struct {
	command.LogBatch
	at time.Time
}

var (
	_ command.Log      = (*Both)(nil)
	_ command.Ahead    = (*Both)(nil)
	_ command.Owning   = (*Both)(nil)
	_ command.Pressing = (*Both)(nil)
)

const (
	separator  = "|"
	readWithin = 900 * time.Millisecond // for each: one that stands still must not hold up the other
	awayFor    = 2 * time.Second
)

var errAway = errors.New("the log could not be read a moment ago")

// Quiet is a good measure for how long a log that does not signal need not be asked: one of the two is usually empty. The
// horizon may be so much behind.
const Quiet = 250 * time.Millisecond

// NewBoth makes one log of two. Run must be running for Arrived to signal.
func NewBoth(first, second command.Log, quietFor time.Duration) *Both {
	now := time.Now() // until it is known better, the clocks agree
	b := &Both{logs: [2]command.Log{first, second}, arrived: make(chan struct{}, 1), here: now, there: now}
	for _, r := range []*reading{&b.plain, &b.past} {
		r.quietFor, r.quiet = quietFor, [2]map[int]quiet{{}, {}}
	}
	for i, log := range b.logs {
		b.plain.read[i], b.past.read[i] = log.Read, readNothing
		if ahead, can := log.(command.Ahead); can {
			b.past.read[i] = ahead.ReadAhead
		}
	}
	return b
}

// readNothing reads past the backlog of a log that cannot: nothing is found.
func readNothing(_ context.Context, from []command.LogPosition, _ int) ([]command.LogBatch, error) {
	batches := make([]command.LogBatch, len(from))
	for i, p := range from {
		batches[i].LogPosition = p
	}
	return batches, nil
}

// Arrived signals that there may be something to read in either.
func (b *Both) Arrived() <-chan struct{} { return b.arrived }

// Run passes the signals of both on until ctx is done.
func (b *Both) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.logs[0].Arrived():
			b.signal(0)
		case <-b.logs[1].Arrived():
			b.signal(1)
		}
		select {
		case b.arrived <- struct{}{}:
		default:
		}
	}
}

func (b *Both) signal(i int) {
	b.plain.signalled[i].Store(true)
	b.past.signalled[i].Store(true)
}

// Alarms says what is wrong with either log, if anything.
func (b *Both) Alarms() (all []string) {
	for _, log := range b.logs {
		if l, can := log.(interface{ Alarms() []string }); can {
			all = append(all, l.Alarms()...)
		}
	}
	return all
}

// Holds is what both logs hold together, as far as that is known; the bound is that of the first.
func (b *Both) Holds() (all command.Holding, known bool) {
	for _, log := range b.logs {
		l, can := log.(interface {
			Holds() (command.Holding, bool)
		})
		if !can {
			continue
		}
		h, sees := l.Holds()
		if !sees {
			continue
		}
		if !known {
			all.Bound = h.Bound
		}
		known = true
		all.Entries += h.Entries
		all.Bytes += h.Bytes
		all.Oldest, all.Share = max(all.Oldest, h.Oldest), max(all.Share, h.Share)
	}
	return all, known
}

// Presses says whether either log does.
func (b *Both) Presses() bool {
	return slices.ContainsFunc(b.logs[:], func(log command.Log) bool {
		l, can := log.(command.Pressing)
		return can && l.Presses()
	})
}

// Append puts entries into the first log.
func (b *Both) Append(ctx context.Context, entries []command.Uplink) error {
	return b.logs[0].Append(ctx, entries)
}

// Stored tells each log its part.
func (b *Both) Stored(ctx context.Context, positions []command.LogPosition) {
	for i, log := range b.logs {
		parts := make([]command.LogPosition, 0, len(positions))
		for _, p := range positions {
			if mine := part(p, i); mine.Position != "" {
				parts = append(parts, mine)
			}
		}
		log.Stored(ctx, parts)
	}
}

// Owns tells each log.
func (b *Both) Owns(partitions []int) {
	for _, log := range b.logs {
		if l, wants := log.(command.Owning); wants {
			l.Owns(partitions)
		}
	}
}

// Read reads both logs: of a partition first what the first has, then what the second has. All times are by the first log's
// clock. Where one cannot be read the other's entries come all the same, with no horizon: nothing is known of what the
// other holds. The error is that of both.
func (b *Both) Read(ctx context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	var read [2]map[int]command.LogBatch
	var errs [2]error
	for i := range b.logs {
		read[i], errs[i] = b.plain.one(ctx, i, from, limit)
	}
	if errs[0] != nil && errs[1] != nil {
		return nil, errors.Join(errs[0], errs[1])
	}
	b.compare(read)
	batches := make([]command.LogBatch, 0, len(from))
	for _, p := range from {
		batches = append(batches, b.join(p, read[0][p.Partition], read[1][p.Partition], errs[0] == nil && errs[1] == nil))
	}
	return batches, nil
}

// ReadAhead reads both logs past a backlog; where one cannot be read the other's entries come all the same.
func (b *Both) ReadAhead(ctx context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	first, err1 := b.past.one(ctx, 0, from, limit)
	second, err2 := b.past.one(ctx, 1, from, limit)
	if err1 != nil && err2 != nil {
		return nil, errors.Join(err1, err2)
	}
	batches := make([]command.LogBatch, 0, len(from))
	for _, p := range from {
		batches = append(batches, b.join(p, first[p.Partition], second[p.Partition], false))
	}
	return batches, nil
}

// one reads one log's part of the partitions.
func (r *reading) one(ctx context.Context, i int, from []command.LogPosition, limit int) (map[int]command.LogBatch, error) {
	now := time.Now()
	if now.Before(r.away[i]) {
		return nil, errAway
	}
	if r.signalled[i].Swap(false) {
		clear(r.quiet[i])
	}
	parts := make([]command.LogPosition, len(from))
	for j, p := range from {
		parts[j] = part(p, i)
	}
	of, known := r.recall(i, parts, now)
	if known {
		return of, nil
	}
	ctx, stop := context.WithTimeout(ctx, readWithin)
	defer stop()
	batches, err := r.read[i](ctx, parts, limit)
	if err != nil {
		r.away[i] = time.Now().Add(awayFor)
		return nil, err
	}
	for _, batch := range batches {
		of[batch.Partition] = batch
		if len(batch.Entries) > 0 { // it is not quiet
			delete(r.quiet[i], batch.Partition)
			continue
		}
		batch.Now = time.Time{}
		r.quiet[i][batch.Partition] = quiet{batch, now}
	}
	return of, nil
}

// recall is what was read last, when that says all there is to say about where the reader is now.
func (r *reading) recall(i int, from []command.LogPosition, now time.Time) (of map[int]command.LogBatch, known bool) {
	of = make(map[int]command.LogBatch, len(from))
	for _, p := range from {
		q, there := r.quiet[i][p.Partition]
		if !there || q.LogPosition != p || now.Sub(q.at) >= r.quietFor {
			return of, false
		}
		of[p.Partition] = q.LogBatch
	}
	return of, true
}

// compare notes how far the clocks of the two logs are apart, when both have just been read.
func (b *Both) compare(read [2]map[int]command.LogBatch) {
	for n, first := range read[0] {
		if !first.Now.IsZero() {
			b.here, b.there = time.Now(), first.Now
		}
		if second, ok := read[1][n]; ok && !first.Now.IsZero() && !second.Now.IsZero() {
			b.ahead = first.Now.Sub(second.Now)
			return
		}
	}
}

// part is the i-th log's part of a position.
func part(p command.LogPosition, i int) command.LogPosition {
	generations := strings.SplitN(p.Generation, separator, 2)
	positions := strings.SplitN(string(p.Position), separator, 2)
	if len(generations) < 2 || len(positions) < 2 { // of before there were two: read from the start, which changes nothing
		return command.LogPosition{Partition: p.Partition}
	}
	return command.LogPosition{Partition: p.Partition, Generation: generations[i], Position: command.Position(positions[i])}
}

// join makes one batch of two. A log that could not be read keeps its position.
func (b *Both) join(from command.LogPosition, first, second command.LogBatch, complete bool) command.LogBatch {
	if first.Generation == "" {
		first.LogPosition = part(from, 0)
	}
	if second.Generation == "" {
		second.LogPosition = part(from, 1)
	}
	both := command.LogBatch{Now: b.there.Add(time.Since(b.here)).UTC()}
	switch {
	case !first.Now.IsZero():
		both.Now = first.Now
	case !second.Now.IsZero():
		both.Now = second.Now.Add(b.ahead)
	}
	both.Partition = from.Partition
	both.Generation = first.Generation + separator + second.Generation
	both.Position = pair(first.Position, second.Position)
	before := part(from, 1)
	if before.Generation != second.Generation {
		before.Position = "" // of a log that is gone
	}
	for _, u := range first.Entries {
		u.Entry, u.Position = u.Position, pair(u.Position, before.Position)
		both.Entries = append(both.Entries, u)
	}
	for _, u := range second.Entries {
		u.Entry, u.Position = separator+u.Position, pair(first.Position, u.Position)
		u.AppendedAt = u.AppendedAt.Add(b.ahead)
		both.Entries = append(both.Entries, u)
	}
	if complete {
		both.Horizon = first.Horizon
		if h := second.Horizon.Add(b.ahead); h.Before(both.Horizon) {
			both.Horizon = h
		}
	}
	return both
}

func pair(first, second command.Position) command.Position {
	return first + separator + second
}
