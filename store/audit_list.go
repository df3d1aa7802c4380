package store

import (
	"context"
	"encoding/json"
	"fmt"

	"meterline/command"
	"meterline/fleet"
)

// Audit lists the audit log of a tenant, newest first. Commands that were issued are entries too: they are read from their
// own rows, so that issuing one writes nothing more. They can be looked for as long as the commands are kept.
func (db *DB) Audit(ctx context.Context, tenant fleet.Tenant, f fleet.AuditFilter, p command.Page) (command.List[fleet.Entry], error) {
	var list command.List[fleet.Entry]
	from, err := parseCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	p.Limit = page(p.Limit)
	var entries, issued []auditRow
	err = db.search(ctx, func(t *tx) error {
		entries, issued = nil, nil
		if err := t.entries(&entries, tenant, f, from, p.Limit+1); err != nil {
			return err
		}
		return t.issued(&issued, tenant, f, from, p.Limit+1)
	})
	if err != nil {
		return list, fmt.Errorf("list the audit log: %w", err)
	}
	rows := newestOf(issued, entries)
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		last := rows[p.Limit-1]
		list.NextCursor = cursor{At: last.At.Time, Seq: last.Seq, ID: last.key()}.String()
	}
	list.Items = make([]fleet.Entry, len(rows))
	for i, r := range rows {
		list.Items[i] = r.entry()
	}
	return list, nil
}

// auditRow is an entry, or a command that was issued: then it has a Seq. The log is in order of time; of what came at the same
// time commands are the later ones, by their numbers, then entries, by their ids.
type auditRow struct {
	ID         string       `db:"id"`
	Seq        int64        `db:"seq"`
	Tenant     fleet.Tenant `db:"tenant"`
	At         moment       `db:"at"`
	ActorID    string       `db:"actor_id"`
	ActorName  string       `db:"actor_name"`
	Action     string       `db:"action"`
	ObjectKind string       `db:"object_kind"`
	ObjectID   string       `db:"object_id"`
	RequestID  string       `db:"request_id"`
	Remote     string       `db:"remote"`
	Before     *string      `db:"before"`
	After      *string      `db:"after"`
	// Of commands.
	Kind     string `db:"kind"`
	Mode     string `db:"mode"`
	Selector string `db:"selector"`
	Items    string `db:"items"`
	Total    int    `db:"total"`
}

// key is what tells entries of one moment apart.
func (r auditRow) key() string {
	if r.Seq > 0 {
		return ""
	}
	return r.ID
}

func (r auditRow) entry() fleet.Entry {
	e := fleet.Entry{
		ID: r.ID, At: r.At.Time, Tenant: r.Tenant, Actor: fleet.EntryActor{Kind: fleet.KindOfActor(r.ActorID), ID: r.ActorID, Name: r.ActorName},
		Action: fleet.Action(r.Action), Object: fleet.EntryObject{Kind: fleet.ObjectKind(r.ObjectKind), ID: r.ObjectID},
		RequestID: r.RequestID, Remote: r.Remote, Before: raw(r.Before), After: raw(r.After),
	}
	if r.Seq > 0 {
		e.After = r.issued()
	}
	return e
}

// issuedShown is up to how many bytes of a selector an entry shows.
const issuedShown = 4096

// issued says what a command asked for. Long lists of devices are left to the command itself.
func (r auditRow) issued() json.RawMessage {
	targets := json.RawMessage(r.Selector)
	if len(targets) > issuedShown {
		targets = nil
	}
	return json.RawMessage(marshal(map[string]any{
		"kind": r.Kind, "mode": r.Mode, "targets": targets, "items": json.RawMessage(r.Items), "total": r.Total,
	}))
}

func raw(s *string) json.RawMessage {
	if s == nil {
		return nil
	}
	return json.RawMessage(*s)
}

// newestOf merges two lists that are newest first.
func newestOf(issued, entries []auditRow) []auditRow {
	all := make([]auditRow, 0, len(issued)+len(entries))
	for len(issued) > 0 && len(entries) > 0 {
		if entries[0].At.After(issued[0].At.Time) {
			all, entries = append(all, entries[0]), entries[1:]
		} else {
			all, issued = append(all, issued[0]), issued[1:]
		}
	}
	return append(append(all, issued...), entries...)
}

func (t *tx) entries(rows *[]auditRow, tenant fleet.Tenant, f fleet.AuditFilter, from *cursor, limit int) error {
	if f.Action == fleet.CommandIssue || f.Action == fleet.CommandRetry {
		return nil
	}
	w := &where{}
	w.and("tenant = %s", string(tenant))
	if f.Actor != "" {
		w.and("(actor_id = %s OR actor_name = %s)", f.Actor, f.Actor)
	}
	if f.Action != "" {
		w.and("action = %s", string(f.Action))
	}
	if f.ObjectKind != "" {
		w.and("object_kind = %s", string(f.ObjectKind))
	}
	if f.ObjectID != "" {
		w.and("object_id = %s AND object_id <> ''", f.ObjectID) // as the index says
	}
	w.between("at", f.From, f.To)
	switch {
	case from == nil:
	case from.Seq > 0:
		w.and("at <= %s", at(from.At))
	default:
		w.and("(at, id) < (%s, %s)", timeText(from.At), from.ID)
	}
	return t.list(rows, `
		SELECT id, tenant, at, actor_id, actor_name, action, object_kind, object_id, request_id, remote, before, after
		FROM audit `+w.sql()+`
		ORDER BY at DESC, id DESC
		LIMIT `+w.param(limit), w.args...)
}

func (t *tx) issued(rows *[]auditRow, tenant fleet.Tenant, f fleet.AuditFilter, from *cursor, limit int) error {
	if f.ObjectKind != "" && f.ObjectKind != fleet.OnCommand {
		return nil
	}
	w := &where{}
	w.and("tenant = %s", string(tenant))
	switch f.Action {
	case "":
	case fleet.CommandIssue:
		w.conditions = append(w.conditions, "parent_id IS NULL")
	case fleet.CommandRetry:
		w.conditions = append(w.conditions, "parent_id IS NOT NULL")
	default:
		return nil
	}
	if f.Actor != "" {
		w.and("(issued_by = %s OR issued_name = %s)", f.Actor, f.Actor)
	}
	if f.ObjectID != "" {
		w.and("id = %s", f.ObjectID)
	}
	w.between("created_at", f.From, f.To)
	if from != nil {
		// A cursor of an entry has no number: what came at its time is before it.
		w.and("(created_at, seq) < (%s, %s)", timeText(from.At), from.Seq)
	}
	return t.list(rows, `
		SELECT id, seq, tenant, created_at AS at, issued_by AS actor_id, issued_name AS actor_name,
			CASE WHEN parent_id IS NULL THEN '`+string(fleet.CommandIssue)+`' ELSE '`+string(fleet.CommandRetry)+`' END AS action,
			'command' AS object_kind, id AS object_id, issued_request AS request_id, issued_from AS remote,
			kind, mode, CASE WHEN length(selector) > `+fmt.Sprint(issuedShown)+` THEN 'null' ELSE selector END AS selector, items, total
		FROM commands `+w.sql()+`
		ORDER BY created_at DESC, seq DESC
		LIMIT `+w.param(limit), w.args...)
}
