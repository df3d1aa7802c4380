package store

import (
	"fmt"
	"time"
)

// timeFormat is how times are written for both databases: UTC, always six decimals, so that SQLite, which keeps them as
// text, compares them rightly.
const timeFormat = "2006-01-02 15:04:05.000000+00:00"

// The first and last moment that both databases can write and Go does not take for no time at all. A meter's clock may
// stand anywhere.
var (
	firstMoment = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)
	lastMoment  = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
)

// micro is t as the databases keep it: UTC, microseconds, within the years 1 to 9999.
func micro(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Microsecond)
	switch {
	case t.Before(firstMoment):
		return firstMoment
	case t.After(lastMoment):
		return lastMoment
	}
	return t
}

func timeText(t time.Time) string { return micro(t).Format(timeFormat) }

// at is t as a parameter; the zero time is NULL.
func at(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return timeText(t)
}

// moment scans a time; NULL is the zero time. SQLite hands out text where a time went through an expression.
type moment struct{ time.Time }

func (m *moment) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		m.Time = time.Time{}
	case time.Time:
		m.Time = v.UTC()
	case string:
		return m.parse(v)
	case []byte:
		return m.parse(string(v))
	default:
		return fmt.Errorf("scan time: a %T", src)
	}
	return nil
}

func (m *moment) parse(s string) error {
	t, err := time.Parse("2006-01-02 15:04:05.999999999-07:00", s)
	if err != nil {
		return fmt.Errorf("scan time: %w", err)
	}
	m.Time = t.UTC()
	return nil
}

func (m moment) pointer() *time.Time {
	if m.IsZero() {
		return nil
	}
	return &m.Time
}
