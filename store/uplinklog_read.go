package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// readBytes is how much payload a Read keeps of one partition, roughly, however many entries were asked for.
const readBytes = 8 << 20

// Read returns what was appended to each partition after its position; see command.Log. A batch may be shorter than limit
// when its entries are large; its Horizon says so.
func (l *UplinkLog) Read(ctx context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	if len(from) == 0 {
		return nil, nil
	}
	generation, err := l.generationOf(ctx)
	if err != nil {
		return nil, err
	}
	now, err := l.clock(ctx)
	if err != nil {
		return nil, err
	}
	l.reached(from, generation)
	r := newUplinkReading(from, generation, now, limit)
	err = l.db.single(ctx, func(t *tx) error { return r.run(t) })
	if err != nil {
		return nil, fmt.Errorf("read uplink log: %w", err)
	}
	batches := r.finish()
	l.note(batches)
	return batches, nil
}

// note remembers how far partitions were read, for Run to look for more.
func (l *UplinkLog) note(batches []command.LogBatch) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range batches {
		l.reading[b.Partition] = readUpTo{sequence(b.Position), now}
		l.metrics.read.Add(float64(len(b.Entries)))
	}
}

// clock is the log's clock at a moment when nobody is appending: every entry that was appended before it is committed.
func (l *UplinkLog) clock(ctx context.Context) (now time.Time, err error) {
	if l.db.postgres {
		err = l.db.single(ctx, func(t *tx) error {
			var m moment
			err := t.get(&m, `
				WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($1))
				SELECT clock_timestamp()
				FROM turn`, t.logLock)
			now = m.Time
			return err
		})
	} else {
		err = l.db.write(ctx, urgent, func(t *tx) error { // in its turn to write nobody else does
			now, err = t.now()
			return err
		})
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read clock of the uplink log: %w", err)
	}
	return now, nil
}

// uplinkReading is one Read: a statement over all partitions and what it found.
type uplinkReading struct {
	batches []command.LogBatch
	place   map[int]int // partition → index into batches
	after   []int64
	bytes   []int
	cut     []bool // there is more than the batch holds
	limit   int
}

// ReadAhead is Read from the end where a position is none of this log's; see command.Ahead.
func (l *UplinkLog) ReadAhead(ctx context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	generation, err := l.generationOf(ctx)
	if err != nil {
		return nil, err
	}
	var r *uplinkReading
	err = l.db.single(ctx, func(t *tx) error {
		places := slices.Clone(from)
		for i := range places {
			if p := &places[i]; p.Generation != generation || p.Position == "" {
				if err := l.end(t, p); err != nil {
					return err
				}
				p.Generation = generation
			}
		}
		r = newUplinkReading(places, generation, time.Time{}, limit)
		return r.run(t)
	})
	if err != nil {
		return nil, fmt.Errorf("read uplink log ahead: %w", err)
	}
	return r.finish(), nil
}

// end puts a position at the last entry of its partition.
func (l *UplinkLog) end(t *tx, p *command.LogPosition) error {
	var seq int64
	if err := t.get(&seq, `SELECT COALESCE(max(seq), 0) FROM uplink_log WHERE partition = $1`, p.Partition); err != nil {
		return err
	}
	p.Position = position(seq)
	return nil
}

func newUplinkReading(from []command.LogPosition, generation string, now time.Time, limit int) *uplinkReading {
	r := &uplinkReading{batches: make([]command.LogBatch, len(from)), place: make(map[int]int, len(from)),
		after: make([]int64, len(from)), bytes: make([]int, len(from)), cut: make([]bool, len(from)), limit: limit}
	for i, f := range from {
		if f.Generation != generation {
			f.Generation, f.Position = generation, ""
		}
		r.batches[i] = command.LogBatch{LogPosition: f, Horizon: now, Now: now}
		r.place[f.Partition], r.after[i] = i, sequence(f.Position)
	}
	return r
}

var fromColumns = columns("v_partition bigint, v_after bigint")

func (r *uplinkReading) run(t *tx) error {
	one := func(partition, after string) string {
		return `
			SELECT partition, seq, endpoint_id, epoch, gateway, kind, payload, crc, appended_at
			FROM uplink_log
			WHERE partition = ` + partition + ` AND seq > ` + after + `
			ORDER BY seq
			LIMIT $1`
	}
	if !t.postgres {
		for i, b := range r.batches {
			if err := t.each(r.take, one("$2", "$3"), r.limit, b.Partition, r.after[i]); err != nil {
				return err
			}
		}
		return nil
	}
	in := newInput(fromColumns, len(r.batches))
	for i, b := range r.batches {
		in.add(b.Partition, r.after[i])
	}
	return t.each(r.take, `
		SELECT e.*
		FROM `+t.relation(in.columns, 2)+`
		CROSS JOIN LATERAL (`+one("v_partition", "v_after")+`) AS e`, in.args(t.dialect, r.limit)...)
}

// take scans a row. Those of one partition come in order.
func (r *uplinkReading) take(row scanner) error {
	var u command.Uplink
	var seq, crc int64
	var endpoint, kind string
	var appended moment
	err := row.Scan(&u.Partition, &seq, &endpoint, &u.Epoch, &u.Gateway, &kind, &u.Payload, &crc, &appended)
	if err != nil {
		return err
	}
	i := r.place[u.Partition]
	if r.cut[i] {
		return nil
	}
	u.Endpoint, u.Kind = meterread.DeviceID(endpoint), command.UplinkKind(kind)
	u.Position, u.AppendedAt = position(seq), appended.Time
	u.Corrupt = crc != checksum(u)
	r.batches[i].Entries = append(r.batches[i].Entries, u)
	r.bytes[i] += len(u.Payload)
	r.cut[i] = r.bytes[i] >= readBytes || len(r.batches[i].Entries) == r.limit
	return nil
}

// finish says how far each batch reaches.
func (r *uplinkReading) finish() []command.LogBatch {
	for i := range r.batches {
		b := &r.batches[i]
		if len(b.Entries) == 0 {
			continue
		}
		last := b.Entries[len(b.Entries)-1]
		b.Position = last.Position
		if r.cut[i] {
			b.Horizon = last.AppendedAt
		}
	}
	return r.batches
}

func position(seq int64) command.Position { return command.Position(strconv.FormatInt(seq, 10)) }

// sequence is the number of a position; 0 when it is before the first, or is none of this log's.
func sequence(p command.Position) int64 {
	n, err := strconv.ParseInt(string(p), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
