package store

import (
	"context"
	"fmt"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// endedLately is how long after its end a command may still be missing from the live state while its owner lives.
const endedLately = time.Minute

// Recover implements command.Ledger.
func (db *DB) Recover(ctx context.Context, partitions []int) (command.Recovered, error) {
	var r command.Recovered
	err := db.read(ctx, func(t *tx) error {
		r = command.Recovered{}
		if err := t.planForThis(); err != nil { // it is rare, and reads much
			return err
		}
		now, err := t.now()
		if err != nil {
			return err
		}
		list := ints(t.dialect, partitions)
		if r.InFlight, err = t.operations(`
			SELECT `+operationColumns("")+`
			FROM operations
			WHERE outcome IS NULL AND `+t.amongInts("partition", 1)+` AND state <> 'queued'
			ORDER BY command_id, device_id`, list); err != nil {
			return fmt.Errorf("what is in flight: %w", err)
		}
		if err := t.recoverEndpoints(&r, list, now); err != nil {
			return err
		}
		if err := t.recoverPositions(&r, list); err != nil {
			return err
		}
		if err := t.recoverSeq(&r, now); err != nil {
			return err
		}
		return t.recoverCommands(&r, list, now)
	})
	if err != nil {
		return command.Recovered{}, fmt.Errorf("recover partitions: %w", err)
	}
	return r, nil
}

func (t *tx) recoverEndpoints(r *command.Recovered, partitions string, now time.Time) error {
	err := t.each(func(row scanner) error {
		var endpoint meterread.DeviceID
		var next moment
		if err := row.Scan(&endpoint, &next); err != nil {
			return err
		}
		r.Endpoints = append(r.Endpoints, endpoint)
		if !next.IsZero() {
			r.Waiting = append(r.Waiting, command.Waiting{Endpoint: endpoint, At: next.Time})
		}
		return nil
	}, `
		SELECT endpoint_id, min(CASE WHEN state = 'queued' AND next_at > $2 THEN next_at END)
		FROM operations
		WHERE outcome IS NULL AND `+t.amongInts("partition", 1)+`
		GROUP BY partition, endpoint_id
		ORDER BY partition, endpoint_id`, partitions, at(now))
	if err != nil {
		return fmt.Errorf("endpoints with something to do: %w", err)
	}
	return nil
}

func (t *tx) recoverPositions(r *command.Recovered, partitions string) error {
	err := t.each(func(row scanner) error {
		var p command.LogPosition
		err := row.Scan(&p.Partition, &p.Generation, &p.Position)
		r.Positions = append(r.Positions, p)
		return err
	}, `
		SELECT n, log_generation, position
		FROM partitions
		WHERE `+t.amongInts("n", 1)+`
		ORDER BY n`, partitions)
	if err != nil {
		return fmt.Errorf("log positions: %w", err)
	}
	return nil
}

// settled is how long after it was accepted a command has surely been committed, and all before it: PostgreSQL gives
// numbers before it commits.
const settled = 10 * time.Second

func (t *tx) recoverSeq(r *command.Recovered, now time.Time) error {
	err := t.get(&r.Seq, `
		SELECT COALESCE((SELECT seq FROM commands WHERE created_at < $1 ORDER BY seq DESC LIMIT 1), 0)`, at(now.Add(-settled)))
	if err != nil {
		return fmt.Errorf("the last settled command: %w", err)
	}
	return nil
}

// recoverCommands lists what may not be in the live state: commands that run, that ended, and that were answered after their
// end. It looks back to when the partitions' owners before were known not to be behind with the live state.
func (t *tx) recoverCommands(r *command.Recovered, partitions string, now time.Time) error {
	since := now
	err := t.each(func(row scanner) error {
		var idle moment
		if err := row.Scan(&idle); err != nil {
			return err
		}
		if !idle.IsZero() && idle.Before(since) {
			since = idle.Time
		}
		return nil
	}, `SELECT idle_since FROM partitions WHERE `+t.amongInts("n", 1), partitions)
	if err != nil {
		return fmt.Errorf("owners before: %w", err)
	}
	err = t.each(func(row scanner) error {
		var id command.ID
		err := row.Scan(&id)
		r.Commands = append(r.Commands, id)
		return err
	}, `
		SELECT id FROM commands WHERE running AND total <= $1
		UNION
		SELECT id FROM commands WHERE finished_at >= $2 AND total <= $1
		UNION
		SELECT id FROM commands WHERE id IN (SELECT command_id FROM operations WHERE late_result_at >= $2) AND total <= $1`, command.LiveLimit, at(since.Add(-endedLately)))
	if err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	// device_reads may be a minute behind.
	err = t.list(&r.Read, `
		SELECT device_id FROM device_reads WHERE last_read_at >= $1`, at(since.Add(-endedLately-readEvery)))
	if err != nil {
		return fmt.Errorf("devices read: %w", err)
	}
	return nil
}
