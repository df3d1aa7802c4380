package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// FindOperations implements command.Book: newest first, but in order of devices within one command.
func (db *DB) FindOperations(ctx context.Context, tenant fleet.Tenant, f command.OperationFilter, p command.Page) (command.List[command.OperationView], error) {
	var list command.List[command.OperationView]
	from, err := parseCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	p.Limit = page(p.Limit)
	err = db.showing(ctx, func(now time.Time) ([]command.ID, error) {
		var unseen []command.ID
		err := db.search(ctx, func(t *tx) error {
			ops, err := t.findOperations(operationQuery{tenant, f, now, from, p.Limit + 1})
			if err != nil {
				return err
			}
			list.NextCursor = ""
			if len(ops) > p.Limit {
				ops = ops[:p.Limit]
				last := ops[p.Limit-1]
				list.NextCursor = cursor{At: last.CreatedAt, Seq: last.Seq, ID: string(last.DeviceID)}.String()
			}
			list.Items = viewsAt(ops, now)
			unseen = overdueIn(ops, now)
			return nil
		})
		return unseen, err
	})
	if err != nil {
		return command.List[command.OperationView]{}, fmt.Errorf("list operations: %w", err)
	}
	return list, nil
}

// overdueIn names the commands of operations that show as expired before that is written.
func overdueIn(ops []*command.Operation, now time.Time) []command.ID {
	var ids []command.ID
	for _, o := range ops {
		if o.State.Open() && !now.Before(o.ExpiresAt) && !slices.Contains(ids, o.CommandID) {
			ids = append(ids, o.CommandID)
		}
	}
	return ids
}

// operationQuery is a list of operations that is asked for.
type operationQuery struct {
	tenant fleet.Tenant
	filter command.OperationFilter
	now    time.Time
	from   *cursor // nil: the beginning
	limit  int
}

const newestFirst = `created_at DESC, seq DESC, device_id DESC`

// findOperations reads a list. It is the merge of as many branches as its filter leaves, each read in order from one index
// and no further than the list is long.
func (t *tx) findOperations(q operationQuery) ([]*command.Operation, error) {
	branches, err := t.stateBranches(q.tenant, q.filter, q.now)
	if err != nil || len(branches) == 0 {
		return nil, err
	}
	if q.filter.Group != "" && q.filter.CommandID == "" && q.filter.DeviceID == "" {
		return t.findInGroup(q, branches)
	}
	w := &where{}
	order := newestFirst
	if q.filter.CommandID != "" {
		order = `device_id`
	}
	parts := make([]string, len(branches))
	for i, b := range branches {
		w.conditions = nil
		q.narrow(w, t.DB)
		b(w)
		parts[i] = `SELECT ` + operationColumns("") + ` FROM operations ` + w.sql() + ` ORDER BY ` + order + ` LIMIT ` + w.param(q.limit)
	}
	if len(parts) == 1 {
		return t.operations(parts[0], w.args...)
	}
	return t.operations(`
		SELECT `+operationColumns("")+`
		FROM (`+merge(parts)+`) AS merged
		ORDER BY `+order+`
		LIMIT `+w.param(q.limit), w.args...)
}

// merge is the union of queries that are each cut off.
func merge(parts []string) string {
	wrapped := make([]string, len(parts))
	for i, p := range parts {
		wrapped[i] = fmt.Sprintf("SELECT * FROM (%s) AS part%d", p, i)
	}
	return strings.Join(wrapped, " UNION ALL ")
}

// narrow adds the conditions that all branches of a list share.
func (q operationQuery) narrow(w *where, db *DB) {
	w.and("tenant = %s", string(q.tenant))
	q.narrowOwn(w, db)
	switch {
	case q.from != nil && q.filter.CommandID != "":
		w.and("device_id > %s", q.from.ID)
	case q.from != nil:
		w.and("(created_at, seq, device_id) < (%s, %s, %s)", timeText(q.from.At), q.from.Seq, q.from.ID)
	}
}

// narrowOwn is narrow without the cursor, where all operations are known to be the tenant's.
func (q operationQuery) narrowOwn(w *where, db *DB) {
	f := q.filter
	if f.DeviceID != "" {
		w.and("device_id = %s", string(f.DeviceID))
	}
	if f.EndpointID != "" {
		// The partition leads to what is open: see operations_queue.
		w.and("endpoint_id = %s AND partition = %s", string(f.EndpointID), db.partitionOf(f.EndpointID))
	}
	if f.Kind != "" {
		w.and("kind = %s", string(f.Kind))
	}
	if f.CommandID != "" {
		w.and("command_id = %s", string(f.CommandID))
	}
	if f.Code != "" {
		w.and("error_code = %s", f.Code)
	}
	if f.Group != "" {
		// IS TRUE has PostgreSQL look the members up once, instead of once for each operation.
		w.and("(device_id IN (SELECT m.device_id FROM group_members m WHERE m.tenant = %s AND m.group_name = %s)) IS TRUE", string(q.tenant), f.Group)
	}
	w.between("created_at", f.From, f.To)
}
