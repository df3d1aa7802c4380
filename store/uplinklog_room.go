package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	spanEvery  = time.Second      // how old an estimate from a span may be, and a count that refuses something
	countEvery = 10 * time.Second // how old a count may be that refuses nothing
)

// occupancy is how many entries a partition holds: never fewer than it does, but for what other processes appended since.
//
// Counting is dear where there is much to count. So the span of a partition's numbers is looked at instead, which costs
// two looks into the index: it is never less than the count, and more because all partitions share the numbers. Only
// where the span is too large are the entries counted, and seldom.
type occupancy struct {
	estimate int64
	made     time.Time
	counted  bool // or a span
}

func (o occupancy) old(now time.Time) bool {
	every := spanEvery
	if o.counted {
		every = countEvery
	}
	return now.Sub(o.made) >= every
}

// checkRoom is ErrLogFull when what is coming to the partitions does not fit. An empty one takes a batch of any size.
func (l *UplinkLog) checkRoom(ctx context.Context, coming map[int]int64) error {
	now := time.Now()
	if err := l.lookAtSpans(ctx, now, coming); err != nil {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(coming)) {
		if err := l.fits(ctx, now, n, coming[n]); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, c := range coming {
		o := l.room[n]
		o.estimate += c
		l.room[n] = o
	}
	return nil
}

var partitionColumns = columns("v_partition bigint")

// lookAtSpans makes the estimates that are old, or not there, again.
func (l *UplinkLog) lookAtSpans(ctx context.Context, now time.Time, partitions map[int]int64) error {
	in := newInput(partitionColumns, len(partitions))
	l.mu.Lock()
	for n := range partitions {
		if l.room[n].old(now) {
			in.add(n)
		}
	}
	l.mu.Unlock()
	if in.len() == 0 {
		return nil
	}
	var spans []struct {
		Partition int   `db:"v_partition"`
		Span      int64 `db:"span"`
	}
	err := l.db.single(ctx, func(t *tx) error {
		spans = nil
		return t.list(&spans, `
			SELECT v_partition, COALESCE(
				(SELECT max(seq) FROM uplink_log WHERE partition = v_partition)
				- (SELECT min(seq) FROM uplink_log WHERE partition = v_partition) + 1, 0) AS span
			FROM `+t.relation(partitionColumns, 1), in.args(t.dialect)...)
	})
	if err != nil {
		return fmt.Errorf("look how full the uplink log is: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range spans {
		l.room[s.Partition] = occupancy{estimate: s.Span, made: now}
	}
	return nil
}

// fits is ErrLogFull when what is coming does not fit, after counting unless that was done just now.
func (l *UplinkLog) fits(ctx context.Context, now time.Time, partition int, coming int64) error {
	l.mu.Lock()
	o := l.room[partition]
	l.mu.Unlock()
	if o.estimate+coming <= int64(l.opt.Bound) {
		return nil
	}
	if !o.counted || now.Sub(o.made) >= spanEvery {
		n, err := l.count(ctx, partition)
		if err != nil {
			return err
		}
		o = occupancy{estimate: n, made: now, counted: true}
		l.mu.Lock()
		l.room[partition] = o
		l.mu.Unlock()
	}
	if o.estimate > 0 && o.estimate+coming > int64(l.opt.Bound) {
		return fmt.Errorf("%d more than the %d in partition %d: %w", coming, o.estimate, partition, ErrLogFull)
	}
	return nil
}

// count counts a partition's entries, no further than the bound.
func (l *UplinkLog) count(ctx context.Context, partition int) (n int64, err error) {
	err = l.db.single(ctx, func(t *tx) error {
		return t.get(&n, `
			SELECT count(*)
			FROM (
				SELECT 1
				FROM uplink_log
				WHERE partition = $1
				LIMIT $2) AS part`, partition, l.opt.Bound+1)
	})
	if err != nil {
		return 0, fmt.Errorf("count uplinks: %w", err)
	}
	return n, nil
}

// freed notes that entries of a partition are gone.
func (l *UplinkLog) freed(partition, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o, known := l.room[partition]; known {
		o.estimate = max(0, o.estimate-int64(n))
		l.room[partition] = o
	}
}
