package meterread

import (
	"fmt"
	"strings"
	"testing"
)

func TestResultAlone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, member, value string
		code                string
		check               func(Result) bool
	}{
		{"as it should be", "", "", "", func(r Result) bool {
			return r.CommandID == someCommand && r.DeviceID == "m-001" && r.Attempt == 1 && r.Status == StatusOK && r.Final &&
				r.Code == "" && r.Message == "" && len(r.Readings) == 1 && len(r.Bad) == 0
		}},
		{"unknown members", "trace", `{"received_at":5}`, "", nil},

		{"command_id missing", "command_id", "", CodeBadResult, nil},
		{"command_id null", "command_id", `null`, CodeBadResult, nil},
		{"command_id empty", "command_id", `""`, CodeBadResult, nil},
		{"command_id a number", "command_id", `1`, CodeBadResult, nil},
		{"command_id no UUID", "command_id", `"cmd-1"`, CodeBadResult, nil},
		{"command_id without dashes", "command_id", `"0192f0c12b3c7d4e8f50123456789abc"`, CodeBadResult, nil},
		{"command_id in capitals", "command_id", `"0192F0C1-2B3C-7D4E-8F50-123456789ABC"`, "", func(r Result) bool { return r.CommandID == someCommand }},

		{"device_id missing", "device_id", "", CodeDeviceInvalid, nil},
		{"device_id null", "device_id", `null`, CodeDeviceInvalid, nil},
		{"device_id empty", "device_id", `""`, CodeDeviceInvalid, nil},
		{"device_id with a slash", "device_id", `"m/1"`, CodeDeviceInvalid, nil},
		{"device_id a number", "device_id", `1`, CodeDeviceInvalid, nil},
		{"device_id too long", "device_id", `"` + strings.Repeat("x", 65) + `"`, CodeDeviceInvalid, nil},

		{"attempt missing", "attempt", "", "", func(r Result) bool { return r.Attempt == 0 }},
		{"attempt null", "attempt", `null`, "", func(r Result) bool { return r.Attempt == 0 }},
		{"attempt zero", "attempt", `0`, "", func(r Result) bool { return r.Attempt == 0 }},
		{"attempt of a later try", "attempt", `5`, "", func(r Result) bool { return r.Attempt == 5 }},
		{"attempt at its bound", "attempt", `2147483647`, "", func(r Result) bool { return r.Attempt == 2147483647 }},
		{"attempt beyond its bound", "attempt", `2147483648`, CodeBadResult, nil},
		{"attempt negative", "attempt", `-1`, CodeBadResult, nil},
		{"attempt a fraction", "attempt", `1.5`, CodeBadResult, nil},
		{"attempt a string", "attempt", `"1"`, CodeBadResult, nil},
		{"attempt an array", "attempt", `[1]`, CodeBadResult, nil},

		{"status missing", "status", "", CodeBadResult, nil},
		{"status null", "status", `null`, CodeBadResult, nil},
		{"status unknown", "status", `"done"`, CodeBadResult, nil},
		{"status of acks", "status", `"accepted"`, CodeBadResult, nil},
		{"status in capitals", "status", `"OK"`, CodeBadResult, nil},
		{"status a bool", "status", `true`, CodeBadResult, nil},
		{"status error", "status", `"error"`, "", func(r Result) bool { return r.Status == StatusError }},
		{"status rejected", "status", `"rejected"`, "", func(r Result) bool { return r.Status == StatusRejected }},

		{"final missing", "final", "", "", func(r Result) bool { return r.Final }},
		{"final null", "final", `null`, "", func(r Result) bool { return r.Final }},
		{"final false", "final", `false`, "", func(r Result) bool { return !r.Final }},
		{"final a string", "final", `"false"`, CodeBadResult, nil},
		{"final a number", "final", `0`, CodeBadResult, nil},

		{"code", "code", `"BUS_TIMEOUT"`, "", func(r Result) bool { return r.Code == "BUS_TIMEOUT" }},
		{"code of their own", "code", `"E-17 (vendor)"`, "", func(r Result) bool { return r.Code == "E-17 (vendor)" }},
		{"code null", "code", `null`, "", func(r Result) bool { return r.Code == "" }},
		{"code a number", "code", `17`, CodeBadResult, nil},
		{"code too long", "code", `"` + strings.Repeat("C", 100) + `"`, "", func(r Result) bool { return r.Code == strings.Repeat("C", 64) }},
		{"message", "message", `"no answer \"in time\""`, "", func(r Result) bool { return r.Message == `no answer "in time"` }},
		{"message with NUL", "message", `"a\u0000b"`, "", func(r Result) bool { return r.Message == "a\uFFFDb" }},
		{"message an object", "message", `{}`, CodeBadResult, nil},
		{"message too long", "message", `"` + strings.Repeat("é", 600) + `"`, "", func(r Result) bool { return r.Message == strings.Repeat("é", 512) }},

		{"readings missing", "readings", "", "", func(r Result) bool { return len(r.Readings) == 0 && len(r.Bad) == 0 }},
		{"readings null", "readings", `null`, "", func(r Result) bool { return len(r.Readings) == 0 && len(r.Bad) == 0 }},
		{"readings empty", "readings", `[]`, "", func(r Result) bool { return len(r.Readings) == 0 && len(r.Bad) == 0 }},
		{"readings an object", "readings", `{}`, CodeBadResult, nil},
		{"readings a string", "readings", `"1"`, CodeBadResult, nil},
		{"readings of no objects", "readings", `[1,` + someReading + `]`, "", func(r Result) bool {
			return len(r.Readings) == 1 && len(r.Bad) == 1 && r.Bad[0].Index == 0 && r.Bad[0].Code == CodeBadReading && string(r.Bad[0].Raw) == "1"
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			part, other := resultWith(tc.member, tc.value), resultWith("device_id", `"m-002"`)
			m, err := DecodeResults(results(other, part, other))
			if err != nil {
				t.Fatal(err)
			}
			if tc.code == "" {
				if len(m.Results) != 3 || len(m.Bad) != 0 {
					t.Fatalf("%d good and %+v, want three good", len(m.Results), m.Bad)
				}
				r := m.Results[1]
				if r.Index != 1 || string(r.Raw) != part {
					t.Errorf("is at %d from %s, want at 1 from %s", r.Index, r.Raw, part)
				}
				if tc.check != nil && !tc.check(r) {
					t.Errorf("got %+v", r)
				}
				return
			}
			if len(m.Results) != 2 || len(m.Bad) != 1 {
				t.Fatalf("%d good and %+v, want two good and one bad", len(m.Results), m.Bad)
			}
			if m.Results[0].Index != 0 || m.Results[1].Index != 2 {
				t.Errorf("the good are at %d and %d, want 0 and 2", m.Results[0].Index, m.Results[1].Index)
			}
			b := m.Bad[0]
			if b.Index != 1 || b.Code != tc.code || b.Detail == "" || string(b.Raw) != part {
				t.Errorf("bad is %d %s %q %s, want 1 %s %s", b.Index, b.Code, b.Detail, b.Raw, tc.code, part)
			}
		})
	}
}

func TestResultOfNoObject(t *testing.T) {
	t.Parallel()
	for _, part := range []string{`null`, `1`, `"ok"`, `[]`} {
		m, err := DecodeResults(results(part, resultWith("", "")))
		if err != nil || len(m.Results) != 1 || len(m.Bad) != 1 {
			t.Fatalf("%s: %+v, %v; want one good and one bad", part, m, err)
		}
		if b := m.Bad[0]; b.Index != 0 || b.Code != CodeBadResult || string(b.Raw) != part {
			t.Errorf("%s: bad is %+v", part, b)
		}
	}
}

func TestResultsWithoutResults(t *testing.T) {
	t.Parallel()
	for _, member := range []string{``, `,"results":null`, `,"results":{}`, `,"results":"x"`, `,"results":1`, `,"readings":[]`} {
		_, err := DecodeResults([]byte(`{"v":1` + member + `}`))
		wantPoison(t, err, CodeBadResult)
	}
}

func TestResultsBound(t *testing.T) {
	t.Parallel()
	many := func(n int) []byte { return []byte(fmt.Sprintf(`{"v":1,"results":[%s1]}`, strings.Repeat("1,", n-1))) }
	m, err := DecodeResults(many(10_000))
	if err != nil || len(m.Bad) != 10_000 {
		t.Errorf("10000 results: %d bad, %v", len(m.Bad), err)
	}
	_, err = DecodeResults(many(10_001))
	wantPoison(t, err, CodeBadResult)

	// Readings are counted over the whole message: what goes beyond is refused result by result.
	part := func(n int) string { return resultWith("readings", "["+strings.Repeat("1,", n-1)+"1]") }
	m, err = DecodeResults(results(part(6_000), part(4_000), part(1), resultWith("readings", "")))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Results) != 3 || len(m.Bad) != 1 || m.Bad[0].Index != 2 || m.Bad[0].Code != CodeBadResult {
		t.Errorf("%d good and %d bad, want the third bad", len(m.Results), len(m.Bad))
	}
	m, err = DecodeResults(results(part(10_001), part(2)))
	if err != nil || len(m.Bad) == 0 || m.Bad[0].Index != 0 {
		t.Errorf("%+v, %v; want the first bad", m, err)
	}
}
