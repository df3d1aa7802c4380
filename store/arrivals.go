package store

import (
	"context"
	"fmt"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// Commands implements command.Ledger.
func (db *DB) Commands(ctx context.Context, ids []command.ID) (map[command.ID]command.Command, error) {
	byID := make(map[command.ID]command.Command, len(ids))
	err := db.single(ctx, func(t *tx) error {
		cs, err := t.commandsByID(ids)
		for _, c := range cs {
			byID[c.ID] = c
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read commands: %w", err)
	}
	return byID, nil
}

// Arrivals implements command.Ledger. PostgreSQL gives numbers before it commits, so a command may show up after one with
// a larger number: ask again from before the youngest.
func (db *DB) Arrivals(ctx context.Context, after int64, limit int) ([]command.Arrival, error) {
	var as []command.Arrival
	err := db.single(ctx, func(t *tx) error {
		as = nil
		now, err := t.now()
		if err != nil {
			return err
		}
		return t.each(func(row scanner) error {
			var a command.Arrival
			var created moment
			err := row.Scan(&a.ID, &a.Seq, &a.Expanding, &created)
			a.Age = now.Sub(created.Time)
			as = append(as, a)
			return err
		}, `
			SELECT id, seq, expanding, created_at
			FROM (
				SELECT id, seq, expanding, created_at FROM commands WHERE expanding AND seq <= $1
				UNION ALL
				SELECT * FROM (
					SELECT id, seq, expanding, created_at FROM commands WHERE seq > $1 ORDER BY seq LIMIT $2) AS late
			) AS arrived
			ORDER BY seq`, after, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("look for arrivals: %w", err)
	}
	return as, nil
}

// Endpoints implements command.Ledger. Operations that have ended are not counted.
func (db *DB) Endpoints(ctx context.Context, id command.ID, partitions []int, after meterread.DeviceID) (endpoints []meterread.DeviceID,
	last meterread.DeviceID, err error) {
	err = db.single(ctx, func(t *tx) error {
		endpoints, last = nil, after
		return t.each(func(row scanner) error {
			var endpoint, device meterread.DeviceID
			if err := row.Scan(&endpoint, &device); err != nil {
				return err
			}
			if endpoint == "" {
				last = max(last, device)
			} else {
				endpoints = append(endpoints, endpoint)
			}
			return nil
		}, `
			SELECT '', COALESCE(max(device_id), '') FROM operations WHERE command_id = $1 AND device_id > $2
			UNION ALL
			SELECT endpoint_id, ''
			FROM operations
			WHERE command_id = $1 AND device_id > $2 AND `+yetToEnd+` AND `+t.amongInts("partition", 3)+`
			GROUP BY endpoint_id`, string(id), string(after), ints(t.dialect, partitions))
	})
	if err != nil {
		return nil, "", fmt.Errorf("look up endpoints: %w", err)
	}
	return endpoints, last, nil
}

// Due implements command.Ledger: those whose deadline is longest past come first. They come without their selectors.
func (db *DB) Due(ctx context.Context, except []command.ID, limit int) (due []command.Command, err error) {
	err = db.single(ctx, func(t *tx) error {
		var rows []commandRow
		others := ` AND NOT (` + t.among("id", 1) + `)`
		err := t.list(&rows, `
			SELECT `+leanCommandColumns+`
			FROM commands
			WHERE id IN (
				SELECT id FROM (
					SELECT id FROM commands WHERE running AND expires_at <= `+t.clock(0)+others+` ORDER BY expires_at LIMIT $2) AS overdue
				UNION
				SELECT id FROM (
					SELECT id FROM commands WHERE running AND cancelled_at IS NOT NULL`+others+` ORDER BY cancelled_at LIMIT $2) AS cancelled)
			ORDER BY expires_at
			LIMIT $2`, texts(t.dialect, except), limit)
		if err != nil {
			return err
		}
		due, err = t.domain(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for deadlines: %w", err)
	}
	return due, nil
}

// Timed implements command.Ledger.
func (db *DB) Timed(ctx context.Context, from, to time.Time) (ids []command.ID, err error) {
	err = db.single(ctx, func(t *tx) error {
		ids = nil
		return t.list(&ids, `
			SELECT id
			FROM commands
			WHERE not_before IS NOT NULL AND not_before > $1 AND not_before <= $2
			ORDER BY not_before, seq`, timeText(from), timeText(to))
	})
	if err != nil {
		return nil, fmt.Errorf("look for commands whose time has come: %w", err)
	}
	return ids, nil
}
