package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"meterline/command"
)

// fence checks that all partitions of f are still owned with their epochs and keeps it so until the end of the
// transaction; it answers with the database's clock. KEY SHARE does not stand in the way of moving a position, or of other
// transactions of the same owner, only of a change of owner, which takes FOR UPDATE.
func (t *tx) fence(f command.Fence) (time.Time, error) {
	if len(f) == 0 {
		return t.now()
	}
	owned := make([]int, 0, len(f))
	for n := range f {
		owned = append(owned, n)
	}
	slices.Sort(owned)
	var now moment
	clock, right := "NULL", 0
	if t.postgres {
		clock = "clock_timestamp()"
	}
	err := t.each(func(row scanner) error {
		var n int
		var epoch int64
		if err := row.Scan(&n, &epoch, &now); err != nil {
			return err
		}
		if f[n] == epoch {
			right++
		}
		return nil
	}, `
		SELECT n, epoch, `+clock+`
		FROM partitions
		WHERE `+t.amongInts("n", 1)+`
		ORDER BY n`+t.lock("FOR KEY SHARE"), ints(t.dialect, owned))
	if err != nil {
		return time.Time{}, fmt.Errorf("check the fence: %w", err)
	}
	if right != len(f) {
		return time.Time{}, fmt.Errorf("%d of %d partitions: %w", len(f)-right, len(f), command.ErrLost)
	}
	if !t.postgres {
		return t.now()
	}
	return now.Time, nil
}

var positionColumns = columns("v_n bigint, v_epoch bigint, v_generation text, v_position text")

// movePositions notes how far the log has been taken over.
func (t *tx) movePositions(f command.Fence, ps []command.LogPosition) error {
	if len(ps) == 0 {
		return nil
	}
	in := newInput(positionColumns, len(ps))
	for _, p := range ps {
		epoch, ok := f[p.Partition]
		if !ok {
			return fmt.Errorf("move the position of partition %d: it is not in the fence", p.Partition)
		}
		in.add(p.Partition, epoch, p.Generation, string(p.Position))
	}
	n, err := t.exec(`
		UPDATE partitions
		SET log_generation = v_generation, position = v_position
		FROM `+t.relation(in.columns, 1)+`
		WHERE n = v_n AND epoch = v_epoch`, in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("move log positions: %w", err)
	}
	if n != len(ps) {
		return fmt.Errorf("move log positions: %w", command.ErrLost)
	}
	return nil
}

// Hold implements command.Ledger.
func (db *DB) Hold(ctx context.Context, owner string, lease, behind time.Duration) (held command.Fence, excess int, err error) {
	err = db.write(ctx, urgent, func(t *tx) error {
		held, excess, err = t.hold(owner, lease, behind)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("hold partitions: %w", err)
	}
	return held, excess, nil
}

func (t *tx) hold(owner string, lease, behind time.Duration) (command.Fence, int, error) {
	now, err := t.now()
	if err != nil {
		return nil, 0, err
	}
	until := now.Add(lease)
	living, err := t.heartbeat(owner, now, lease)
	if err != nil {
		return nil, 0, err
	}
	held := command.Fence{}
	note := func(row scanner) error {
		var n int
		var epoch int64
		if err := row.Scan(&n, &epoch); err != nil {
			return err
		}
		held[n] = epoch
		return nil
	}
	err = t.each(note, `
		UPDATE partitions
		SET lease_until = $2, idle_since = CASE WHEN idle_since > $3 THEN idle_since ELSE $3 END
		WHERE owner = $1
		RETURNING n, epoch`, owner, at(until), at(now.Add(-behind)))
	if err != nil {
		return nil, 0, fmt.Errorf("renew: %w", err)
	}
	share := (t.partitions + living - 1) / living
	if room := share - len(held); room > 0 {
		// A partition whose old owner is in the middle of a transaction is passed over: the next call finds it free.
		err = t.each(note, `
			WITH free AS MATERIALIZED (
				SELECT n AS v_n
				FROM partitions
				WHERE owner = '' OR lease_until < $3
				ORDER BY n
				LIMIT $4`+t.lock("FOR UPDATE SKIP LOCKED")+`)
			UPDATE partitions
			SET owner = $1, epoch = epoch + 1, idle_since = COALESCE(idle_since, $3), lease_until = $2
			WHERE n IN (SELECT v_n FROM free)
			RETURNING n, epoch`, owner, at(until), at(now), room)
		if err != nil {
			return nil, 0, fmt.Errorf("take over: %w", err)
		}
	}
	return held, max(0, len(held)-share), nil
}

// heartbeat notes that owner lives and counts the living, those included that hold nothing yet.
func (t *tx) heartbeat(owner string, now time.Time, lease time.Duration) (living int, err error) {
	_, err = t.exec(`
		INSERT INTO workers (owner, seen_at)
		VALUES ($1, $2)
		ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at`, owner, at(now))
	if err != nil {
		return 0, fmt.Errorf("beat: %w", err)
	}
	if err := t.get(&living, `SELECT count(*) FROM workers WHERE seen_at >= $1`, at(now.Add(-lease))); err != nil {
		return 0, fmt.Errorf("count the living: %w", err)
	}
	return max(living, 1), nil
}

// deadFor is how long an owner is remembered after its last sign of life.
const deadFor = time.Hour

// Release implements command.Ledger. The epochs rise, so that nothing that is still under way can commit. An owner that
// gives back the last of what it holds no longer counts among the living, until its next Hold.
func (db *DB) Release(ctx context.Context, owner string, partitions []int) error {
	err := db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		_, err = t.exec(`
			WITH own AS MATERIALIZED (
				SELECT n AS v_n
				FROM partitions
				WHERE owner = $1 AND `+t.amongInts("n", 2)+`
				ORDER BY n`+t.lock("FOR UPDATE")+`)
			UPDATE partitions
			SET owner = '', epoch = epoch + 1, lease_until = $3
			WHERE n IN (SELECT v_n FROM own)`, owner, ints(t.dialect, partitions), at(now))
		if err != nil {
			return err
		}
		_, err = t.exec(`
			DELETE FROM workers
			WHERE (owner = $1 AND NOT EXISTS (SELECT 1 FROM partitions WHERE partitions.owner = $1)) OR seen_at < $2`,
			owner, at(now.Add(-deadFor)))
		return err
	})
	if err != nil {
		return fmt.Errorf("release partitions: %w", err)
	}
	return nil
}
