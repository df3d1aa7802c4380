package store

import (
	"context"
	"fmt"
	"time"

	"meterline/command"
	"meterline/fault"
	"meterline/meterread"
)

// End implements command.Ledger. It ends operations where they are, without loading them.
func (db *DB) End(ctx context.Context, f command.Fence, id command.ID, as command.State, reason string, after meterread.DeviceID,
	limit int) (done command.Committed, last meterread.DeviceID, more bool, err error) {
	if as != command.Expired && as != command.Cancelled {
		return command.Committed{}, "", false, fmt.Errorf("end operations as %s: only as expired or cancelled", as)
	}
	err = db.write(ctx, bulk, func(t *tx) error {
		done, last, more, err = t.endSome(f, id, as, reason, after, limit)
		return err
	})
	if err != nil {
		return command.Committed{}, "", false, fmt.Errorf("end operations: %w", err)
	}
	return done, last, more, nil
}

// yetToEnd is open in other words. The indexes of what is open say WHERE open: a query that does not say so can use none of
// them, however few rows the planner believes to be open. It belongs where the primary key is the way in.
const yetToEnd = `state IN ('queued', 'sent', 'delivered', 'accepted')`

func (t *tx) endSome(f command.Fence, id command.ID, as command.State, reason string, after meterread.DeviceID,
	limit int) (done command.Committed, last meterread.DeviceID, more bool, err error) {
	now, err := t.fence(f)
	if err != nil {
		return done, "", false, err
	}
	done.Now = now
	args := []any{string(id), string(after), limit, timeText(now)}
	where := ` AND expires_at <= $4`
	if as == command.Cancelled {
		where = ` AND expires_at > $4` // the deadline was first
	}
	if f != nil {
		parts := make([]int, 0, len(f))
		for n := range f {
			parts = append(parts, n)
		}
		where += ` AND ` + t.amongInts("partition", 5)
		args = append(args, ints(t.dialect, parts))
	}
	to := yetToEnd
	if fault.Bug(fault.BugEndTwice) {
		to = `state <> 'expired' AND state <> 'cancelled'`
	}
	open, err := t.heldBy(`
		SELECT command_id, device_id, state
		FROM operations
		WHERE command_id = $1 AND device_id > $2 AND `+to+where+`
		ORDER BY device_id
		LIMIT $3`+t.lock("FOR NO KEY UPDATE"), args...)
	if err != nil || len(open) == 0 {
		return done, after, false, err
	}
	done.Changes, err = t.end(now, open, as, reason, true)
	return done, open[len(open)-1].DeviceID, len(open) == limit, err
}

// held is an open operation that this transaction has locked.
type held struct {
	command.Key
	state command.State
}

// heldBy runs a query of command_id, device_id and state.
func (t *tx) heldBy(query string, args ...any) ([]held, error) {
	var list []held
	err := t.each(func(row scanner) error {
		var h held
		err := row.Scan(&h.CommandID, &h.DeviceID, &h.state)
		list = append(list, h)
		return err
	}, query, args...)
	return list, err
}

var endColumns = columns("v_command text, v_device text, v_changed bigint")

// end ends open operations that are locked, in order of their keys, and counts them. With list, the operations of commands
// that the live state holds are loaded as they are now; the others' changes are Bulk.
func (t *tx) end(now time.Time, open []held, as command.State, reason string, list bool) ([]command.Change, error) {
	d := deltas{}
	for _, h := range open {
		d.move(h.CommandID, h.state, as)
	}
	cs, err := t.count(now, d)
	if err != nil {
		return nil, err
	}
	if err := t.withErrors(cs); err != nil {
		return nil, err
	}
	changes := make([]command.Change, len(cs))
	byID := make(map[command.ID]*command.Change, len(cs))
	for i, c := range cs {
		changes[i] = command.Change{From: c.Version - 1, Command: c, Bulk: !list || c.Counts.Total > command.LiveLimit}
		byID[c.ID] = &changes[i]
	}
	var quiet, shown []held
	for _, h := range open {
		if byID[h.CommandID].Bulk {
			quiet = append(quiet, h)
		} else {
			shown = append(shown, h)
		}
	}
	if err := t.endQuietly(now, quiet, byID, as, reason); err != nil {
		return nil, err
	}
	ops, err := t.endShown(now, shown, byID, as, reason)
	if err != nil {
		return nil, err
	}
	for _, o := range ops {
		c := byID[o.CommandID]
		c.Operations = append(c.Operations, o)
	}
	return changes, nil
}

func (t *tx) endQuietly(now time.Time, open []held, by map[command.ID]*command.Change, as command.State, reason string) error {
	if len(open) == 0 {
		return nil
	}
	in, move := endInput(now, open, by, as, reason)
	if _, err := t.exec(t.endSQL(in), in.args(t.dialect, string(as), at(now), move)...); err != nil {
		return fmt.Errorf("end operations: %w", err)
	}
	return nil
}

func (t *tx) endShown(now time.Time, open []held, by map[command.ID]*command.Change, as command.State, reason string) ([]*command.Operation, error) {
	if len(open) == 0 {
		return nil, nil
	}
	in, move := endInput(now, open, by, as, reason)
	ops, err := t.operations(t.endSQL(in)+`
		RETURNING `+operationColumns(""), in.args(t.dialect, string(as), at(now), move)...)
	if err != nil {
		return nil, fmt.Errorf("end operations: %w", err)
	}
	sortOperations(ops)
	return ops, nil
}

func endInput(now time.Time, open []held, by map[command.ID]*command.Change, as command.State, reason string) (*input, string) {
	in := newInput(endColumns, len(open))
	for _, h := range open {
		in.add(string(h.CommandID), string(h.DeviceID), by[h.CommandID].Command.Version)
	}
	return in, marshal(command.Move{State: as, At: now, Reason: reason})
}

// endSQL ends the operations of an input as $1, at $2; the move $3 is put at the end of their moves as text.
func (t *tx) endSQL(in *input) string {
	return `
		UPDATE operations
		SET state = $1, outcome = $1, open = FALSE, updated_at = $2, error_code = NULL, error_message = NULL,
			moves = substr(moves, 1, length(moves) - 1) || CASE WHEN length(moves) > 2 THEN ',' ELSE '' END || $3 || ']',
			version = version + 1, changed = v_changed
		FROM ` + t.relation(in.columns, 4) + `
		WHERE command_id = v_command AND device_id = v_device`
}
