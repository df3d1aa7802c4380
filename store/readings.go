package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"meterline/command"
	"meterline/fault"
	"meterline/fleet"
	"meterline/meterread"
)

// readingKey is what a reading is unique by, but for its revision.
type readingKey struct {
	device meterread.DeviceID
	item   meterread.Item
	readAt int64 // microseconds since 1970
}

func (k readingKey) compare(l readingKey) int {
	return cmp.Or(cmp.Compare(k.device, l.device), cmp.Compare(k.item, l.item), cmp.Compare(k.readAt, l.readAt))
}

func keyOf(r meterread.Reading) readingKey {
	return readingKey{r.DeviceID, r.Item, r.ReadAt.UnixMicro()}
}

// revised is a reading on its way to the record.
type revised struct {
	meterread.Reading
	revision int
}

// storeReadings adds the readings that are new and answers with them. The same value for the same time, in whatever
// revision, is the same reading; another value is the next revision, suspect.
func (t *tx) storeReadings(x *command.Tx) ([]meterread.Reading, error) {
	if len(x.Readings) == 0 {
		return nil, nil
	}
	first, others := firstOfEach(x.Readings)
	tenants, err := t.tenantsOf(x)
	if err != nil {
		return nil, err
	}
	stored, err := t.insertReadings(first, tenants)
	if err != nil {
		return nil, err
	}
	fresh := make([]meterread.Reading, 0, len(first))
	var there []meterread.Reading // something is, for their times: perhaps the same
	for _, r := range first {
		if stored[rowKey{keyOf(r.Reading), 0}] {
			fresh = append(fresh, r.Reading)
		} else {
			there = append(there, r.Reading)
		}
	}
	if others = append(there, others...); len(others) > 0 {
		revised, err := t.reviseReadings(others, tenants)
		if err != nil {
			return nil, err
		}
		fresh = append(fresh, revised...)
	}
	return fresh, t.noteReads(x.Now, fresh)
}

// firstOfEach sorts readings by key, as the record keeps them, and splits off the first of each key. A value that came
// twice is dropped.
func firstOfEach(rs []meterread.Reading) (first []revised, others []meterread.Reading) {
	type value struct {
		readingKey
		value string
	}
	taken := make(map[readingKey]bool, len(rs))
	seen := make(map[value]bool, len(rs))
	for _, r := range rs {
		r.ReadAt, r.ReceivedAt, r.Value = micro(r.ReadAt), micro(r.ReceivedAt), clean(r.Value)
		k := keyOf(r)
		switch {
		case !taken[k]:
			first = append(first, revised{Reading: r})
		case !seen[value{k, r.Value}]:
			others = append(others, r)
		}
		taken[k], seen[value{k, r.Value}] = true, true
	}
	// In order of their keys, so that two transactions that add the same ones wait for each other in one direction.
	slices.SortFunc(first, func(a, b revised) int { return keyOf(a.Reading).compare(keyOf(b.Reading)) })
	return first, others
}

type rowKey struct {
	readingKey
	revision int
}

var readingColumns = columns(`v_device text, v_item text, v_read timestamptz, v_revision bigint, v_value text, v_unit text,
	v_received timestamptz, v_quality text, v_late boolean, v_command text, v_tenant text`)

// insertReadings adds rows and says which of them were new.
func (t *tx) insertReadings(rs []revised, tenants map[meterread.DeviceID]fleet.Tenant) (map[rowKey]bool, error) {
	in := newInput(readingColumns, len(rs))
	for _, r := range rs {
		in.add(string(r.DeviceID), string(r.Item), r.ReadAt, r.revision, r.Value, r.Unit, r.ReceivedAt, string(r.Quality), r.Late,
			orNull(r.CommandID), string(tenants[r.DeviceID]))
	}
	stored := make(map[rowKey]bool, len(rs))
	err := t.each(func(row scanner) error {
		var k rowKey
		var at moment
		err := row.Scan(&k.device, &k.item, &at, &k.revision)
		k.readAt = at.UnixMicro()
		stored[k] = true
		return err
	}, `
		INSERT INTO readings (device_id, item, read_at, revision, value, unit, received_at, quality, late, command_id, tenant)
		SELECT v_device, v_item, v_read, v_revision, v_value, v_unit, v_received, v_quality, v_late, v_command, v_tenant
		FROM `+t.relation(in.columns, 1)+`
		WHERE TRUE
		ON CONFLICT (device_id, item, read_at, revision) DO NOTHING
		RETURNING device_id, item, read_at, revision`, in.args(t.dialect)...)
	if err != nil {
		return nil, fmt.Errorf("add readings: %w", err)
	}
	return stored, nil
}

var readingKeyColumns = columns("v_device text, v_item text, v_read timestamptz")

// reviseReadings adds those readings whose value is not there yet for their time as the next revision. It is the rare
// path: a meter said two things about one moment, or an answer came twice.
func (t *tx) reviseReadings(rs []meterread.Reading, tenants map[meterread.DeviceID]fleet.Tenant) ([]meterread.Reading, error) {
	var fresh []meterread.Reading
	for len(rs) > 0 {
		values, err := t.valuesAt(rs)
		if err != nil {
			return nil, err
		}
		var next []revised
		for _, r := range rs {
			k := keyOf(r)
			if slices.Contains(values[k], r.Value) && !fault.Bug(fault.BugRevisionAlways) {
				continue
			}
			if n := len(values[k]); n > 0 { // otherwise whoever was first has rolled back meanwhile
				r.Quality = meterread.Suspect
			}
			next = append(next, revised{r, len(values[k])})
			values[k] = append(values[k], r.Value)
		}
		if len(next) == 0 {
			return fresh, nil
		}
		stored, err := t.insertReadings(next, tenants)
		if err != nil {
			return nil, err
		}
		rs = rs[:0]
		for _, r := range next {
			if stored[rowKey{keyOf(r.Reading), r.revision}] {
				fresh = append(fresh, r.Reading)
			} else { // another transaction was faster: look again
				rs = append(rs, r.Reading)
			}
		}
	}
	return fresh, nil
}

// valuesAt lists the values that are there for the readings' times, in order of their revisions, which have no holes.
func (t *tx) valuesAt(rs []meterread.Reading) (map[readingKey][]string, error) {
	in := newInput(readingKeyColumns, len(rs))
	asked := make(map[readingKey]bool, len(rs))
	for _, r := range rs {
		if k := keyOf(r); !asked[k] {
			asked[k] = true
			in.add(string(r.DeviceID), string(r.Item), r.ReadAt)
		}
	}
	values := make(map[readingKey][]string, len(rs))
	err := t.each(func(row scanner) error {
		var k readingKey
		var at moment
		var value string
		err := row.Scan(&k.device, &k.item, &at, &value)
		k.readAt = at.UnixMicro()
		values[k] = append(values[k], value)
		return err
	}, `
		SELECT r.device_id, r.item, r.read_at, r.value
		FROM `+t.relation(in.columns, 1)+`
		JOIN readings r ON r.device_id = v_device AND r.item = v_item AND r.read_at = v_read
		ORDER BY r.device_id, r.item, r.read_at, r.revision`, in.args(t.dialect)...)
	if err != nil {
		return nil, fmt.Errorf("look for readings: %w", err)
	}
	return values, nil
}

// tenantsOf says whose the readings' devices are. A device may have gone since it was asked: its operation knows.
// Readings of a device that nobody knows are kept, but nobody sees them.
func (t *tx) tenantsOf(x *command.Tx) (map[meterread.DeviceID]fleet.Tenant, error) {
	tenants := map[meterread.DeviceID]fleet.Tenant{}
	for id, d := range x.Devices {
		tenants[id] = d.Tenant
	}
	unknown := map[meterread.DeviceID]bool{}
	for _, r := range x.Readings {
		if o := x.Operations[command.Key{CommandID: r.CommandID, DeviceID: r.DeviceID}]; o != nil {
			tenants[r.DeviceID] = o.Tenant
		} else if _, ok := tenants[r.DeviceID]; !ok {
			unknown[r.DeviceID] = true
		}
	}
	var ids []meterread.DeviceID
	for id := range unknown {
		if _, ok := tenants[id]; !ok {
			ids = append(ids, id)
		}
	}
	devices, err := t.devicesByID(ids)
	for id, d := range devices {
		tenants[id] = d.Tenant
	}
	return tenants, err
}

var readColumns = columns("v_device text, v_at timestamptz")

// readEvery is how far the time at which a device was last read may be behind: noting every reading would cost as much
// as keeping it.
const readEvery = time.Minute

// noteReads notes when devices were last read.
func (t *tx) noteReads(now time.Time, rs []meterread.Reading) error {
	last := map[meterread.DeviceID]time.Time{}
	for _, r := range rs {
		if r.ReceivedAt.After(last[r.DeviceID]) {
			last[r.DeviceID] = r.ReceivedAt
		}
	}
	if len(last) == 0 {
		return nil
	}
	ids := make([]meterread.DeviceID, 0, len(last))
	for id := range last {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	in := newInput(readColumns, len(ids))
	for _, id := range ids {
		in.add(string(id), last[id])
	}
	_, err := t.exec(`
		INSERT INTO device_reads (device_id, last_read_at)
		SELECT v_device, v_at
		FROM `+t.relation(in.columns, 2)+`
		WHERE NOT EXISTS (SELECT 1 FROM device_reads WHERE device_id = v_device AND last_read_at >= $1)
		ON CONFLICT (device_id) DO UPDATE SET last_read_at = excluded.last_read_at
		WHERE device_reads.last_read_at < excluded.last_read_at`, in.args(t.dialect, at(now.Add(-readEvery)))...)
	if err != nil {
		return fmt.Errorf("note when devices were read: %w", err)
	}
	return nil
}

// Latest implements command.Book.
func (db *DB) Latest(ctx context.Context, tenant fleet.Tenant, d meterread.DeviceID) ([]meterread.Reading, error) {
	var rs []meterread.Reading
	err := db.single(ctx, func(t *tx) error {
		rs = nil
		return t.each(collectReadings(&rs), `
			WITH RECURSIVE items(v_item) AS (
				SELECT min(item) FROM readings WHERE device_id = $1
				UNION ALL
				SELECT (SELECT min(item) FROM readings WHERE device_id = $1 AND item > v_item) FROM items WHERE v_item IS NOT NULL
			), newest AS MATERIALIZED (
				SELECT v_item, (
					SELECT max(read_at)
					FROM readings
					WHERE device_id = $1 AND item = v_item AND tenant = $2) AS v_at
				FROM items
				WHERE v_item IS NOT NULL
			)
			SELECT `+readingNames("r")+`
			FROM newest
			JOIN readings r ON r.device_id = $1 AND r.item = v_item AND r.read_at = v_at
			WHERE r.tenant = $2
			ORDER BY r.item, r.revision`, string(d), string(tenant))
	})
	if err != nil {
		return nil, fmt.Errorf("read latest readings: %w", err)
	}
	return lastRevisions(rs), nil
}

// lastRevisions keeps the last of the readings that follow each other for the same device and item.
func lastRevisions(rs []meterread.Reading) []meterread.Reading {
	kept := rs[:0]
	for i, r := range rs {
		if i+1 == len(rs) || rs[i+1].Item != r.Item || rs[i+1].DeviceID != r.DeviceID {
			kept = append(kept, r)
		}
	}
	return kept
}

var newestColumns = columns("v_device text, v_item text")

// newest is the newest reading of each item of each device, in order of devices and items.
func (t *tx) newest(tenant fleet.Tenant, devices []meterread.DeviceID, items []meterread.Item) (map[meterread.DeviceID][]meterread.Reading, error) {
	in := newInput(newestColumns, len(devices)*len(items))
	for _, d := range devices {
		for _, i := range items {
			in.add(string(d), string(i))
		}
	}
	var rs []meterread.Reading
	err := t.each(collectReadings(&rs), `
		WITH newest AS MATERIALIZED (
			SELECT v_device, v_item, (
				SELECT max(read_at)
				FROM readings
				WHERE device_id = v_device AND item = v_item AND tenant = $1) AS v_at
			FROM `+t.relation(in.columns, 2)+`
		)
		SELECT `+readingNames("r")+`
		FROM newest
		JOIN readings r ON r.device_id = v_device AND r.item = v_item AND r.read_at = v_at
		WHERE r.tenant = $1
		ORDER BY r.device_id, r.item, r.revision`, in.args(t.dialect, string(tenant))...)
	if err != nil {
		return nil, fmt.Errorf("read newest readings: %w", err)
	}
	by := make(map[meterread.DeviceID][]meterread.Reading, len(devices))
	for _, r := range lastRevisions(rs) {
		by[r.DeviceID] = append(by[r.DeviceID], r)
	}
	return by, nil
}

// readingNames are the columns that collectReadings scans, of the table with that alias.
func readingNames(alias string) string {
	return fmt.Sprintf(`%[1]s.device_id, %[1]s.item, %[1]s.value, %[1]s.unit, %[1]s.read_at, %[1]s.received_at, %[1]s.quality, %[1]s.late,
		COALESCE(%[1]s.command_id, '') AS command_id`, alias)
}

// collectReadings scans rows of readingNames, and then of extra, into rs.
func collectReadings(rs *[]meterread.Reading, extra ...any) func(scanner) error {
	return func(row scanner) error {
		var r meterread.Reading
		var readAt, receivedAt moment
		err := row.Scan(append([]any{&r.DeviceID, &r.Item, &r.Value, &r.Unit, &readAt, &receivedAt, &r.Quality, &r.Late, &r.CommandID}, extra...)...)
		r.ReadAt, r.ReceivedAt = readAt.Time, receivedAt.Time
		*rs = append(*rs, r)
		return err
	}
}
