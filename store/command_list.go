package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// FindCommands implements command.Book: newest first.
func (db *DB) FindCommands(ctx context.Context, tenant fleet.Tenant, f command.CommandFilter, p command.Page) (command.List[command.View], error) {
	var list command.List[command.View]
	from, err := parseCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	p.Limit = page(p.Limit)
	err = db.showing(ctx, func(now time.Time) ([]command.ID, error) {
		var unseen []command.ID
		err := db.search(ctx, func(t *tx) error {
			rows, err := t.findCommands(commandQuery{tenant: tenant, filter: f, now: now, from: from, limit: p.Limit + 1})
			if err != nil {
				return err
			}
			list.NextCursor = ""
			if len(rows) > p.Limit {
				rows = rows[:p.Limit]
				list.NextCursor = cursor{Seq: rows[p.Limit-1].Seq}.String()
			}
			cs, err := t.domain(rows)
			if err != nil {
				return err
			}
			list.Items = make([]command.View, len(cs))
			for i, c := range cs {
				list.Items[i] = c.View().At(now)
				if overdue(c, now) {
					unseen = append(unseen, c.ID)
				}
			}
			return nil
		})
		return unseen, err
	})
	if err != nil {
		return command.List[command.View]{}, fmt.Errorf("list commands: %w", err)
	}
	return list, nil
}

// commandQuery is a list of commands that is asked for.
type commandQuery struct {
	tenant  fleet.Tenant
	filter  command.CommandFilter
	now     time.Time
	from    *cursor // nil: the beginning
	limit   int
	numbers span // of those that were made in time
}

// span is a range of sequence numbers, its ends included; 0 leaves an end open.
type span struct{ first, last int64 }

// findCommands reads a list by the commands themselves or, where these are fewer, by the operations that they have to have.
func (t *tx) findCommands(q commandQuery) ([]commandRow, error) {
	if !slices.Contains(asked, q.filter.Status) {
		return nil, nil
	}
	var err error
	if q.numbers, err = t.numbersOf(q.tenant, q.filter.From, q.filter.To); err != nil {
		return nil, err
	}
	f := q.filter
	switch {
	case f.ID != "":
		return t.amongCommands(q)
	case f.Group != "":
		return t.commandsOfGroup(q)
	case f.DeviceID != "" || f.EndpointID != "" || f.Code != "":
		return t.byOperation(q, false)
	case slices.Contains(outcomes, f.State) && f.State != command.Succeeded:
		return t.byOperation(q, false)
	}
	return t.amongCommands(q)
}

// numbersSeen is how many commands may have got their number before one that was made earlier, or after one that was made later.
const numbersSeen = 1000

// numbersOf finds the sequence numbers of commands made in [from, to). Numbers rise with time, but for commands that were
// made at the same moment.
func (t *tx) numbersOf(tenant fleet.Tenant, from, to time.Time) (s span, err error) {
	if !from.IsZero() {
		err = t.get(&s.first, `
			SELECT COALESCE(min(seq), 9223372036854775807)
			FROM (SELECT seq FROM commands WHERE tenant = $1 AND created_at >= $2 ORDER BY created_at LIMIT $3) AS earliest`,
			string(tenant), at(from), numbersSeen)
	}
	if err == nil && !to.IsZero() {
		err = t.get(&s.last, `
			SELECT COALESCE(max(seq), -1)
			FROM (SELECT seq FROM commands WHERE tenant = $1 AND created_at < $2 ORDER BY created_at DESC LIMIT $3) AS latest`,
			string(tenant), at(to), numbersSeen)
	}
	if err != nil {
		return span{}, fmt.Errorf("look up the numbers of a time: %w", err)
	}
	return s, nil
}

// narrow adds the conditions on the commands themselves.
func (q commandQuery) narrow(w *where) {
	f := q.filter
	w.and("tenant = %s", string(q.tenant))
	if f.ID != "" {
		w.and("id = %s", string(f.ID))
	}
	if f.Kind != "" {
		w.and("kind = %s", string(f.Kind))
	}
	w.between("created_at", f.From, f.To)
	q.narrowNumbers(w)
	narrowStatus(w, f.Status, q.now)
}

func (q commandQuery) narrowNumbers(w *where) {
	if q.from != nil {
		w.and("seq < %s", q.from.Seq)
	}
	if q.numbers.first != 0 {
		w.and("seq >= %s", q.numbers.first)
	}
	if q.numbers.last != 0 {
		w.and("seq <= %s", q.numbers.last)
	}
}

// asked are the statuses that a list can be narrowed to.
var asked = []command.Status{"", command.StatusRunning, command.StatusSucceeded, command.StatusCancelled, command.StatusExpired,
	command.StatusFailed, command.StatusPartial}

// narrowStatus says in SQL what command.Counts.Status does: the first that fits, after what is open has become expired by
// the deadline.
func narrowStatus(w *where, s command.Status, now time.Time) {
	switch s {
	case "":
		return
	case command.StatusRunning:
		w.and(`running AND expires_at > %s`, timeText(now))
		return
	}
	w.and(`NOT (running AND expires_at > %s)`, timeText(now))
	for _, c := range statuses {
		if c.status == s {
			w.and(`total = ` + c.count)
			return
		}
		w.and(`NOT (total = ` + c.count + `)`)
	}
}

type statusCase struct {
	status command.Status
	count  string // of operations, as SQL, for a command that is over
}

// statuses are in the order in which command.Counts.Status looks at them; what is none of them is partial.
var statuses = []statusCase{
	{command.StatusSucceeded, `succeeded`},
	{command.StatusCancelled, `cancelled`},
	{command.StatusExpired, `total - succeeded - failed - cancelled - dead`},
	{command.StatusFailed, `failed + dead`},
}
