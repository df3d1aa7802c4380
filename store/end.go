package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"meterline/command"
	"meterline/fault"
	"meterline/meterread"
)

// End implements command.Ledger. It ends operations where they are, without loading them: PostgreSQL locks and counts them,
// and ends as many as it counted.
func (db *DB) End(ctx context.Context, f command.Fence, ids []command.ID, as command.State, reason string, after meterread.DeviceID,
	limit int) (done command.Committed, last meterread.DeviceID, more bool, err error) {
	if as != command.Expired && as != command.Cancelled {
		return command.Committed{}, "", false, fmt.Errorf("end operations as %s: only as expired or cancelled", as)
	}
	if len(ids) != 1 {
		after = "" // each as a whole
	}
	err = db.write(ctx, bulk, func(t *tx) error {
		e := ending{tx: t, as: as, reason: reason, many: len(ids) != 1}
		done, last, more, err = e.run(f, ids, after, limit)
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

// fewEnded is how many operations may end together and yet be listed for the live state one by one. When more do, it is
// cheaper to read a command that somebody asks for from the record.
const fewEnded = 1000

// ending is one call of End.
type ending struct {
	*tx
	as     command.State
	reason string
	many   bool // commands, each as a whole; else one, from a device on
}

// endedFrom is how many operations of a command, in one state, are locked to be ended.
type endedFrom struct {
	ID    command.ID         `db:"command_id"`
	State command.State      `db:"state"`
	N     int                `db:"n"`
	Last  meterread.DeviceID `db:"last"`
	Rows  string             `db:"rows"` // where they are; PostgreSQL only
}

func (e *ending) run(f command.Fence, ids []command.ID, after meterread.DeviceID, limit int) (done command.Committed,
	last meterread.DeviceID, more bool, err error) {
	now, err := e.fence(f)
	if err != nil {
		return done, "", false, err
	}
	done.Now = now
	if err := e.lockCommands(ids); err != nil {
		return done, "", false, err
	}
	found, err := e.lockSome(f, now, ids, after, limit)
	if err != nil || len(found) == 0 {
		return done, after, false, err
	}
	d, n := deltas{}, 0
	for _, x := range found {
		c := d.of(x.ID)
		*c.Of(x.State) -= x.N
		*c.Of(e.as) += x.N
		n += x.N
		if !e.many {
			last = max(last, x.Last)
		}
	}
	cs, err := e.count(now, d)
	if err != nil {
		return done, "", false, err
	}
	if err := e.withErrors(cs); err != nil {
		return done, "", false, err
	}
	done.Changes = make([]command.Change, len(cs))
	for i, c := range cs {
		done.Changes[i] = command.Change{From: c.Version - 1, Command: c, Bulk: n > fewEnded || c.Counts.Total > command.LiveLimit, Ended: *d[c.ID].Of(e.as)}
	}
	return done, last, n == limit, e.end(f, now, found, done.Changes, after)
}

// which narrows operations to those to be ended, from $3 on: $3 is the moment.
func (e *ending) which(f command.Fence, now time.Time, args []any) (string, []any) {
	deadline := ` AND expires_at <= $3`
	if e.as == command.Cancelled {
		deadline = ` AND expires_at > $3` // the deadline was first
	}
	open := yetToEnd
	if fault.Bug(fault.BugEndTwice) {
		open = `state <> 'expired' AND state <> 'cancelled'`
	}
	args = append(args, timeText(now))
	if f == nil {
		return open + deadline, args
	}
	parts := make([]int, 0, len(f))
	for n := range f {
		parts = append(parts, n)
	}
	slices.Sort(parts)
	return open + deadline + ` AND ` + e.amongInts("partition", 4), append(args, ints(e.dialect, parts))
}

// lockSome locks operations in order of their keys, and counts them where they are.
func (e *ending) lockSome(f command.Fence, now time.Time, ids []command.ID, after meterread.DeviceID, limit int) ([]endedFrom, error) {
	of, order := `command_id = $1 AND device_id > $2`, `device_id`
	if e.many {
		of, order = e.among("command_id", 1)+` AND CAST($2 AS text) = ''`, `command_id, device_id`
	}
	first := string(ids[0])
	if e.many {
		first = texts(e.dialect, ids)
	}
	which, args := e.which(f, now, []any{first, string(after)})
	args = append(args, limit)
	row, rows := "1", "''"
	if e.postgres {
		row, rows = "ctid", "CAST(array_agg(v_row) AS text)"
	}
	var found []endedFrom
	err := e.list(&found, `
		WITH held AS MATERIALIZED (
			SELECT command_id, device_id, state, `+row+` AS v_row
			FROM operations
			WHERE `+of+` AND `+which+`
			ORDER BY `+order+`
			LIMIT $`+strconv.Itoa(len(args))+e.lock("FOR NO KEY UPDATE")+`)
		SELECT command_id, state, count(*) AS n, max(device_id) AS last, `+rows+` AS rows
		FROM held
		GROUP BY command_id, state
		ORDER BY command_id`, args...)
	if err != nil {
		return nil, fmt.Errorf("lock what is to end: %w", err)
	}
	return found, nil
}

// end ends what lockSome has locked. Others cannot have changed it; should they have added to it, it runs again.
func (e *ending) end(f command.Fence, now time.Time, found []endedFrom, changes []command.Change, after meterread.DeviceID) error {
	by := make(map[command.ID]*command.Change, len(changes))
	var kinds [2]bool // of changes: Bulk, listed
	for i := range changes {
		c := &changes[i]
		by[c.Command.ID] = c
		if c.Bulk {
			kinds[0] = true
		} else {
			kinds[1] = true
		}
	}
	for kind, there := range kinds {
		if !there {
			continue
		}
		listed, n := kind == 1, 0
		var some []endedFrom
		for _, x := range found {
			if by[x.ID].Bulk != listed {
				some = append(some, x)
				n += x.N
			}
		}
		text, args := e.endSQL(f, now, some, by, after)
		ended := 0
		var err error
		if listed {
			ended, err = e.endListed(by, text, args)
		} else {
			ended, err = e.exec(text, args...)
		}
		if err != nil {
			return fmt.Errorf("end operations: %w", err)
		}
		if ended != n {
			return errAgain
		}
	}
	return nil
}

var (
	rowsColumns  = columns("v_rows text, v_changed bigint")
	endedColumns = columns("v_command text, v_last text, v_changed bigint")
)

// endSQL ends what was found. PostgreSQL is told where the rows are: of a table that has not been analysed yet it cannot know
// that their commands lead to few.
func (e *ending) endSQL(f command.Fence, now time.Time, found []endedFrom, by map[command.ID]*command.Change, after meterread.DeviceID) (string, []any) {
	text := func(move int) string {
		return `
			UPDATE operations
			SET state = '` + string(e.as) + `', outcome = '` + string(e.as) + `', open = FALSE, updated_at = $1, error_code = NULL, error_message = NULL,
				moves = ` + e.anotherMove(move) + `,
				version = version + 1, changed = v_changed
			FROM `
	}
	move := marshal(command.Move{State: e.as, At: now, Reason: e.reason})
	if e.postgres {
		in := newInput(rowsColumns, len(found))
		for _, x := range found {
			in.add(x.Rows, by[x.ID].Command.Version)
		}
		return text(2) + e.relation(rowsColumns, 3) + ` CROSS JOIN LATERAL unnest(CAST(v_rows AS tid[])) AS r(v_row)
			WHERE ctid = v_row`, in.args(e.dialect, timeText(now), move)
	}
	in := newInput(endedColumns, len(by))
	for i := 0; i < len(found); {
		id, upTo := found[i].ID, found[i].Last
		for ; i < len(found) && found[i].ID == id; i++ {
			upTo = max(upTo, found[i].Last)
		}
		in.add(string(id), string(upTo), by[id].Command.Version)
	}
	which, args := e.which(f, now, []any{timeText(now), string(after)})
	args = append(args, move)
	return text(len(args)) + e.relation(endedColumns, len(args)+1) + `
		WHERE command_id = v_command AND device_id > $2 AND device_id <= v_last AND ` + which, in.args(e.dialect, args...)
}

// endListed runs an update, and notes the operations as they are now with their changes.
func (e *ending) endListed(by map[command.ID]*command.Change, text string, args []any) (int, error) {
	ops, err := e.operations(text+` RETURNING `+operationColumns(""), args...)
	if err != nil {
		return 0, err
	}
	sortOperations(ops)
	for _, o := range ops {
		c := by[o.CommandID]
		c.Operations = append(c.Operations, o)
	}
	return len(ops), nil
}

// anotherMove puts the move of parameter n at the end of the moves, as text.
func (d dialect) anotherMove(n int) string {
	return fmt.Sprintf(`substr(moves, 1, length(moves) - 1) || CASE WHEN length(moves) > 2 THEN ',' ELSE '' END || $%d || ']'`, n)
}

// held is an open operation that this transaction has locked.
type held struct {
	command.Key
	state command.State
}

// heldBy lists and locks the operations that a condition is true for, in order of their keys, and their commands before.
func (t *tx) heldBy(where string, args ...any) ([]held, error) {
	var ids []command.ID
	if err := t.list(&ids, `SELECT DISTINCT command_id FROM operations`+where, args...); err != nil || len(ids) == 0 {
		return nil, err
	}
	if err := t.lockCommands(ids); err != nil {
		return nil, err
	}
	var list []held
	err := t.each(func(row scanner) error {
		var h held
		err := row.Scan(&h.CommandID, &h.DeviceID, &h.state)
		list = append(list, h)
		return err
	}, `
		SELECT command_id, device_id, state
		FROM operations`+where+`
		ORDER BY command_id, device_id`+t.lock("FOR NO KEY UPDATE"), args...)
	return list, err
}

var endColumns = columns("v_command text, v_device text, v_changed bigint")

// endThese ends operations that are locked, in order of their keys, and counts them. Their commands' changes are Bulk.
func (t *tx) endThese(now time.Time, open []held, as command.State, reason string) ([]command.Change, error) {
	d := deltas{}
	for _, h := range open {
		d.move(h.CommandID, h.state, as)
	}
	cs, err := t.count(now, d)
	if err != nil {
		return nil, err
	}
	changes := make([]command.Change, len(cs))
	versions := make(map[command.ID]int64, len(cs))
	for i, c := range cs {
		changes[i] = command.Change{From: c.Version - 1, Command: c, Bulk: true, Ended: *d[c.ID].Of(as)}
		versions[c.ID] = c.Version
	}
	in := newInput(endColumns, len(open))
	for _, h := range open {
		in.add(string(h.CommandID), string(h.DeviceID), versions[h.CommandID])
	}
	_, err = t.exec(`
		UPDATE operations
		SET state = $1, outcome = $1, open = FALSE, updated_at = $2, error_code = NULL, error_message = NULL,
			moves = `+t.anotherMove(3)+`,
			version = version + 1, changed = v_changed
		FROM `+t.relation(in.columns, 4)+`
		WHERE command_id = v_command AND device_id = v_device`,
		in.args(t.dialect, string(as), at(now), marshal(command.Move{State: as, At: now, Reason: reason}))...)
	if err != nil {
		return nil, fmt.Errorf("end operations: %w", err)
	}
	return changes, nil
}
