package store

import (
	"context"
	"fmt"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// ownerDead is how long the last sign of life of a worker lies back at least when it is dead: its lease is over then.
const ownerDead = 10 * time.Second

// Standing implements command.OverviewBook. It reads the commands of the tenant that run, and otherwise only what was added up.
func (db *DB) Standing(ctx context.Context, tenant fleet.Tenant, since time.Time) (command.Standing, error) {
	var s command.Standing
	err := db.search(ctx, func(t *tx) error {
		s = command.Standing{Codes: map[string]int{}, Backends: []command.BackendHealth{}}
		now, err := t.now()
		if err != nil {
			return err
		}
		for _, read := range []func() error{
			func() error { return t.standingOf(tenant, now, &s.Operations) },
			func() error {
				return t.get(&s.DeadLetters.Open, `SELECT count(*) FROM dead_letters WHERE tenant = $1 AND status = 'open'`, string(tenant))
			},
			func() error { return t.minutesOf(tenant, since, &s) },
			func() error { return t.backends(now, &s) },
			func() error { return t.backlog(now, &s) },
		} {
			if err := read(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return command.Standing{}, fmt.Errorf("look how things stand: %w", err)
	}
	return s, nil
}

// standingOf counts what is open of a tenant. What is over by its deadline is not; what is not to be sent yet does not wait for long.
func (t *tx) standingOf(tenant fleet.Tenant, now time.Time, o *command.OpenCount) error {
	const waiting = `total - sent - delivered - accepted - succeeded - failed - expired - cancelled - dead`
	var r struct {
		Open    int
		Waiting int
		Oldest  moment
	}
	err := t.get(&r, `
		SELECT COALESCE(sum(total - succeeded - failed - expired - cancelled - dead), 0) AS open,
			COALESCE(sum(`+waiting+`), 0) AS waiting,
			min(CASE WHEN `+waiting+` > 0 AND (not_before IS NULL OR not_before <= $2) THEN COALESCE(not_before, created_at) END) AS oldest
		FROM commands
		WHERE tenant = $1 AND running AND expires_at > $2`, string(tenant), at(now))
	if err != nil {
		return fmt.Errorf("count what is open: %w", err)
	}
	*o = command.OpenCount{Open: r.Open, Waiting: r.Waiting, OldestWaitingAt: r.Oldest.pointer()}
	return nil
}

func (t *tx) minutesOf(tenant fleet.Tenant, since time.Time, s *command.Standing) error {
	err := t.each(func(row scanner) error {
		var m command.Minute
		var began moment
		err := row.Scan(&began, &m.Readings, &m.Succeeded, &m.Failed, &m.Expired, &m.Dead)
		m.At, m.Tenant = began.Time, tenant
		s.Minutes = append(s.Minutes, m)
		return err
	}, `
		SELECT at, readings, succeeded, failed, expired, dead
		FROM minutes
		WHERE at >= $1 AND tenant = $2
		ORDER BY at`, at(since), string(tenant))
	if err != nil {
		return fmt.Errorf("read minutes: %w", err)
	}
	err = t.each(func(row scanner) error {
		var code string
		var n int
		err := row.Scan(&code, &n)
		s.Codes[code] = n
		return err
	}, `
		SELECT code, sum(n)
		FROM minute_codes
		WHERE at >= $1 AND tenant = $2
		GROUP BY code`, at(since), string(tenant))
	if err != nil {
		return fmt.Errorf("read codes of minutes: %w", err)
	}
	return nil
}

func (t *tx) backends(now time.Time, s *command.Standing) error {
	err := t.each(func(row scanner) error {
		var b command.BackendHealth
		var seen moment
		err := row.Scan(&b.ID, &seen, &b.Partitions)
		b.Alive = now.Sub(seen.Time) < ownerDead
		s.Backends = append(s.Backends, b)
		return err
	}, `
		SELECT owner, seen_at, (SELECT count(*) FROM partitions WHERE partitions.owner = workers.owner) AS held
		FROM workers
		ORDER BY owner`)
	if err != nil {
		return fmt.Errorf("list workers: %w", err)
	}
	return nil
}

// backlog adds up what the workers that live see of the uplink log.
func (t *tx) backlog(now time.Time, s *command.Standing) error {
	var r struct {
		Seen    int
		Entries int64
		Oldest  int64
		Bound   int64
	}
	err := t.get(&r, `
		SELECT count(*) AS seen, COALESCE(sum(entries), 0) AS entries, COALESCE(max(oldest_us), 0) AS oldest, COALESCE(max(bound), 0) AS bound
		FROM backlogs
		WHERE at > $1`, at(now.Add(-2*ownerDead)))
	if err != nil {
		return fmt.Errorf("read backlogs: %w", err)
	}
	if r.Seen > 0 {
		oldest := time.Duration(r.Oldest) * time.Microsecond
		s.Backlog = &command.BacklogCount{Entries: r.Entries, OldestS: oldest.Seconds(), Bound: r.Bound * int64(t.partitions)}
	}
	return nil
}

// EndpointIDs implements command.OverviewBook.
func (db *DB) EndpointIDs(ctx context.Context, tenant fleet.Tenant, after meterread.DeviceID, limit int) (ids []meterread.DeviceID, err error) {
	err = db.single(ctx, func(t *tx) error {
		ids = nil
		return t.list(&ids, `
			SELECT id
			FROM devices
			WHERE tenant = $1 AND kind <> 'meter' AND id > $2
			ORDER BY id
			LIMIT $3`, string(tenant), string(after), limit)
	})
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	return ids, nil
}
