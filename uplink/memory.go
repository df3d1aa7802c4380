package uplink

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"meterline/command"
)

// Memory is the log within one process. It keeps nothing itself: Append answers when the worker has stored the entries,
// so what was acknowledged is in the record, and what was not dies with the process.
type Memory struct {
	generation string
	limit      int
	arrived    chan struct{}

	mu         sync.Mutex
	partitions map[int]*memoryPartition
	held       int // entries in all of them
}

// memoryPartition is one partition: entries in order of their positions, which count from 1 without a hole.
type memoryPartition struct {
	last    int64 // position given last
	stored  int64 // everything up to it is in the record
	entries []command.Uplink
	waiting []waiting // in order of their positions
}

// waiting is an Append that waits for the record to reach a position.
type waiting struct {
	position int64
	stored   chan<- struct{} // buffered: one place per partition of the batch
}

// DefaultMemoryLimit is how many entries Memory holds when nothing else is said.
const DefaultMemoryLimit = 100_000

// NewMemory makes an empty log of at most limit entries that are not stored yet; 0 means DefaultMemoryLimit.
func NewMemory(limit int) *Memory {
	if limit == 0 {
		limit = DefaultMemoryLimit
	}
	return &Memory{generation: rand.Text(), limit: limit, arrived: make(chan struct{}, 1), partitions: map[int]*memoryPartition{}}
}

// Append puts entries in and waits until all of them are in the record. When ctx ends before, they may get there yet.
// ErrFull means that none was put in. Whoever calls Stored must not wait for Append.
func (m *Memory) Append(ctx context.Context, entries []command.Uplink) error {
	if len(entries) == 0 {
		return nil
	}
	stored, partitions, err := m.put(entries)
	if err != nil {
		return err
	}
	select {
	case m.arrived <- struct{}{}:
	default: // signalled already
	}
	for range partitions {
		select {
		case <-stored:
		case <-ctx.Done():
			m.giveUp(stored)
			return fmt.Errorf("wait for uplinks to be stored: %w", context.Cause(ctx))
		}
	}
	return nil
}

// put gives the entries their positions. stored is signalled once per partition.
func (m *Memory) put(entries []command.Uplink) (stored chan struct{}, partitions int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held+len(entries) > m.limit {
		return nil, 0, fmt.Errorf("append %d entries to %d: %w", len(entries), m.held, ErrFull)
	}
	m.held += len(entries)
	at := time.Now().UTC().Truncate(time.Microsecond)
	touched := map[int]*memoryPartition{}
	for _, e := range entries {
		p := m.partition(e.Partition)
		p.last++
		e.Position, e.AppendedAt = position(p.last), at
		p.entries = append(p.entries, e)
		touched[e.Partition] = p
	}
	stored = make(chan struct{}, len(touched))
	for _, p := range touched {
		p.waiting = append(p.waiting, waiting{p.last, stored})
	}
	return stored, len(touched), nil
}

// giveUp forgets an Append that waits no longer.
func (m *Memory) giveUp(stored chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.partitions {
		p.waiting = slices.DeleteFunc(p.waiting, func(w waiting) bool { return w.stored == stored })
	}
}

// Read returns what was appended to each partition after its position; see command.Log.
func (m *Memory) Read(_ context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	batches := make([]command.LogBatch, len(from))
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i, f := range from {
		p := m.partition(f.Partition)
		after := int64(0)
		if f.Generation == m.generation {
			after = number(f.Position)
		}
		b := command.LogBatch{Now: now, Horizon: now,
			LogPosition: command.LogPosition{Partition: f.Partition, Generation: m.generation, Position: position(after)}}
		start := max(after-p.stored, 0)
		if start < int64(len(p.entries)) {
			rest := p.entries[start:]
			b.Entries = slices.Clone(rest[:min(limit, len(rest))])
			if len(b.Entries) < len(rest) {
				b.Horizon = b.Entries[len(b.Entries)-1].AppendedAt
			}
			b.Position = b.Entries[len(b.Entries)-1].Position
		}
		batches[i] = b
	}
	return batches, nil
}

// Stored forgets what is in the record and answers those who wait for it.
func (m *Memory) Stored(_ context.Context, positions []command.LogPosition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range positions {
		n := number(at.Position)
		p := m.partition(at.Partition)
		if at.Generation != m.generation || n <= p.stored {
			continue
		}
		n = min(n, p.last)
		gone := n - p.stored
		p.entries = slices.Delete(p.entries, 0, int(gone))
		p.stored = n
		m.held -= int(gone)
		done := 0
		for done < len(p.waiting) && p.waiting[done].position <= n {
			p.waiting[done].stored <- struct{}{}
			done++
		}
		p.waiting = slices.Delete(p.waiting, 0, done)
	}
}

// Arrived signals that there may be something to read.
func (m *Memory) Arrived() <-chan struct{} { return m.arrived }

// partition finds or makes one. The caller holds the mutex.
func (m *Memory) partition(n int) *memoryPartition {
	p := m.partitions[n]
	if p == nil {
		p = &memoryPartition{}
		m.partitions[n] = p
	}
	return p
}

// position is the place of the nth entry; before the first it is "".
func position(n int64) command.Position {
	if n == 0 {
		return ""
	}
	return command.Position(strconv.FormatInt(n, 10))
}

// number is the reverse of position; what is not one of ours is before the first.
func number(p command.Position) int64 {
	n, _ := strconv.ParseInt(string(p), 10, 64)
	return n
}
