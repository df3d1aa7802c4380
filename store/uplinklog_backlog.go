package store

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"meterline/command"
)

// lookEvery is how often Run looks how much the log holds.
const lookEvery = 2 * time.Second

// Alarms says what is wrong with the log, if anything: that it is nearly full.
func (l *UplinkLog) Alarms() []string { return l.watch.Alarms() }

// Holds is what was seen last of what the log holds; false when it is not known.
func (l *UplinkLog) Holds() (command.Holding, bool) {
	b, known := l.watch.Backlog()
	return command.Holding{Backlog: b, Bound: int64(l.opt.Bound)}, known
}

// Presses says that the log is nearly full or grows.
func (l *UplinkLog) Presses() bool { return l.watch.Presses() }

// reached notes up to where partitions that are read are in the record.
func (l *UplinkLog) reached(from []command.LogPosition, generation string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range from {
		seq := sequence(p.Position)
		if p.Generation != generation {
			seq = 0
		}
		l.recorded[p.Partition] = seq
	}
}

var (
	_ command.Owning   = (*UplinkLog)(nil)
	_ command.Pressing = (*UplinkLog)(nil)
)

// Owns forgets how far the other partitions are in the record: who owns them now knows that.
func (l *UplinkLog) Owns(partitions []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.recorded, func(n int, _ int64) bool { return !slices.Contains(partitions, n) })
}

var lookColumns = columns("v_partition bigint, v_seq bigint")

// places adds the partitions that this process uses, and up to where those it reads are in the record.
func (l *UplinkLog) places(in *input) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, seq := range l.recorded {
		in.add(n, seq)
	}
	for n := range l.room {
		if _, too := l.recorded[n]; !too {
			in.add(n, int64(math.MaxInt64)) // only who reads it knows what is not in the record
		}
	}
}

// extent is what one partition holds. All share one row of numbers, so the span of a partition's is no less than its length.
type extent struct {
	Partition int    `db:"v_partition"`
	First     int64  `db:"first"`
	Last      int64  `db:"last"`
	Oldest    moment `db:"oldest"` // that is not in the record; zero when there is none
}

// look looks how much the partitions hold.
func (l *UplinkLog) look(ctx context.Context) error {
	in := newInput(lookColumns, 16)
	l.places(in)
	if in.len() == 0 {
		l.watch.Saw(command.Backlog{})
		return nil
	}
	var found []extent
	var bytes int64
	var now time.Time
	err := l.db.single(ctx, func(t *tx) (err error) {
		found, bytes = nil, 0
		if now, err = t.now(); err != nil {
			return err
		}
		err = t.list(&found, `
			SELECT v_partition, COALESCE((SELECT min(seq) FROM uplink_log WHERE partition = v_partition), 0) AS first,
				COALESCE((SELECT max(seq) FROM uplink_log WHERE partition = v_partition), 0) AS last,
				(SELECT appended_at FROM uplink_log WHERE partition = v_partition AND seq > v_seq ORDER BY seq LIMIT 1) AS oldest
			FROM `+t.relation(lookColumns, 1), in.args(t.dialect)...)
		if err == nil && t.postgres {
			err = t.get(&bytes, `SELECT pg_total_relation_size('uplink_log')`)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look at the backlog: %w", err)
	}
	b, err := l.sum(ctx, found, now)
	if err != nil {
		return err
	}
	b.Bytes = bytes
	l.watch.Saw(b)
	return nil
}

// sum sums the partitions up. Only where a span is near the bound the entries are counted.
func (l *UplinkLog) sum(ctx context.Context, found []extent, now time.Time) (b command.Backlog, err error) {
	var first, last int64
	for _, h := range found {
		if h.Last == 0 {
			continue
		}
		if first == 0 || h.First < first {
			first = h.First
		}
		last = max(last, h.Last)
		n := h.Last - h.First + 1
		if float64(n) >= command.CalmShare*float64(l.opt.Bound) {
			if n, err = l.count(ctx, h.Partition); err != nil {
				return b, err
			}
		}
		b.Share = max(b.Share, float64(n)/float64(l.opt.Bound))
		if !h.Oldest.IsZero() {
			b.Oldest = max(b.Oldest, now.Sub(h.Oldest.Time))
		}
	}
	if last > 0 {
		b.Entries = last - first + 1
	}
	return b, nil
}
