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
//
// Every operation is in exactly one of the indexes operations_open and operations_ended, the latter by its outcome. A list
// of one device, command or error code reads the index of that; any other merges the newest of as many branches as its
// filter leaves, each read from one index in order and no further than the page is long.
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
			branches, err := t.stateBranches(tenant, f, now)
			if err != nil {
				return err
			}
			ops, err := t.listOperations(tenant, f, branches, from, p.Limit+1)
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

// branch is a part of a list that one index has in order.
type branch func(*where)

// The states in which an operation ends.
var outcomes = []command.State{command.Succeeded, command.Failed, command.Expired, command.Cancelled, command.Dead}

// stateBranches are the parts of a list that its state leaves. From its deadline on an open operation is an expired one.
func (t *tx) stateBranches(tenant fleet.Tenant, f command.OperationFilter, now time.Time) ([]branch, error) {
	ended := func(s command.State) branch {
		return func(w *where) { w.and(`NOT open AND outcome = '` + string(s) + `'`) }
	}
	switch {
	case f.State == "" && (f.DeviceID != "" || f.CommandID != "" || f.Code != ""):
		return []branch{func(*where) {}}, nil
	case f.State == "":
		branches := []branch{func(w *where) { w.and(`open`) }}
		for _, s := range outcomes {
			branches = append(branches, ended(s))
		}
		return branches, nil
	case f.State == command.Expired:
		branches := []branch{ended(f.State)}
		some, err := t.anyCommand(tenant, `expires_at <= $2`, timeText(now))
		if some {
			branches = append(branches, func(w *where) { w.and(`open AND expires_at <= %s`, timeText(now)) })
		}
		return branches, err
	case f.State.Open():
		some, err := t.anyCommand(tenant, counted(f.State)+` > $2`, 0)
		if !some {
			return nil, err
		}
		return []branch{func(w *where) { w.and(`open AND state = '`+string(f.State)+`' AND expires_at > %s`, timeText(now)) }}, nil
	case slices.Contains(outcomes, f.State):
		return []branch{ended(f.State)}, nil
	}
	return nil, nil
}

// counted is how many operations of a command are in an open state, as SQL.
func counted(s command.State) string {
	if s == command.Queued {
		return `total - sent - delivered - accepted - succeeded - failed - expired - cancelled - dead`
	}
	return string(s)
}

// anyCommand says whether a running command of the tenant is such. Where its counts say that nothing is in a state, nothing
// needs to be read: a state that moves is in no index.
func (t *tx) anyCommand(tenant fleet.Tenant, condition string, arg any) (bool, error) {
	var n int
	err := t.get(&n, `
		SELECT count(*)
		FROM (SELECT 1 AS one FROM commands WHERE tenant = $1 AND running AND `+condition+` LIMIT 1) AS found`, string(tenant), arg)
	return n > 0, err
}

// listOperations runs the query of a list: the first of each branch, merged.
func (t *tx) listOperations(tenant fleet.Tenant, f command.OperationFilter, branches []branch, from *cursor, limit int) ([]*command.Operation, error) {
	if len(branches) == 0 {
		return nil, nil
	}
	w := &where{}
	order := `created_at DESC, seq DESC, device_id DESC`
	if f.CommandID != "" {
		order = `device_id`
	}
	parts := make([]string, len(branches))
	for i, b := range branches {
		w.conditions = nil
		operationConditions(w, tenant, f, from)
		b(w)
		parts[i] = `SELECT ` + operationColumns("") + ` FROM operations ` + w.sql() + ` ORDER BY ` + order + ` LIMIT ` + w.param(limit)
	}
	if len(parts) == 1 {
		return t.operations(parts[0], w.args...)
	}
	return t.operations(`
		SELECT `+operationColumns("")+`
		FROM (`+merge(parts)+`) AS merged
		ORDER BY `+order+`
		LIMIT `+w.param(limit), w.args...)
}

// merge is the union of queries that are each cut off.
func merge(parts []string) string {
	wrapped := make([]string, len(parts))
	for i, p := range parts {
		wrapped[i] = fmt.Sprintf("SELECT * FROM (%s) AS part%d", p, i)
	}
	return strings.Join(wrapped, " UNION ALL ")
}

func operationConditions(w *where, tenant fleet.Tenant, f command.OperationFilter, from *cursor) {
	w.and("tenant = %s", string(tenant))
	if f.DeviceID != "" {
		w.and("device_id = %s", string(f.DeviceID))
	}
	if f.EndpointID != "" {
		w.and("endpoint_id = %s", string(f.EndpointID))
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
		w.and("device_id IN (SELECT m.device_id FROM group_members m WHERE m.tenant = %s AND m.group_name = %s)", string(tenant), f.Group)
	}
	w.between("created_at", f.From, f.To)
	switch {
	case from != nil && f.CommandID != "":
		w.and("device_id > %s", from.ID)
	case from != nil:
		w.and("(created_at, seq, device_id) < (%s, %s, %s)", timeText(from.At), from.Seq, from.ID)
	}
}
