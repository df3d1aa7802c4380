package uplink

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"meterline/command"
)

// Both reads two logs as one: gateways may append to either, and a worker that read only one would let what the other holds
// wait for ever. A position of Both is a position in each, the first's before the separator; so is a generation. What is
// handed to Append goes to the first.
type Both struct {
	logs     [2]command.Log
	arrived  chan struct{}
	quietFor time.Duration

	signalled [2]atomic.Bool

	// one goroutine only, the reader
	away  [2]time.Time                // until when a log that could not be read is left alone
	next  [2]time.Time                // when a log that does not signal is looked at again
	quiet [2]map[int]command.LogBatch // what was read last, to its end
	here  time.Time                   // when the first log's clock was read, by this process's monotonic clock
	there time.Time                   // and what it said
	ahead time.Duration               // of the first log's clock
}

var _ command.Log = (*Both)(nil)

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
func NewBoth(first, second command.Log, quiet time.Duration) *Both {
	now := time.Now() // until it is known better, the clocks agree
	return &Both{logs: [2]command.Log{first, second}, arrived: make(chan struct{}, 1), quietFor: quiet, here: now, there: now}
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
			b.signalled[0].Store(true)
		case <-b.logs[1].Arrived():
			b.signalled[1].Store(true)
		}
		select {
		case b.arrived <- struct{}{}:
		default:
		}
	}
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

// Read reads both logs: of a partition first what the first has, then what the second has. All times are by the first log's
// clock. Where one cannot be read the other's entries come all the same, with no horizon: nothing is known of what the
// other holds. The error is that of both.
func (b *Both) Read(ctx context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	var read [2]map[int]command.LogBatch
	var errs [2]error
	for i := range b.logs {
		read[i], errs[i] = b.readOne(ctx, i, from, limit)
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

// readOne reads one log's part of the partitions.
func (b *Both) readOne(ctx context.Context, i int, from []command.LogPosition, limit int) (map[int]command.LogBatch, error) {
	now := time.Now()
	if now.Before(b.away[i]) {
		return nil, errAway
	}
	if !b.signalled[i].Swap(false) && now.Before(b.next[i]) && b.covers(i, from) {
		return b.quiet[i], nil
	}
	ctx, stop := context.WithTimeout(ctx, readWithin)
	defer stop()
	parts := make([]command.LogPosition, len(from))
	for j, p := range from {
		parts[j] = part(p, i)
	}
	batches, err := b.logs[i].Read(ctx, parts, limit)
	if err != nil {
		b.away[i] = time.Now().Add(awayFor)
		return nil, err
	}
	of := make(map[int]command.LogBatch, len(batches))
	b.quiet[i], b.next[i] = make(map[int]command.LogBatch, len(batches)), now.Add(b.quietFor)
	for _, batch := range batches {
		of[batch.Partition] = batch
		if len(batch.Entries) > 0 {
			b.next[i] = time.Time{} // it is not quiet
		}
		batch.Now = time.Time{}
		b.quiet[i][batch.Partition] = batch
	}
	return of, nil
}

// covers says whether what was read last says all there is to say about where the reader is now.
func (b *Both) covers(i int, from []command.LogPosition) bool {
	for _, p := range from {
		if known, ok := b.quiet[i][p.Partition]; !ok || known.LogPosition != part(p, i) {
			return false
		}
	}
	return true
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
		u.Position = pair(u.Position, before.Position)
		both.Entries = append(both.Entries, u)
	}
	for _, u := range second.Entries {
		u.Position = pair(first.Position, u.Position)
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
