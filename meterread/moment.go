package meterread

import (
	"bytes"
	"time"
)

// moment is an RFC 3339 time in UTC, cut to microseconds; false when raw is not one or its year is not 1970 to 9999.
// A clock that is years off is a time like any other: what to think of it is Reading.Received's.
func moment(raw []byte) (time.Time, bool) {
	if !is(raw, '"') {
		return time.Time{}, false
	}
	b := unquoted(raw)
	if bytes.IndexByte(b, 't') >= 0 || bytes.IndexByte(b, 'z') >= 0 {
		b = bytes.ToUpper(b) // RFC 3339 5.6 allows it, package time does not
	}
	var t time.Time
	if !strictTime(b) || t.UnmarshalText(b) != nil {
		return time.Time{}, false
	}
	t = t.UTC().Truncate(time.Microsecond)
	return t, t.Year() >= 1970 && t.Year() <= 9999
}

// strictTime refuses what package time lets through though RFC 3339 does not: hours of one digit, a comma for the
// point, and offsets of a day or more.
func strictTime(b []byte) bool {
	const shape = "2006-01-02T15:04:05"
	if len(b) <= len(shape) || b[13] != ':' || b[19] == ',' {
		return false
	}
	if b[len(b)-1] == 'Z' {
		return true
	}
	hours, minutes := b[len(b)-5:len(b)-3], b[len(b)-2:]
	return string(hours) <= "23" && string(minutes) <= "59"
}
