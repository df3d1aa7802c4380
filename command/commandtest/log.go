package commandtest

import (
	"context"
	"slices"
	"strconv"
	"time"

	"meterline/command"
)

// Log is the uplink log, in memory.
type Log struct {
	clock      func() time.Time
	generation int
	parts      []part
}

var (
	_ command.Log   = (*Log)(nil)
	_ command.Ahead = (*Log)(nil)
)

// part is one partition: its entries from the first that was not trimmed on.
type part struct {
	trimmed int64
	entries []command.Uplink
}

// NewLog makes an empty log with so many partitions, whose clock is the one given.
func NewLog(partitions int, clock func() time.Time) *Log {
	return &Log{clock: clock, generation: 1, parts: make([]part, partitions)}
}

func (l *Log) name() string { return "g" + strconv.Itoa(l.generation) }

// Append implements command.Log.
func (l *Log) Append(_ context.Context, entries []command.Uplink) error {
	for _, u := range entries {
		p := &l.parts[u.Partition]
		u.AppendedAt = l.clock().UTC().Truncate(time.Microsecond)
		u.Position = place(p.trimmed + int64(len(p.entries)) + 1)
		p.entries = append(p.entries, u)
	}
	return nil
}

func place(n int64) command.Position {
	if n == 0 {
		return ""
	}
	return command.Position(strconv.FormatInt(n, 10))
}

func number(p command.Position) int64 {
	n, _ := strconv.ParseInt(string(p), 10, 64)
	return n
}

// Read implements command.Log.
func (l *Log) Read(_ context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	batches := make([]command.LogBatch, len(from))
	now := l.clock().UTC().Truncate(time.Microsecond)
	for i, f := range from {
		rest := l.Unread(f)
		b := command.LogBatch{LogPosition: f, Horizon: now, Now: now}
		if f.Generation != l.name() {
			b.Generation, b.Position = l.name(), ""
		}
		if len(rest) > limit {
			rest = rest[:limit]
			b.Horizon = rest[limit-1].AppendedAt
		}
		if len(rest) > 0 {
			b.Entries = append(b.Entries, rest...)
			b.Position = rest[len(rest)-1].Position
		}
		batches[i] = b
	}
	return batches, nil
}

// ReadAhead implements command.Ahead.
func (l *Log) ReadAhead(ctx context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	places := slices.Clone(from)
	for i := range places {
		if at := &places[i]; at.Generation != l.name() || at.Position == "" {
			p := &l.parts[at.Partition]
			at.Generation, at.Position = l.name(), place(p.trimmed+int64(len(p.entries)))
		}
	}
	return l.Read(ctx, places, limit)
}

// Unread lists what comes after a position. It must not be changed.
func (l *Log) Unread(at command.LogPosition) []command.Uplink {
	p := &l.parts[at.Partition]
	after := int64(0)
	if at.Generation == l.name() {
		after = number(at.Position)
	}
	return p.entries[min(max(after-p.trimmed, 0), int64(len(p.entries))):]
}

// Stored implements command.Log.
func (l *Log) Stored(_ context.Context, positions []command.LogPosition) {
	for _, at := range positions {
		p := &l.parts[at.Partition]
		if n := number(at.Position) - p.trimmed; at.Generation == l.name() && n > 0 {
			n = min(n, int64(len(p.entries)))
			p.entries = p.entries[n:]
			p.trimmed += n
		}
	}
}

// Arrived implements command.Log: it never signals, which is allowed.
func (*Log) Arrived() <-chan struct{} { return nil }

// Flush loses everything, as FLUSHALL does, and begins a new generation.
func (l *Log) Flush() {
	l.generation++
	clear(l.parts)
}
