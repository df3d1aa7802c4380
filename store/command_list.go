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
			w := commandConditions(tenant, f, from, now)
			if w == nil {
				list.Items = []command.View{}
				return nil
			}
			var rows []commandRow
			err := t.list(&rows, `SELECT `+commandColumns+` FROM commands `+w.sql()+` ORDER BY seq DESC LIMIT `+w.param(p.Limit+1), w.args...)
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

// commandConditions narrow a list of commands; nil when nothing can match.
func commandConditions(tenant fleet.Tenant, f command.CommandFilter, from *cursor, now time.Time) *where {
	w := &where{}
	w.and("tenant = %s", string(tenant))
	if f.Kind != "" {
		w.and("kind = %s", string(f.Kind))
	}
	w.between("created_at", f.From, f.To)
	if from != nil {
		w.and("seq < %s", from.Seq)
	}
	if f.Status == "" {
		return w
	}
	i := slices.IndexFunc(statuses, func(s statusCase) bool { return s.status == f.Status })
	switch {
	case f.Status == command.StatusRunning:
		w.and(`running AND expires_at > %s`, timeText(now))
		return w
	case f.Status == command.StatusPartial:
		i = len(statuses)
	case i < 0:
		return nil
	}
	// As command.Counts.Status: the first that fits, after what is open has become expired by the deadline.
	w.and(`NOT (running AND expires_at > %s)`, timeText(now))
	for _, s := range statuses[:i] {
		w.and(`NOT (total = ` + s.count + `)`)
	}
	if i < len(statuses) {
		w.and(`total = ` + statuses[i].count)
	}
	return w
}

type statusCase struct {
	status command.Status
	count  string // of operations, as SQL, for a command that is over
}

// statuses are in the order in which command.Counts.Status looks at them.
var statuses = []statusCase{
	{command.StatusSucceeded, `succeeded`},
	{command.StatusCancelled, `cancelled`},
	{command.StatusExpired, `total - succeeded - failed - cancelled - dead`},
	{command.StatusFailed, `failed + dead`},
}
