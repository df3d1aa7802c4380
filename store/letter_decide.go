package store

import (
	"context"
	"fmt"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// uplinkReplayable are the letters of uplinks that can be handled again: see command.DeadLetter.
const uplinkReplayable = `(l.source = 'uplink' AND l.cause <> '` + command.CauseCorrupt + `' AND l.kind IN ('ack', 'result', 'readings', 'event'))`

// Decision implements command.LetterBook.
func (db *DB) Decision(ctx context.Context, tenant fleet.Tenant, key command.Idempotency) (id string, at time.Time, again bool, err error) {
	err = db.write(ctx, urgent, func(t *tx) error {
		id, again = newID(), false
		if at, err = t.now(); err != nil || key.Key == "" {
			return err
		}
		old, err := t.claimKey(tenant, command.ID(id), key)
		if err != nil {
			return err
		}
		if old != "" {
			id, again = string(old), true
		}
		var then moment // as the record keeps it, the first time too
		err = t.get(&then, `SELECT created_at FROM idempotency WHERE tenant = $1 AND key = $2`, string(tenant), key.Key)
		at = then.Time
		return err
	})
	if err != nil {
		return "", time.Time{}, false, fmt.Errorf("open a decision: %w", err)
	}
	return id, at, again, nil
}

var decideColumns = columns(`v_id text, v_partition bigint`)

// Decide implements command.LetterBook.
func (db *DB) Decide(ctx context.Context, d command.Decision, f command.DeadLetterFilter, limit int) (n int, err error) {
	err = db.write(ctx, urgent, func(t *tx) error {
		n, err = t.decide(d, f, limit)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("decide dead letters: %w", err)
	}
	return n, nil
}

func (t *tx) decide(d command.Decision, f command.DeadLetterFilter, limit int) (int, error) {
	f.Status = command.LetterOpen
	w := &where{}
	w.letters(t.dialect, d.By.Tenant, f)
	if d.As == command.LetterReplayed {
		w.conditions = append(w.conditions, uplinkReplayable)
	}
	in := newInput(decideColumns, limit)
	t.free = true
	err := t.each(func(row scanner) error {
		var id string
		var endpoint meterread.DeviceID
		if err := row.Scan(&id, &endpoint); err != nil {
			return err
		}
		if d.As == command.LetterReplayed {
			in.add(id, d.Partition(endpoint))
		} else {
			in.add(id, nil)
		}
		return nil
	}, `
		SELECT l.id, l.endpoint_id
		FROM dead_letters l `+w.sql()+`
		ORDER BY l.created_at, l.id
		LIMIT `+w.param(limit)+t.lock("FOR UPDATE"), w.args...)
	t.free = false
	if err != nil {
		return 0, fmt.Errorf("select dead letters: %w", err)
	}
	if in.len() == 0 {
		return 0, nil
	}
	return t.closeLetters(d, in, "")
}

// closeLetters writes a decision on open letters.
func (t *tx) closeLetters(d command.Decision, in *input, made command.ID) (int, error) {
	now, err := t.now()
	if err != nil {
		return 0, err
	}
	var handled any
	if made != "" {
		handled = at(now)
	}
	n, err := t.exec(`
		UPDATE dead_letters
		SET status = $1, decided_by = $2, decided_at = $3, decision_id = $4, decided_name = $5, decided_request = $6,
			decided_from = $7, new_command_id = $8, handled_at = $9, replay_in = v_partition
		FROM `+t.relation(in.columns, 10)+`
		WHERE id = v_id AND status = 'open'`,
		in.args(t.dialect, d.As, d.By.ID, at(now), d.ID, d.By.Name, d.By.RequestID, d.By.RemoteAddr, string(made), handled)...)
	if err != nil {
		return 0, fmt.Errorf("close dead letters: %w", err)
	}
	return n, t.recordDecision(now, d, in, n, made)
}

// recordDecision enters what was decided in one transaction: one letter by its id, many by how many they are.
func (t *tx) recordDecision(now time.Time, d command.Decision, in *input, n int, made command.ID) error {
	c := fleet.Change{Action: fleet.LetterDiscard, Kind: fleet.OnLetter, After: fleet.LettersChange{DecisionID: d.ID, Letters: n, CommandID: string(made)}}
	if d.As == command.LetterReplayed {
		c.Action = fleet.LetterReplay
	}
	if in.len() == 1 {
		c.ID = in.rows[0][0].(string)
	}
	return t.record(now, d.By, c)
}

// operationReplayable narrows to letters of dead operations that d.By may have asked for again. l is joined with the command,
// c, and the device, v.
func (w *where) operationReplayable(d command.Decision) {
	w.and("l.source = 'operation'")
	if !d.By.Can(fleet.CommandsWrite) {
		w.and("FALSE")
	}
	if !d.By.Can(fleet.CommandsControl) {
		w.and("c.kind <> %s", string(command.MeterRelay))
	}
}

const deadOperations = `
	FROM dead_letters l
	JOIN commands c ON c.id = l.command_id AND c.tenant = l.tenant
	JOIN devices v ON v.id = l.device_id AND v.tenant = l.tenant AND v.enabled AND (c.kind = 'device.ping' OR v.kind <> 'ipc') `

// DeadCommands implements command.LetterBook.
func (db *DB) DeadCommands(ctx context.Context, d command.Decision, f command.DeadLetterFilter, limit int) (ids []command.ID, err error) {
	f.Status = command.LetterOpen
	w := &where{}
	w.letters(db.dialect, d.By.Tenant, f)
	w.operationReplayable(d)
	err = db.search(ctx, func(t *tx) error {
		ids = nil
		return t.list(&ids, `
			SELECT l.command_id`+deadOperations+w.sql()+`
			GROUP BY l.command_id
			ORDER BY min(l.created_at), l.command_id
			LIMIT `+w.param(limit), w.args...)
	})
	if err != nil {
		return nil, fmt.Errorf("look for dead operations: %w", err)
	}
	return ids, nil
}

// Reissue implements command.LetterBook.
func (db *DB) Reissue(ctx context.Context, d command.Decision, f command.DeadLetterFilter, c command.Command, ttl time.Duration,
	limit, first int, born command.BornFunc) (command.Created, error) {
	f.Status, f.CommandID = command.LetterOpen, c.ParentID
	var made command.Created
	err := db.write(ctx, urgent, func(t *tx) error {
		// The fleet stands still from here on: what is found to be a target is one.
		if err := t.shareFleet(c.Tenant); err != nil {
			return err
		}
		in, devices, err := t.deadDevices(d, f, limit)
		if err != nil {
			return err
		}
		if len(devices) == 0 {
			return command.ErrNothingToDecide
		}
		c.Selector = command.Selector{DeviceIDs: devices}
		if made, err = t.create(c, ttl, command.Idempotency{}, first, born); err != nil {
			return err
		}
		_, err = t.closeLetters(d, in, made.Command.ID)
		return err
	})
	if err != nil {
		return command.Created{}, fmt.Errorf("replay dead operations: %w", err)
	}
	return made, nil
}

// deadDevices are the devices of dead operations, with their letters, locked.
func (t *tx) deadDevices(d command.Decision, f command.DeadLetterFilter, limit int) (*input, []meterread.DeviceID, error) {
	w := &where{}
	w.letters(t.dialect, d.By.Tenant, f)
	w.operationReplayable(d)
	in := newInput(decideColumns, 0)
	var devices []meterread.DeviceID
	t.free = true
	err := t.each(func(row scanner) error {
		var id string
		var device meterread.DeviceID
		if err := row.Scan(&id, &device); err != nil {
			return err
		}
		in.add(id, nil)
		devices = append(devices, device)
		return nil
	}, `
		SELECT l.id, l.device_id`+deadOperations+w.sql()+`
		ORDER BY l.created_at, l.id
		LIMIT `+w.param(limit)+t.lock("FOR UPDATE OF l"), w.args...)
	t.free = false
	if err != nil {
		return nil, nil, fmt.Errorf("select dead operations: %w", err)
	}
	return in, devices, nil
}

// skippedMost bounds the count of what cannot be replayed.
const skippedMost = 10_000

// Decided implements command.LetterBook.
func (db *DB) Decided(ctx context.Context, d command.Decision, f command.DeadLetterFilter) (command.BulkDecision, error) {
	b := command.BulkDecision{ID: d.ID, Status: d.As}
	err := db.search(ctx, func(t *tx) error {
		b.Uplinks, b.Operations, b.Commands = 0, 0, []command.ID{}
		err := t.each(func(row scanner) error {
			var source string
			var made command.ID
			var n int
			err := row.Scan(&source, &made, &n)
			if source == command.LetterOperation {
				b.Operations += n
			} else {
				b.Uplinks += n
			}
			if made != "" {
				b.Commands = append(b.Commands, made)
			}
			return err
		}, `
			SELECT source, new_command_id, count(*)
			FROM dead_letters
			WHERE tenant = $1 AND decision_id = $2 AND decision_id <> ''
			GROUP BY source, new_command_id
			ORDER BY source, new_command_id`, string(d.By.Tenant), d.ID)
		if err != nil {
			return err
		}
		b.Letters = b.Uplinks + b.Operations
		return t.leftOpen(d, f, &b)
	})
	if err != nil {
		return command.BulkDecision{}, fmt.Errorf("look at a decision: %w", err)
	}
	return b, nil
}

// leftOpen says what a decision leaves open: more that can be decided so, and what cannot.
func (t *tx) leftOpen(d command.Decision, f command.DeadLetterFilter, b *command.BulkDecision) error {
	f.Status = command.LetterOpen
	count := func(from string, limit int, narrow func(*where)) (n int, err error) {
		w := &where{}
		w.letters(t.dialect, d.By.Tenant, f)
		narrow(w)
		err = t.get(&n, `SELECT count(*) FROM (SELECT 1 AS one `+from+w.sql()+` LIMIT `+w.param(limit)+`) AS found`, w.args...)
		return n, err
	}
	all, err := count(`FROM dead_letters l `, skippedMost, func(*where) {})
	if err != nil || all == 0 {
		return err
	}
	if d.As == command.LetterDiscarded {
		b.More = true
		return nil
	}
	uplinks, err := count(`FROM dead_letters l `, skippedMost, func(w *where) { w.conditions = append(w.conditions, uplinkReplayable) })
	if err != nil {
		return err
	}
	operations, err := count(deadOperations, skippedMost, func(w *where) { w.operationReplayable(d) })
	if err != nil {
		return err
	}
	b.More, b.Skipped = uplinks+operations > 0, max(0, all-uplinks-operations)
	return nil
}
