package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"meterline/fleet"
)

// FuzzCursor: a cursor is refused by name, or says the same when it is written and read again.
func FuzzCursor(f *testing.F) {
	for _, c := range []cursor{{}, {Seq: 7, ID: "m-1"}, {At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Second: "x", N: -3}} {
		f.Add(c.String())
	}
	for _, s := range []string{"", "x", "e30", "e31", "e30=", "eyJ4IjoxfQ", "e30ge30", "bnVsbA", "W10", "eyJpIjoiXHUwMDAwIn0", "eyJ0IjoiOTk5OTktMDEtMDFUMDA6MDA6MDBaIn0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err != nil {
			wrong, ok := errors.AsType[*fleet.Invalid](err)
			if !ok || len(wrong.Fields) != 1 || wrong.Fields[0].Pointer != "?cursor" {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if c == nil {
			if s != "" {
				t.Errorf("%q is no cursor", s)
			}
			return
		}
		if strings.Contains(c.ID+c.Second, "\x00") {
			t.Errorf("%+v goes into a query", c)
		}
		again, err := parseCursor(c.String())
		if err != nil || !again.At.Equal(c.At) || again.Seq != c.Seq || again.ID != c.ID || again.Second != c.Second || again.N != c.N {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}
