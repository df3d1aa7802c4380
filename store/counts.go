package store

import (
	"fmt"
	"slices"
	"time"

	"meterline/command"
	"meterline/fault"
)

// deltas are what a transaction changes in the counts of commands. A command without a change of its counts gets a new
// version all the same.
type deltas map[command.ID]*command.Counts

func (d deltas) of(id command.ID) *command.Counts {
	c := d[id]
	if c == nil {
		c = &command.Counts{}
		d[id] = c
	}
	return c
}

// move counts an operation that went from one state to another.
func (d deltas) move(id command.ID, from, to command.State) {
	c := d.of(id)
	*c.Of(from)--
	*c.Of(to)++
	if !to.Open() && fault.Bug(fault.BugCountedTwice) {
		*c.Of(to)++
	}
}

var countColumns = columns(`v_id text, v_sent bigint, v_delivered bigint, v_accepted bigint, v_succeeded bigint, v_failed bigint,
	v_expired bigint, v_cancelled bigint, v_dead bigint, v_ended bigint`)

// count adds the deltas to their commands and gives each a new version, in order of their ids. Whoever ends the last
// operation ends the command. The answer holds every command as it is now, but for its errors
// and its selector, which may be as large as the command.
func (t *tx) count(now time.Time, d deltas) ([]command.Command, error) {
	ids := make([]command.ID, 0, len(d))
	for id := range d {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if len(ids) > 1 { // UPDATE takes its rows in whatever order it finds them
		if err := t.lockCommands(ids); err != nil {
			return nil, err
		}
	}
	in := newInput(countColumns, len(ids))
	for _, id := range ids {
		c := d[id]
		in.add(string(id), c.Sent, c.Delivered, c.Accepted, c.Succeeded, c.Failed, c.Expired, c.Cancelled, c.Dead, ended(*c))
	}
	var rows []commandRow
	err := t.list(&rows, `
		UPDATE commands
		SET version = version + 1,
			sent = sent + v_sent,
			delivered = delivered + v_delivered,
			accepted = accepted + v_accepted,
			succeeded = succeeded + v_succeeded,
			failed = failed + v_failed,
			expired = expired + v_expired,
			cancelled = cancelled + v_cancelled,
			dead = dead + v_dead,
			running = running AND (expanding OR total > succeeded + failed + expired + cancelled + dead + v_ended),
			finished_at = CASE
				WHEN running AND NOT expanding AND total <= succeeded + failed + expired + cancelled + dead + v_ended THEN $1
				ELSE finished_at END
		FROM `+t.relation(in.columns, 2)+`
		WHERE id = v_id
		RETURNING `+leanCommandColumns, in.args(t.dialect, at(now))...)
	if err != nil {
		return nil, fmt.Errorf("count operations: %w", err)
	}
	cs := make([]command.Command, len(rows))
	for i := range rows {
		if cs[i], err = rows[i].command(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(cs, func(a, b command.Command) int { return compare(a.ID, b.ID) })
	return cs, nil
}

// lockCommands locks commands until the end, in order of their ids. Whoever locks operations has locked their commands before:
// two transactions then wait for each other in one direction only.
func (t *tx) lockCommands(ids []command.ID) error {
	if !t.postgres {
		return nil
	}
	err := t.each(func(scanner) error { return nil }, `
		SELECT id
		FROM commands
		WHERE `+t.among("id", 1)+`
		ORDER BY id
		FOR NO KEY UPDATE`, texts(t.dialect, ids))
	if err != nil {
		return fmt.Errorf("lock commands: %w", err)
	}
	return nil
}

var errorColumns = columns("v_command text, v_code text, v_n bigint")

// countErrors adds up the codes of operations that ended now. The commands' rows are locked, so nobody else does.
func (t *tx) countErrors(ops []*command.Operation) error {
	type key struct {
		id   command.ID
		code string
	}
	sums := map[key]int{}
	var keys []key
	for _, o := range ops {
		k := key{o.CommandID, clean(o.Error.Code)}
		if sums[k] == 0 {
			keys = append(keys, k)
		}
		sums[k]++
	}
	if len(keys) == 0 {
		return nil
	}
	in := newInput(errorColumns, len(keys))
	for _, k := range keys {
		in.add(string(k.id), k.code, sums[k])
	}
	_, err := t.exec(`
		INSERT INTO command_errors (command_id, code, n)
		SELECT v_command, v_code, v_n
		FROM `+t.relation(in.columns, 1)+`
		WHERE TRUE
		ON CONFLICT (command_id, code) DO UPDATE SET n = command_errors.n + excluded.n`, in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("count errors: %w", err)
	}
	return nil
}

// withErrors fills in the error counts of commands.
func (t *tx) withErrors(cs []command.Command) error {
	var ids []command.ID
	for _, c := range cs {
		if c.Counts.Failed+c.Counts.Dead > 0 {
			ids = append(ids, c.ID)
		}
	}
	errs, err := t.errorsOf(ids)
	if err != nil {
		return err
	}
	for i := range cs {
		cs[i].Errors = errs[cs[i].ID]
	}
	return nil
}
