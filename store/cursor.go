package store

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// cursor is where a list goes on: the sort key of the last item of the page before. Of its fields a list uses those that
// it sorts by.
type cursor struct {
	At     time.Time `json:"t,omitzero"`
	Seq    int64     `json:"s,omitempty"`
	ID     string    `json:"i,omitempty"`
	Second string    `json:"j,omitempty"`
	N      int       `json:"n,omitempty"`
}

func (c cursor) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("store: write a cursor: %v", err)) // a year beyond 9999, which micro excludes
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseCursor reads a cursor of ours; nil for none. Anything else is *command.Invalid. It is only ever compared with.
func parseCursor(s string) (*cursor, error) {
	if s == "" {
		return nil, nil
	}
	wrong := invalid("?cursor", "is not a cursor of this list")
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, wrong
	}
	var c cursor
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if d.Decode(&c) != nil || d.More() {
		return nil, wrong
	}
	if c.ID != clean(c.ID) || c.Second != clean(c.Second) {
		return nil, wrong
	}
	return &c, nil
}

// page bounds the limit of a list.
func page(limit int) int { return min(max(limit, 1), 1000) }

// where collects conditions with their parameters.
type where struct {
	conditions []string
	args       []any
}

// param adds a parameter and answers with its name in SQL.
func (w *where) param(v any) string {
	return fmt.Sprintf("$%d", w.number(v))
}

// number adds a parameter and answers with its number.
func (w *where) number(v any) int {
	w.args = append(w.args, v)
	return len(w.args)
}

// and adds a condition; each %s in it stands for one of the values.
func (w *where) and(condition string, values ...any) {
	names := make([]any, len(values))
	for i, v := range values {
		names[i] = w.param(v)
	}
	w.conditions = append(w.conditions, fmt.Sprintf(condition, names...))
}

// between adds [from, to) on a column; zero times do not narrow.
func (w *where) between(column string, from, to time.Time) {
	if !from.IsZero() {
		w.and(column+" >= %s", at(from))
	}
	if !to.IsZero() {
		w.and(column+" < %s", at(to))
	}
}

// sql is all conditions.
func (w *where) sql() string {
	var b bytes.Buffer
	for i, c := range w.conditions {
		if i == 0 {
			b.WriteString("WHERE ")
		} else {
			b.WriteString(" AND ")
		}
		b.WriteString(c)
	}
	return b.String()
}
