package httpapi

import (
	"bytes"
	"encoding/base64"
	"time"
	"unicode/utf8"

	"meterline/command"
)

// list is the shape of every list.
type list[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor" doc:"asks for what comes next; null when nothing does"`
}

// listOut is the answer of routes that list.
type listOut[T any] struct {
	Body list[T]
}

// Paged is the part of a list that is asked for.
type Paged struct {
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"how many at most"`
	Cursor string `query:"cursor" maxLength:"1000" doc:"next_cursor of the list before"`
}

func (p Paged) of() command.Page { return command.Page{Limit: p.Limit, Cursor: p.Cursor} }

func listed[T any](items []T, next string) *listOut[T] {
	if items == nil {
		items = []T{}
	}
	out := &listOut[T]{Body: list[T]{Items: items}}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out
}

// after reads a cursor of the lists that are in order of names.
func (p Paged) after() (string, error) {
	if p.Cursor == "" {
		return "", nil
	}
	name, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil || !bytes.HasPrefix(name, []byte("after:")) || !utf8.Valid(name) || bytes.IndexByte(name, 0) >= 0 {
		return "", invalid(complaint("?cursor", "is not a next_cursor of this list"))
	}
	return string(name[len("after:"):]), nil
}

func cursor(name string) string {
	return base64.RawURLEncoding.EncodeToString([]byte("after:" + name))
}

// listedByName shows the first limit of the items; one more than that says that there is a next page.
func listedByName[T any](items []T, limit int, name func(T) string) *listOut[T] {
	if len(items) <= limit {
		return listed(items, "")
	}
	return listed(items[:limit], cursor(name(items[limit-1])))
}

// Period is the time that a list is about: [From, To).
type Period struct {
	From time.Time `query:"from" doc:"RFC 3339; this and later"`
	To   time.Time `query:"to" doc:"RFC 3339; before this"`
}

func (p Period) check() error {
	if !p.To.IsZero() && p.To.Before(p.From) {
		return invalid(complaint("?to", "must not be before from"))
	}
	return nil
}
