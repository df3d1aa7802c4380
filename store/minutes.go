package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"meterline/command"
)

// minutesKept is how long minutes are kept.
const minutesKept = 48 * time.Hour

var (
	minuteColumns     = columns(`v_at timestamptz, v_tenant text, v_readings bigint, v_succeeded bigint, v_failed bigint, v_expired bigint, v_dead bigint`)
	minuteCodeColumns = columns(`v_at timestamptz, v_tenant text, v_code text, v_n bigint`)
)

// AddMinutes implements command.TallyBook.
func (db *DB) AddMinutes(ctx context.Context, owner string, minutes []command.Minute, holds *command.Holding) error {
	if len(minutes) == 0 && holds == nil {
		return nil
	}
	err := db.write(ctx, bulk, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		if err := t.addMinutes(now, minutes); err != nil {
			return err
		}
		if holds == nil {
			return nil
		}
		_, err = t.exec(`
			INSERT INTO backlogs (owner, at, entries, oldest_us, bound)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (owner) DO UPDATE SET at = excluded.at, entries = excluded.entries, oldest_us = excluded.oldest_us, bound = excluded.bound`,
			owner, at(now), holds.Entries, holds.Oldest.Microseconds(), holds.Bound)
		if err != nil {
			return fmt.Errorf("note the backlog: %w", err)
		}
		_, err = t.exec(`DELETE FROM backlogs WHERE at < $1`, at(now.Add(-deadFor)))
		return err
	})
	if err != nil {
		return fmt.Errorf("add minutes: %w", err)
	}
	return nil
}

func (t *tx) addMinutes(now time.Time, minutes []command.Minute) error {
	if len(minutes) == 0 {
		return nil
	}
	in, codes := newInput(minuteColumns, len(minutes)), newInput(minuteCodeColumns, 0)
	for _, m := range minutes {
		in.add(m.At, string(m.Tenant), m.Readings, m.Succeeded, m.Failed, m.Expired, m.Dead)
		for _, code := range slices.Sorted(maps.Keys(m.Codes)) {
			codes.add(m.At, string(m.Tenant), clean(code), m.Codes[code])
		}
	}
	_, err := t.exec(`
		INSERT INTO minutes (at, tenant, readings, succeeded, failed, expired, dead)
		SELECT v_at, v_tenant, v_readings, v_succeeded, v_failed, v_expired, v_dead
		FROM `+t.relation(minuteColumns, 1)+`
		WHERE TRUE
		ORDER BY v_at, v_tenant
		ON CONFLICT (at, tenant) DO UPDATE
		SET readings = minutes.readings + excluded.readings, succeeded = minutes.succeeded + excluded.succeeded,
			failed = minutes.failed + excluded.failed, expired = minutes.expired + excluded.expired, dead = minutes.dead + excluded.dead`,
		in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("write minutes: %w", err)
	}
	if codes.len() > 0 {
		_, err = t.exec(`
			INSERT INTO minute_codes (at, tenant, code, n)
			SELECT v_at, v_tenant, v_code, v_n
			FROM `+t.relation(minuteCodeColumns, 1)+`
			WHERE TRUE
			ORDER BY v_at, v_tenant, v_code
			ON CONFLICT (at, tenant, code) DO UPDATE SET n = minute_codes.n + excluded.n`, codes.args(t.dialect)...)
		if err != nil {
			return fmt.Errorf("write codes of minutes: %w", err)
		}
	}
	for _, from := range []string{`DELETE FROM minutes WHERE at < $1`, `DELETE FROM minute_codes WHERE at < $1`} {
		if _, err := t.exec(from, at(now.Add(-minutesKept))); err != nil {
			return fmt.Errorf("forget minutes: %w", err)
		}
	}
	return nil
}
