package store

import (
	"context"
	"fmt"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// letterShown is how much of a payload a list shows.
const letterShown = 4096

// letterNames are the columns of a letter, with so many bytes of its payload; 0 means all.
func letterNames(shown int) string {
	payload := "payload"
	if shown > 0 {
		payload = fmt.Sprintf("substr(payload, 1, %d) AS payload", shown)
	}
	return `id, tenant, source, cause, detail, endpoint_id, device_id, command_id, kind, ` + payload + `, bytes, epoch, gateway,
		COALESCE(received_at, created_at) AS received_at, created_at, parent_id, attempt, status, decided_by, decided_at, decision_id,
		decided_name, decided_request, decided_from, handled_at, again, new_command_id`
}

type letterRow struct {
	ID         string `db:"id"`
	Tenant     string `db:"tenant"`
	Source     string `db:"source"`
	Cause      string `db:"cause"`
	Detail     string `db:"detail"`
	EndpointID string `db:"endpoint_id"`
	DeviceID   string `db:"device_id"`
	CommandID  string `db:"command_id"`
	Kind       string `db:"kind"`
	Payload    []byte `db:"payload"`
	Bytes      int    `db:"bytes"`
	Epoch      int64  `db:"epoch"`
	Gateway    string `db:"gateway"`
	ReceivedAt moment `db:"received_at"`
	CreatedAt  moment `db:"created_at"`
	ParentID   string `db:"parent_id"`
	Attempt    int    `db:"attempt"`
	Status     string `db:"status"`
	DecidedBy  string `db:"decided_by"`
	DecidedAt  moment `db:"decided_at"`
	Decision   string `db:"decision_id"`
	Name       string `db:"decided_name"`
	Request    string `db:"decided_request"`
	From       string `db:"decided_from"`
	HandledAt  moment `db:"handled_at"`
	Again      int    `db:"again"`
	NewCommand string `db:"new_command_id"`
	ReplayIn   int    `db:"replay_in"` // only where it is asked for
}

func (r letterRow) letter() command.DeadLetter {
	l := command.DeadLetter{
		ID: r.ID, Tenant: fleet.Tenant(r.Tenant), Source: r.Source, Cause: r.Cause, Detail: r.Detail,
		EndpointID: meterread.DeviceID(r.EndpointID), DeviceID: meterread.DeviceID(r.DeviceID), CommandID: command.ID(r.CommandID),
		Kind: command.UplinkKind(r.Kind), Payload: r.Payload, PayloadBytes: r.Bytes, PayloadCut: r.Bytes > len(r.Payload), Epoch: r.Epoch, Gateway: r.Gateway,
		ReceivedAt: r.ReceivedAt.Time, CreatedAt: r.CreatedAt.Time, ParentID: r.ParentID, Attempt: r.Attempt, Status: r.Status,
		DecidedBy: r.DecidedBy, DecidedAt: r.DecidedAt.pointer(), HandledAt: r.HandledAt.pointer(), Again: r.Again, NewCommand: command.ID(r.NewCommand),
	}
	if r.Decision != "" {
		l.Decision = &command.LetterDecision{ID: r.Decision, TokenID: r.DecidedBy, TokenName: r.Name, RequestID: r.Request, RemoteAddr: r.From}
	}
	return l
}

// letters narrows to dead letters of the tenant that the filter matches. l is the table's name in the statement.
func (w *where) letters(d dialect, tenant fleet.Tenant, f command.DeadLetterFilter) {
	w.and("l.tenant = %s", string(tenant))
	for _, c := range []struct{ column, value string }{
		{"cause", f.Cause}, {"source", f.Source}, {"endpoint_id", string(f.EndpointID)}, {"device_id", string(f.DeviceID)},
		{"command_id", string(f.CommandID)}, {"parent_id", f.ParentID}, {"decision_id", f.DecisionID},
	} {
		if c.value != "" {
			w.and("l."+c.column+" = %s", c.value)
			if c.column == "command_id" || c.column == "parent_id" || c.column == "decision_id" {
				w.and("l." + c.column + " <> ''") // as the index says
			}
		}
	}
	switch f.Status {
	case "":
	case command.LetterOpen:
		w.and("l.status = 'open'")
	default:
		w.and("l.status = %s", f.Status)
	}
	if f.IDs != nil {
		w.and(d.among("l.id", w.number(texts(d, f.IDs))))
	}
	w.between("l.created_at", f.From, f.To)
}

// DeadLetters implements command.LetterBook: newest first.
func (db *DB) DeadLetters(ctx context.Context, tenant fleet.Tenant, f command.DeadLetterFilter, p command.Page) (command.List[command.DeadLetter], error) {
	var list command.List[command.DeadLetter]
	from, err := parseCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	p.Limit = page(p.Limit)
	w := &where{}
	w.letters(db.dialect, tenant, f)
	if from != nil {
		w.and("(l.created_at, l.id) < (%s, %s)", timeText(from.At), from.ID)
	}
	text := `SELECT ` + letterNames(letterShown) + ` FROM dead_letters l ` + w.sql() + ` ORDER BY l.created_at DESC, l.id DESC LIMIT ` + w.param(p.Limit+1)
	var rows []letterRow
	err = db.search(ctx, func(t *tx) error {
		rows = nil
		return t.list(&rows, text, w.args...)
	})
	if err != nil {
		return list, fmt.Errorf("list dead letters: %w", err)
	}
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		last := rows[p.Limit-1]
		list.NextCursor = cursor{At: last.CreatedAt.Time, ID: last.ID}.String()
	}
	list.Items = make([]command.DeadLetter, len(rows))
	for i, r := range rows {
		list.Items[i] = r.letter()
	}
	return list, nil
}

// DeadLetter implements command.LetterBook.
func (db *DB) DeadLetter(ctx context.Context, tenant fleet.Tenant, id string) (command.DeadLetter, error) {
	var row letterRow
	err := db.single(ctx, func(t *tx) error {
		return t.get(&row, `
			SELECT `+letterNames(0)+`
			FROM dead_letters
			WHERE tenant = $1 AND id = $2`, string(tenant), id)
	})
	if missing(err) {
		return command.DeadLetter{}, command.ErrNotFound
	}
	if err != nil {
		return command.DeadLetter{}, fmt.Errorf("read dead letter: %w", err)
	}
	return row.letter(), nil
}

// DeadLetterCauses implements command.LetterBook.
func (db *DB) DeadLetterCauses(ctx context.Context, tenant fleet.Tenant, f command.DeadLetterFilter) ([]command.LetterCause, error) {
	w := &where{}
	w.letters(db.dialect, tenant, f)
	causes := []command.LetterCause{}
	err := db.search(ctx, func(t *tx) error {
		causes = causes[:0]
		return t.each(func(row scanner) error {
			var c command.LetterCause
			var oldest, newest moment
			err := row.Scan(&c.Cause, &c.Count, &oldest, &newest)
			c.Oldest, c.Newest = oldest.Time, newest.Time
			causes = append(causes, c)
			return err
		}, `
			SELECT l.cause, count(*), min(l.created_at), max(l.created_at)
			FROM dead_letters l `+w.sql()+`
			GROUP BY l.cause
			ORDER BY count(*) DESC, l.cause`, w.args...)
	})
	if err != nil {
		return nil, fmt.Errorf("count dead letters: %w", err)
	}
	return causes, nil
}

// OpenLetters implements command.Letters.
func (db *DB) OpenLetters(ctx context.Context) (map[string]int, error) {
	open := map[string]int{}
	err := db.single(ctx, func(t *tx) error {
		clear(open)
		return t.each(func(row scanner) error {
			var cause string
			var n int
			err := row.Scan(&cause, &n)
			open[cause] = n
			return err
		}, `SELECT cause, count(*) FROM dead_letters WHERE status = 'open' GROUP BY cause`)
	})
	if err != nil {
		return nil, fmt.Errorf("count open dead letters: %w", err)
	}
	return open, nil
}
