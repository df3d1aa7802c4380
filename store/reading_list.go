package store

import (
	"context"
	"fmt"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// maxItems is how many items of one device are merged from the index of each; a device that has more is sorted.
const maxItems = 64

// Readings implements command.Book: newest first by the meter's clock; of one moment, the last revision first.
func (db *DB) Readings(ctx context.Context, tenant fleet.Tenant, f command.ReadingFilter, p command.Page) (command.List[meterread.Reading], error) {
	var list command.List[meterread.Reading]
	from, err := parseCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	p.Limit = page(p.Limit)
	err = db.search(ctx, func(t *tx) error {
		items := []meterread.Item{f.Item}
		if f.Item == "" {
			if items, err = t.itemsOf(f.DeviceID); err != nil {
				return err
			}
		}
		rs, err := t.listReadings(tenant, f, items, from, p.Limit+1)
		if err != nil {
			return err
		}
		list = command.List[meterread.Reading]{}
		if len(rs) > p.Limit {
			rs = rs[:p.Limit]
			last := rs[p.Limit-1]
			list.NextCursor = cursor{At: last.ReadAt, ID: string(last.Item), N: last.revision}.String()
		}
		list.Items = make([]meterread.Reading, len(rs))
		for i, r := range rs {
			list.Items[i] = r.Reading
		}
		return nil
	})
	if err != nil {
		return command.List[meterread.Reading]{}, fmt.Errorf("list readings: %w", err)
	}
	return list, nil
}

// itemsOf lists the items that a device has readings of, by stepping through the index; nil means too many to merge.
func (t *tx) itemsOf(d meterread.DeviceID) ([]meterread.Item, error) {
	var items []meterread.Item
	err := t.list(&items, `
		WITH RECURSIVE items(v_item) AS (
			SELECT min(item) FROM readings WHERE device_id = $1
			UNION ALL
			SELECT (SELECT min(item) FROM readings WHERE device_id = $1 AND item > v_item) FROM items WHERE v_item IS NOT NULL
		)
		SELECT v_item FROM items WHERE v_item IS NOT NULL LIMIT $2`, string(d), maxItems+1)
	if err != nil {
		return nil, fmt.Errorf("list items: %w", err)
	}
	if len(items) > maxItems {
		return nil, nil
	}
	if items == nil {
		items = []meterread.Item{}
	}
	return items, nil
}

// listReadings reads the newest of each item from the index and merges them; with nil items it sorts what there is.
func (t *tx) listReadings(tenant fleet.Tenant, f command.ReadingFilter, items []meterread.Item, from *cursor, limit int) ([]revised, error) {
	const order = `read_at DESC, item DESC, revision DESC`
	w := &where{}
	part := func(item meterread.Item) string {
		w.conditions = nil
		w.and("r.device_id = %s", string(f.DeviceID))
		if item != "" {
			w.and("r.item = %s", string(item))
		}
		w.and("r.tenant = %s", string(tenant))
		w.between("r.read_at", f.From, f.To)
		if from != nil {
			w.and("(r.read_at, r.item, r.revision) < (%s, %s, %s)", timeText(from.At), from.ID, from.N)
		}
		return `SELECT ` + readingNames("r") + `, r.revision FROM readings r ` + w.sql() + ` ORDER BY ` + order + ` LIMIT ` + w.param(limit)
	}
	var text string
	switch {
	case items == nil:
		text = part("")
	case len(items) == 0:
		return nil, nil
	case len(items) == 1:
		text = part(items[0])
	default:
		parts := make([]string, len(items))
		for i, item := range items {
			parts[i] = part(item)
		}
		text = `SELECT * FROM (` + merge(parts) + `) AS merged ORDER BY ` + order + ` LIMIT ` + w.param(limit)
	}
	var rs []revised
	var plain []meterread.Reading
	var revision int
	scan := collectReadings(&plain, &revision)
	err := t.each(func(row scanner) error {
		plain = plain[:0]
		if err := scan(row); err != nil {
			return err
		}
		rs = append(rs, revised{plain[0], revision})
		return nil
	}, text, w.args...)
	return rs, err
}
