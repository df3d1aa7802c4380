package store

import (
	"context"
	"encoding/json"
	"fmt"

	"meterline/command"
	"meterline/fleet"
)

// Events implements command.Book: newest first.
func (db *DB) Events(ctx context.Context, tenant fleet.Tenant, f command.EventFilter, p command.Page) (command.List[command.Event], error) {
	var list command.List[command.Event]
	from, err := parseCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	p.Limit = page(p.Limit)
	w := &where{}
	w.and("tenant = %s", string(tenant))
	if f.DeviceID != "" {
		w.and("device_id = %s", string(f.DeviceID))
	}
	if f.Type != "" {
		w.and("type = %s", f.Type)
	}
	w.between("received_at", f.From, f.To)
	if from != nil {
		w.and("(received_at, id) < (%s, %s)", timeText(from.At), from.ID)
	}
	text := `
		SELECT id, tenant, endpoint_id, device_id, type, at, received_at, data
		FROM events ` + w.sql() + `
		ORDER BY received_at DESC, id DESC
		LIMIT ` + w.param(p.Limit+1)
	err = db.search(ctx, func(t *tx) error {
		list.Items = []command.Event{}
		return t.each(func(row scanner) error {
			var e command.Event
			var at, received moment
			var data string
			err := row.Scan(&e.ID, &e.Tenant, &e.EndpointID, &e.DeviceID, &e.Type, &at, &received, &data)
			e.At, e.ReceivedAt, e.Data = at.Time, received.Time, json.RawMessage(data)
			list.Items = append(list.Items, e)
			return err
		}, text, w.args...)
	})
	if err != nil {
		return command.List[command.Event]{}, fmt.Errorf("list events: %w", err)
	}
	if len(list.Items) > p.Limit {
		list.Items = list.Items[:p.Limit]
		last := list.Items[p.Limit-1]
		list.NextCursor = cursor{At: last.ReceivedAt, ID: last.ID}.String()
	}
	return list, nil
}
