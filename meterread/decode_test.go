package meterread

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	someCommand = "0192f0c1-2b3c-7d4e-8f50-123456789abc"
	someReading = `{"item":"1-0:1.8.0","value":"1234.56","unit":"kWh","read_at":"2026-03-01T12:00:00Z","quality":"valid"}`
)

// resultWith is a result with one member replaced, or left out when value is "".
func resultWith(member, value string) string {
	return objectWith(member, value, [][2]string{
		{"command_id", `"` + someCommand + `"`}, {"device_id", `"m-001"`}, {"attempt", "1"}, {"status", `"ok"`}, {"final", "true"},
		{"readings", "[" + someReading + "]"},
	})
}

// readingWith is a reading with one member replaced, or left out when value is "".
func readingWith(member, value string) string {
	return objectWith(member, value, [][2]string{
		{"device_id", `"m-001"`}, {"item", `"1-0:1.8.0"`}, {"value", `"1234.56"`}, {"unit", `"kWh"`},
		{"read_at", `"2026-03-01T12:00:00Z"`}, {"quality", `"valid"`},
	})
}

func objectWith(member, value string, members [][2]string) string {
	var parts []string
	found := false
	for _, m := range members {
		if m[0] == member {
			found, m[1] = true, value
		}
		if m[1] != "" {
			parts = append(parts, fmt.Sprintf("%q:%s", m[0], m[1]))
		}
	}
	if !found && member != "" {
		parts = append(parts, fmt.Sprintf("%q:%s", member, value))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func results(parts ...string) []byte {
	return []byte(`{"v":1,"message_id":"u-1","results":[` + strings.Join(parts, ",") + `]}`)
}

func readings(parts ...string) []byte {
	return []byte(`{"v":1,"message_id":"u-1","readings":[` + strings.Join(parts, ",") + `]}`)
}

// wantPoison checks that err is a *Poison with the code and says why.
func wantPoison(t *testing.T, err error, code string) {
	t.Helper()
	var p *Poison
	if !errors.As(err, &p) {
		t.Fatalf("error %v, want poison %s", err, code)
	}
	if p.Code != code || p.Detail == "" {
		t.Errorf("poison %q with detail %q, want %s and a reason", p.Code, p.Detail, code)
	}
	if p.Error() != p.Code+": "+p.Detail {
		t.Errorf("Error() = %q", p.Error())
	}
}

// decoders are all of them, with a payload that each takes.
var decoders = []struct {
	name   string
	decode func([]byte) error
	good   string // after the opening brace and "v":1
	code   string // of a message that lacks what it is for
}{
	{"results", func(b []byte) error { _, err := DecodeResults(b); return err }, `"results":[]`, CodeBadResult},
	{"ack", func(b []byte) error { _, err := DecodeAck(b); return err },
		`"command_id":"` + someCommand + `","device_ids":["m-001"],"status":"accepted"`, CodeBadAck},
	{"readings", func(b []byte) error { _, err := DecodeReadings(b); return err }, `"readings":[]`, CodeBadReading},
	{"event", func(b []byte) error { _, err := DecodeEvent(b); return err }, `"type":"hello"`, CodeBadEvent},
}

func TestWholeMessage(t *testing.T) {
	t.Parallel()
	for _, d := range decoders {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			with := func(s string) string { return strings.ReplaceAll(s, "…", d.good) }
			for _, ok := range []string{
				`{"v":1,…}`, " \t\r\n{\"v\":1,…} \n", `{…,"v":1}`, `{"v":1,"future":{"deep":[1,2]},…}`, `{"v":2,…,"v":1}`,
				`{"V":2,"v":1,…}`, `{"\u0076":1,…}`, `{"v":1,…,"message_id":null}`, `{"v":1,…,"x":"é € 𝄞 \ud834\udd1e"}`,
				`{"v":1,…,"x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`,
				`{"v":1,…,"x":"` + strings.Repeat("[", 1000) + `"}`,
				`{"v":1,…,"x":[` + strings.Repeat("[],", 1000) + `[]]}`,
			} {
				if err := d.decode([]byte(with(ok))); err != nil {
					t.Errorf("%s: %v", with(ok), err)
				}
			}
			for _, bad := range []struct{ payload, code string }{
				{"", CodeBadJSON},
				{" ", CodeBadJSON},
				{`{`, CodeBadJSON},
				{`{"v":1,…`, CodeBadJSON},
				{`{"v":1,…}}`, CodeBadJSON},
				{`{"v":1,…} {"v":1,…}`, CodeBadJSON},
				{`{"v":1,…,}`, CodeBadJSON},
				{`{'v':1}`, CodeBadJSON},
				{`{"v":01,…}`, CodeBadJSON},
				{`{"v":1,…,"x":NaN}`, CodeBadJSON},
				{"{\"v\":1,…,\"x\":\"a\nb\"}", CodeBadJSON},
				{"\ufeff" + `{"v":1,…}`, CodeBadJSON},
				{`[{"v":1,…}]`, CodeBadJSON},
				{`"v"`, CodeBadJSON},
				{`1`, CodeBadJSON},
				{`null`, CodeBadJSON},
				{`{"v":1,…,"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, CodeBadJSON},
				{`{"v":1,…,"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, CodeBadJSON},
				{strings.Repeat(`{"x":`, 100) + `1` + strings.Repeat(`}`, 100), CodeBadJSON},
				{"{\"v\":1,…,\"x\":\"\xff\"}", CodeBadUTF8},
				{"{\"v\":1,…,\"x\":\"\xc3\x28\"}", CodeBadUTF8},
				{"{\"v\":1,…,\"x\":\"\xed\xa0\x80\"}", CodeBadUTF8}, // half a surrogate pair
				{"\xff\xfe{", CodeBadUTF8},
				{`{…}`, CodeUnsupportedVersion},
				{`{"v":null,…}`, CodeUnsupportedVersion},
				{`{"v":2,…}`, CodeUnsupportedVersion},
				{`{"v":0,…}`, CodeUnsupportedVersion},
				{`{"v":-1,…}`, CodeUnsupportedVersion},
				{`{"v":11,…}`, CodeUnsupportedVersion},
				{`{"v":"1",…}`, CodeUnsupportedVersion},
				{`{"v":[1],…}`, CodeUnsupportedVersion},
				{`{"V":1,…}`, CodeUnsupportedVersion},
				{`{"v":2}`, CodeUnsupportedVersion}, // before anything else: another version may look otherwise
				{`{}`, CodeUnsupportedVersion},
				{`{"v":1}`, d.code},
			} {
				wantPoison(t, d.decode([]byte(with(bad.payload))), bad.code)
			}
		})
	}
}

func TestMessageID(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ raw, want string }{
		{`"u-1"`, "u-1"},
		{`""`, ""},
		{`null`, ""},
		{`"a\u0000b"`, "a\uFFFDb"},
		{`"` + strings.Repeat("x", 128) + `"`, strings.Repeat("x", 128)},
	} {
		m := `{"v":1,"message_id":` + tc.raw + `,"results":[],"readings":[],"type":"hello"}`
		a, err1 := DecodeResults([]byte(m))
		b, err2 := DecodeReadings([]byte(m))
		c, err3 := DecodeEvent([]byte(m))
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Errorf("%s: %v", tc.raw, err)
		}
		if a.MessageID != tc.want || b.MessageID != tc.want || c.MessageID != tc.want {
			t.Errorf("%s: got %q, %q and %q", tc.raw, a.MessageID, b.MessageID, c.MessageID)
		}
	}
	for _, raw := range []string{`5`, `[]`, `{}`, `true`, `"` + strings.Repeat("x", 129) + `"`} {
		for _, d := range decoders {
			if d.name != "ack" { // acks have none
				wantPoison(t, d.decode([]byte(`{"v":1,"message_id":`+raw+`,`+d.good+`}`)), d.code)
			}
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aé", 2, "a"}, {"aé", 3, "aé"}, {"a€x", 3, "a"}, {"𝄞", 3, ""},
	} {
		if got := cut(tc.in, tc.limit); got != tc.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tc.in, tc.limit, got, tc.want)
		}
	}
}

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
