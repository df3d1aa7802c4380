package meterread

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Whatever a decoder takes as good must be good by other means than its own, and whatever it refuses must be named.

var (
	decimalPattern = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
	uuidPattern    = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	messageCodes   = []string{CodeBadJSON, CodeBadUTF8, CodeUnsupportedVersion}
	readingCodes   = []string{CodeBadReading, CodeValueMissing, CodeValueNotNumber, CodeValueOutOfRange, CodeItemUnknown,
		CodeReadAtMissing, CodeReadAtInvalid, CodeQualityUnknown}
)

// seed gives a fuzz target the samples, the table cases and some that are broken.
func seed(f *testing.F) {
	f.Helper()
	add := func(payload []byte) {
		for kind := range byte(len(fuzzed)) {
			f.Add(kind, payload)
		}
	}
	samples, err := filepath.Glob("testdata/samples/*.json")
	if err != nil || len(samples) == 0 {
		f.Fatalf("no samples: %v", err)
	}
	for _, sample := range samples {
		payload, err := os.ReadFile(sample)
		if err != nil {
			f.Fatal(err)
		}
		add(payload)
		add(payload[:len(payload)/2])
	}
	for _, tc := range readingCases {
		part := readingWith(tc.member, tc.value)
		add(readings(part))
		add(results(resultWith("readings", "["+part+"]")))
	}
	for _, d := range decoders {
		add([]byte(`{"v":1,` + d.good + `}`))
		add([]byte(`{"v":1}`))
	}
	seedMembers(f)
	add([]byte(`{"v":1,"type":"hello","data":{"a\u0000":["\ud834",-1.5e9,"\\u0000"]}}`))
	add([]byte("\xff\xfe"))
	for _, s := range walked {
		add([]byte(s))
	}
	for _, s := range []string{"m-001", "a b", "\n", "é", strings.Repeat("x", 64), strings.Repeat("x", 65), "1-0:1.8.0", "1-0:1.8.0*255",
		"256-0:1.8.0", "01-0:1.8.0", "1-0:1.8.", "1-0:1.8.0*", "", "-12.50", "1e-3", "0192F0C1-2b3c-7d4e-8f50-123456789abc"} {
		f.Add(byte(len(fuzzed)-1), []byte(s))
	}
}

// seedMembers gives each decoder its message with one member wrong.
func seedMembers(f *testing.F) {
	f.Helper()
	wrong := []string{"", "null", "1", "-1", "1.5", `"x"`, `"\u0000"`, `""`, "[]", "{}", "true", `"` + strings.Repeat("é", 700) + `"`, `["m-001",null]`, `["a b"]`}
	id := `"` + someCommand + `"`
	ack := [][2]string{{"v", "1"}, {"command_id", id}, {"device_ids", `["m-001"]`}, {"status", `"rejected"`}, {"code", `"BUSY"`}, {"message", `"later"`}}
	event := [][2]string{{"v", "1"}, {"message_id", `"u"`}, {"type", `"alarm"`}, {"device_id", `"m-001"`}, {"at", `"2026-03-01T12:00:00Z"`}, {"data", `{"a":1}`}}
	whole := [][2]string{{"v", "1"}, {"message_id", `"u"`}, {"results", "[" + resultWith("", "") + "]"}, {"readings", "[" + someReading + "]"}}
	for _, value := range wrong {
		for i := range ack {
			f.Add(byte(2), []byte(objectWith(ack[i][0], value, slices.Clone(ack))))
			f.Add(byte(3), []byte(objectWith(event[i][0], value, slices.Clone(event))))
		}
		for _, m := range whole {
			message := []byte(objectWith(m[0], value, slices.Clone(whole)))
			f.Add(byte(0), message)
			f.Add(byte(1), message)
		}
		for _, name := range []string{"command_id", "device_id", "attempt", "status", "final", "code", "message", "readings", "trace"} {
			f.Add(byte(0), results(resultWith(name, value)))
		}
	}
	for _, data := range []string{`{"a":"\u0000\ud834\udd1e\udd1e"}`, `{"a":1e400}`, `{"a":1E-401}`, `{"\u0000":[1e5,{"b":"\\"}]}`, `{"a":-0.5e+9,"b":"\ud834x"}`, `[1]`} {
		f.Add(byte(3), []byte(objectWith("data", data, slices.Clone(event))))
	}
	f.Add(byte(2), []byte(objectWith("device_ids", `[`+strings.Repeat(`"m",`, maxParts)+`"m"]`, slices.Clone(ack))))
	f.Add(byte(0), []byte(`{"v":1,"results":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+`}`))
	f.Add(byte(0), results(resultWith("readings", `[`+strings.Repeat(`1,`, maxParts)+`1]`)))
}

// fuzzed are the decoders, by the first argument of FuzzDecode.
var fuzzed = []func(*testing.T, []byte){fuzzResults, fuzzReadings, fuzzAck, fuzzEvent, fuzzWalk, fuzzText}

// FuzzDecode gives the input to one of the decoders. They share their ground, so inputs of one are tried with the others.
func FuzzDecode(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, kind byte, input []byte) { fuzzed[int(kind)%len(fuzzed)](t, input) })
}

func fuzzWalk(t *testing.T, payload []byte) {
	t.Helper()
	if json.Valid(payload) && utf8.Valid(payload) {
		walk(t, payload)
	}
}

// fuzzText compares what is read from text alone with the patterns that the documentation gives.
func fuzzText(t *testing.T, input []byte) {
	t.Helper()
	s := string(input)
	if id, err := ParseDeviceID(s); (err == nil) != deviceIDPattern.MatchString(s) || err == nil && string(id) != s {
		t.Errorf("ParseDeviceID(%q) = %q, %v", s, id, err)
	}
	if item, err := ParseItem(s); (err == nil) != itemPattern.MatchString(s) || err == nil && string(item) != s {
		t.Errorf("ParseItem(%q) = %q, %v", s, item, err)
	}
	id, err := ParseCommandID(s)
	if lower := strings.ToLower(s); (err == nil) != (len(s) == 36 && uuidPattern.MatchString(lower)) || err == nil && string(id) != lower {
		t.Errorf("ParseCommandID(%q) = %q, %v", s, id, err)
	}
	fuzzValue(t, s)
}

// fuzzValue checks that a value means the number that was written, for both ways to write it.
func fuzzValue(t *testing.T, s string) {
	t.Helper()
	quoted, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	raws := [][]byte{quoted}
	if json.Valid([]byte(s)) && !strings.Contains(s, `"`) { // a number, then
		raws = append(raws, []byte(s))
	}
	for _, raw := range raws {
		got, p := decodeValue(bytes.TrimSpace(raw))
		if p != nil {
			continue
		}
		want, ok := new(big.Rat).SetString(strings.TrimSpace(s))
		have, same := new(big.Rat).SetString(got)
		if !ok || !same || want.Cmp(have) != 0 {
			t.Errorf("the value %s became %s", raw, got)
		}
		if again, p := decodeValue([]byte(`"` + got + `"`)); p != nil || again != got {
			t.Errorf("the value %s became %s, and that %s", raw, got, again)
		}
	}
}

func fuzzResults(t *testing.T, payload []byte) {
	t.Helper()
	before := bytes.Clone(payload)
	m, err := DecodeResults(payload)
	unchanged(t, before, payload)
	if err != nil {
		poison(t, err, CodeBadResult)
		return
	}
	stored(t, m.MessageID, maxMessageID)
	parts := array(t, payload, "results")
	var places []int
	for _, r := range m.Results {
		places = append(places, r.Index)
		checkResult(t, r)
		if !bytes.Equal(r.Raw, parts[r.Index]) {
			t.Errorf("result %d has raw %q, want %q", r.Index, r.Raw, parts[r.Index])
		}
	}
	for _, b := range m.Bad {
		places = append(places, b.Index)
		checkBad(t, b, parts, CodeBadResult, CodeDeviceInvalid)
	}
	complete(t, places, len(parts))
}

func checkResult(t *testing.T, r Result) {
	t.Helper()
	if !uuidPattern.MatchString(string(r.CommandID)) || !deviceIDPattern.MatchString(string(r.DeviceID)) || r.Attempt < 0 ||
		!slices.Contains([]string{StatusOK, StatusError, StatusRejected}, r.Status) {
		t.Errorf("taken as good: %+v", r)
	}
	stored(t, r.Code, maxCode)
	stored(t, r.Message, maxMessage)
	var parts []json.RawMessage
	if len(r.Readings)+len(r.Bad) > 0 {
		parts = array(t, r.Raw, "readings")
	}
	if len(r.Readings)+len(r.Bad) != len(parts) {
		t.Errorf("%d good and %d bad readings of %d", len(r.Readings), len(r.Bad), len(parts))
	}
	for _, reading := range r.Readings {
		checkReading(t, reading)
		if reading.DeviceID != r.DeviceID || reading.CommandID != r.CommandID {
			t.Errorf("a reading of %s for %s came with %s for %s", reading.DeviceID, reading.CommandID, r.DeviceID, r.CommandID)
		}
	}
	for _, b := range r.Bad {
		checkBad(t, b, parts, readingCodes...)
	}
}

func fuzzReadings(t *testing.T, payload []byte) {
	t.Helper()
	before := bytes.Clone(payload)
	m, err := DecodeReadings(payload)
	unchanged(t, before, payload)
	if err != nil {
		poison(t, err, CodeBadReading)
		return
	}
	stored(t, m.MessageID, maxMessageID)
	parts := array(t, payload, "readings")
	if len(m.Readings)+len(m.Bad) != len(parts) {
		t.Errorf("%d good and %d bad of %d", len(m.Readings), len(m.Bad), len(parts))
	}
	for _, r := range m.Readings {
		checkReading(t, r)
		if r.CommandID != "" {
			t.Errorf("nobody asked, but %s is said to have", r.CommandID)
		}
	}
	for _, b := range m.Bad {
		checkBad(t, b, parts, append([]string{CodeDeviceInvalid}, readingCodes...)...)
	}
}

func fuzzAck(t *testing.T, payload []byte) {
	t.Helper()
	before := bytes.Clone(payload)
	a, err := DecodeAck(payload)
	unchanged(t, before, payload)
	if err != nil {
		poison(t, err, CodeBadAck, CodeDeviceInvalid)
		return
	}
	if !uuidPattern.MatchString(string(a.CommandID)) || len(a.DeviceIDs) == 0 ||
		!slices.Contains([]string{StatusAccepted, StatusProgress, StatusRejected}, a.Status) {
		t.Errorf("taken as good: %+v", a)
	}
	for _, id := range a.DeviceIDs {
		if !deviceIDPattern.MatchString(string(id)) {
			t.Errorf("taken as a device id: %q", id)
		}
	}
	stored(t, a.Code, maxCode)
	stored(t, a.Message, maxMessage)
}

func fuzzEvent(t *testing.T, payload []byte) {
	t.Helper()
	before := bytes.Clone(payload)
	e, err := DecodeEvent(payload)
	unchanged(t, before, payload)
	if err != nil {
		poison(t, err, CodeBadEvent, CodeDeviceInvalid)
		return
	}
	stored(t, e.MessageID, maxMessageID)
	if !deviceIDPattern.MatchString(e.Type) || e.DeviceID != "" && !deviceIDPattern.MatchString(string(e.DeviceID)) {
		t.Errorf("taken as good: %+v", e)
	}
	if !e.At.IsZero() {
		checkTime(t, e.At)
	}
	if e.Data == nil {
		return
	}
	var data map[string]any
	d := json.NewDecoder(bytes.NewReader(e.Data))
	d.UseNumber()
	if err := d.Decode(&data); err != nil || data == nil {
		t.Fatalf("data %q is not an object: %v", e.Data, err)
	}
	if hasNUL(data) {
		t.Errorf("data %q has a NUL", e.Data)
	}
}

// hasNUL looks for a NUL in the names and texts of decoded JSON.
func hasNUL(value any) bool {
	switch v := value.(type) {
	case string:
		return strings.Contains(v, "\x00")
	case []any:
		return slices.ContainsFunc(v, hasNUL)
	case map[string]any:
		for name, member := range v {
			if hasNUL(name) || hasNUL(member) {
				return true
			}
		}
	}
	return false
}

func checkReading(t *testing.T, r Reading) {
	t.Helper()
	if !deviceIDPattern.MatchString(string(r.DeviceID)) || !itemPattern.MatchString(string(r.Item)) || !decimalPattern.MatchString(r.Value) {
		t.Errorf("taken as good: %+v", r)
	}
	if n := len(strings.NewReplacer("-", "", ".", "").Replace(r.Value)); n > maxDigits {
		t.Errorf("value %s has %d digits", r.Value, n)
	}
	if !slices.Contains([]Quality{Valid, Estimated, Suspect, Invalid}, r.Quality) {
		t.Errorf("quality %q", r.Quality)
	}
	stored(t, r.Unit, maxUnit)
	checkTime(t, r.ReadAt)
	if !r.ReceivedAt.IsZero() || r.Late {
		t.Errorf("the payload cannot say when it was received: %+v", r)
	}
}

func checkTime(t *testing.T, at time.Time) {
	t.Helper()
	if at.Location() != time.UTC || at.Nanosecond()%1000 != 0 || at.Year() < 1970 {
		t.Errorf("time %s, want UTC in microseconds from 1970 on", at)
	}
	if _, err := at.MarshalJSON(); err != nil {
		t.Errorf("time %s cannot be shown: %v", at, err)
	}
}

func checkBad(t *testing.T, b Bad, parts []json.RawMessage, codes ...string) {
	t.Helper()
	if !slices.Contains(codes, b.Code) || b.Detail == "" {
		t.Errorf("bad with code %q and detail %q", b.Code, b.Detail)
	}
	if b.Index < 0 || b.Index >= len(parts) || !bytes.Equal(b.Raw, parts[b.Index]) {
		t.Errorf("bad %d has raw %q, which is not there", b.Index, b.Raw)
	}
}

// stored checks a text that goes into a text column.
func stored(t *testing.T, s string, limit int) {
	t.Helper()
	if len(s) > limit || !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		t.Errorf("text %q, want at most %d bytes of UTF-8 without NUL", s, limit)
	}
}

// complete checks that places are 0 to n-1, each once.
func complete(t *testing.T, places []int, n int) {
	t.Helper()
	slices.Sort(places)
	for i, place := range places {
		if i != place {
			t.Fatalf("places %v, want each of 0 to %d once", places, n-1)
		}
	}
	if len(places) != n {
		t.Errorf("%d parts came of %d", len(places), n)
	}
}

// poison checks the error of a message as a whole.
func poison(t *testing.T, err error, codes ...string) {
	t.Helper()
	var p *Poison
	if !errors.As(err, &p) || p.Detail == "" || !slices.Contains(append(codes, messageCodes...), p.Code) {
		t.Errorf("error %v, want a poison of %v or %v", err, codes, messageCodes)
	}
}

func unchanged(t *testing.T, before, after []byte) {
	t.Helper()
	if !bytes.Equal(before, after) {
		t.Errorf("the payload was changed from %q to %q", before, after)
	}
}

// array is a member as encoding/json finds it. A map, since a struct would also take names of another case.
func array(t *testing.T, object []byte, member string) []json.RawMessage {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		t.Fatal(err)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(members[member], &parts); err != nil {
		t.Fatal(err)
	}
	return parts
}
