package meterread

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// readingCases are readings that differ in one member. The same table is run on up/readings and on up/result.
var readingCases = []struct {
	name, member, value string
	code                string // of the dead letter; "" when the reading is good
	want                func(*Reading)
}{
	{"as it should be", "", "", "", nil},
	{"unknown members", "future", `{"x":[1]}`, "", nil},

	{"item missing", "item", "", CodeItemUnknown, nil},
	{"item null", "item", `null`, CodeItemUnknown, nil},
	{"item empty", "item", `""`, CodeItemUnknown, nil},
	{"item no OBIS code", "item", `"energy"`, CodeItemUnknown, nil},
	{"item over 255", "item", `"1-0:1.8.256"`, CodeItemUnknown, nil},
	{"item a number", "item", `18`, CodeItemUnknown, nil},
	{"item escaped", "item", `"1-0:1.8.0\u002a255"`, "", func(r *Reading) { r.Item = "1-0:1.8.0*255" }},

	{"value missing", "value", "", CodeValueMissing, nil},
	{"value empty", "value", `""`, CodeValueMissing, nil},
	{"value null", "value", `null`, CodeValueMissing, nil},

	{"value a whole number", "value", `"0"`, "", func(r *Reading) { r.Value = "0" }},
	{"value negative", "value", `"-12.5"`, "", func(r *Reading) { r.Value = "-12.5" }},
	{"value with leading and trailing zeros", "value", `"000123.4500"`, "", func(r *Reading) { r.Value = "000123.4500" }},
	{"value finer than a float", "value", `"12345678901234567890.123456789"`, "", func(r *Reading) { r.Value = "12345678901234567890.123456789" }},
	{"value of 40 digits", "value", `"` + strings.Repeat("9", 40) + `"`, "", func(r *Reading) { r.Value = strings.Repeat("9", 40) }},
	{"value of 40 digits in all", "value", `"-` + strings.Repeat("9", 20) + "." + strings.Repeat("9", 20) + `"`, "",
		func(r *Reading) { r.Value = "-" + strings.Repeat("9", 20) + "." + strings.Repeat("9", 20) }},
	{"value escaped", "value", `"\u0031.5"`, "", func(r *Reading) { r.Value = "1.5" }},
	{"value a JSON number", "value", `1234.56`, "", nil},
	{"value a JSON number, digit for digit", "value", `-12345678901234567890.100`, "", func(r *Reading) { r.Value = "-12345678901234567890.100" }},
	{"value a JSON zero", "value", `0`, "", func(r *Reading) { r.Value = "0" }},

	{"value of 41 digits", "value", `"` + strings.Repeat("9", 41) + `"`, CodeValueOutOfRange, nil},
	{"value of 41 digits in all", "value", `"` + strings.Repeat("9", 20) + "." + strings.Repeat("9", 21) + `"`, CodeValueOutOfRange, nil},
	{"value a JSON number of 41 digits", "value", strings.Repeat("9", 41), CodeValueOutOfRange, nil},
	{"value with a huge exponent", "value", `"1e999"`, CodeValueOutOfRange, nil},
	{"value with a small exponent", "value", `"1.5E-3"`, CodeValueOutOfRange, nil},
	{"value with a signed exponent", "value", `"-1e+3"`, CodeValueOutOfRange, nil},
	{"value a JSON number with an exponent", "value", `1e3`, CodeValueOutOfRange, nil},
	{"value a JSON number beyond floats", "value", `1e999`, CodeValueOutOfRange, nil},

	{"value NaN", "value", `"NaN"`, CodeValueNotNumber, nil},
	{"value Infinity", "value", `"Infinity"`, CodeValueNotNumber, nil},
	{"value -Inf", "value", `"-Inf"`, CodeValueNotNumber, nil},
	{"value letters", "value", `"abc"`, CodeValueNotNumber, nil},
	{"value true", "value", `true`, CodeValueNotNumber, nil},
	{"value false", "value", `false`, CodeValueNotNumber, nil},
	{"value an array", "value", `["1"]`, CodeValueNotNumber, nil},
	{"value an object", "value", `{"v":"1"}`, CodeValueNotNumber, nil},
	{"value hexadecimal", "value", `"0x1F"`, CodeValueNotNumber, nil},
	{"value with a comma", "value", `"1234,56"`, CodeValueNotNumber, nil},
	{"value with groups", "value", `"1_000"`, CodeValueNotNumber, nil},
	{"value with a plus", "value", `"+1"`, CodeValueNotNumber, nil},
	{"value without digits before the point", "value", `".5"`, CodeValueNotNumber, nil},
	{"value without digits after the point", "value", `"5."`, CodeValueNotNumber, nil},
	{"value with two points", "value", `"1.2.3"`, CodeValueNotNumber, nil},
	{"value only a minus", "value", `"-"`, CodeValueNotNumber, nil},
	{"value two minus", "value", `"--1"`, CodeValueNotNumber, nil},
	{"value padded", "value", `" 1"`, CodeValueNotNumber, nil},
	{"value blank", "value", `" "`, CodeValueNotNumber, nil},
	{"value with its unit", "value", `"1 kWh"`, CodeValueNotNumber, nil},
	{"value with half an exponent", "value", `"1e"`, CodeValueNotNumber, nil},
	{"value with a signed half exponent", "value", `"1e+"`, CodeValueNotNumber, nil},
	{"value with something after the exponent", "value", `"1e5x"`, CodeValueNotNumber, nil},
	{"value with an exponent after a point", "value", `"5.e3"`, CodeValueNotNumber, nil},
	{"value with NUL", "value", `"1\u0000"`, CodeValueNotNumber, nil},
	{"value in digits of another script", "value", `"١٢"`, CodeValueNotNumber, nil},

	{"read_at missing", "read_at", "", CodeReadAtMissing, nil},
	{"read_at null", "read_at", `null`, CodeReadAtMissing, nil},
	{"read_at empty", "read_at", `""`, CodeReadAtMissing, nil},
	{"read_at a number", "read_at", `1772366400`, CodeReadAtInvalid, nil},
	{"read_at words", "read_at", `"yesterday"`, CodeReadAtInvalid, nil},
	{"read_at without zone", "read_at", `"2026-03-01T12:00:00"`, CodeReadAtInvalid, nil},
	{"read_at only a day", "read_at", `"2026-03-01"`, CodeReadAtInvalid, nil},
	{"read_at of no day", "read_at", `"2026-02-30T12:00:00Z"`, CodeReadAtInvalid, nil},
	{"read_at of no hour", "read_at", `"2026-03-01T24:00:00Z"`, CodeReadAtInvalid, nil},
	{"read_at of one digit", "read_at", `"2026-03-01T1:00:00Z"`, CodeReadAtInvalid, nil},
	{"read_at with a comma", "read_at", `"2026-03-01T12:00:00,5Z"`, CodeReadAtInvalid, nil},
	{"read_at with an offset of a day", "read_at", `"2026-03-01T12:00:00+24:00"`, CodeReadAtInvalid, nil},
	{"read_at with an offset of 60 minutes", "read_at", `"2026-03-01T12:00:00+01:60"`, CodeReadAtInvalid, nil},
	{"read_at with a short offset", "read_at", `"2026-03-01T12:00:00+01"`, CodeReadAtInvalid, nil},
	{"read_at with more after it", "read_at", `"2026-03-01T12:00:00Z "`, CodeReadAtInvalid, nil},
	{"read_at before 1970", "read_at", `"1969-12-31T23:59:59Z"`, CodeReadAtInvalid, nil},
	{"read_at before 1970 in UTC", "read_at", `"1970-01-01T00:30:00+01:00"`, CodeReadAtInvalid, nil},
	{"read_at of year 0", "read_at", `"0000-01-01T00:00:00Z"`, CodeReadAtInvalid, nil},
	{"read_at beyond 9999 in UTC", "read_at", `"9999-12-31T23:30:00-01:00"`, CodeReadAtInvalid, nil},
	{"read_at of year 10000", "read_at", `"10000-01-01T00:00:00Z"`, CodeReadAtInvalid, nil},
	{"read_at finer than nanoseconds", "read_at", `"2026-03-01T12:00:00.0000000009999Z"`, "", nil},
	{"read_at in another zone", "read_at", `"2026-03-01T13:30:00+01:30"`, "", nil},
	{"read_at in small letters", "read_at", `"2026-03-01t12:00:00z"`, "", nil},
	{"read_at cut to microseconds", "read_at", `"2026-03-01T12:00:00.123456999Z"`, "", func(r *Reading) { r.ReadAt = noon().Add(123456 * time.Microsecond) }},
	{"read_at at the beginning", "read_at", `"1970-01-01T00:00:00Z"`, "", func(r *Reading) { r.ReadAt = time.Unix(0, 0).UTC() }},
	{"read_at at the end", "read_at", `"9999-12-31T23:59:59.999999Z"`, "",
		func(r *Reading) { r.ReadAt = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC) }},
	{"read_at ten years ahead", "read_at", `"2036-03-01T12:00:00Z"`, "", func(r *Reading) { r.ReadAt = noon().AddDate(10, 0, 0) }},
	{"read_at ten years behind", "read_at", `"2016-03-01T12:00:00Z"`, "", func(r *Reading) { r.ReadAt = noon().AddDate(-10, 0, 0) }},

	{"quality missing", "quality", "", "", nil},
	{"quality null", "quality", `null`, "", nil},
	{"quality empty", "quality", `""`, "", nil},
	{"quality estimated", "quality", `"estimated"`, "", func(r *Reading) { r.Quality = Estimated }},
	{"quality suspect", "quality", `"suspect"`, "", func(r *Reading) { r.Quality = Suspect }},
	{"quality invalid", "quality", `"invalid"`, "", func(r *Reading) { r.Quality = Invalid }},
	{"quality unknown", "quality", `"good"`, CodeQualityUnknown, nil},
	{"quality in capitals", "quality", `"VALID"`, CodeQualityUnknown, nil},
	{"quality a number", "quality", `0`, CodeQualityUnknown, nil},

	{"unit missing", "unit", "", "", func(r *Reading) { r.Unit = "" }},
	{"unit null", "unit", `null`, "", func(r *Reading) { r.Unit = "" }},
	{"unit free text", "unit", `"m³ \u00b7 °C"`, "", func(r *Reading) { r.Unit = "m³ · °C" }},
	{"unit with NUL", "unit", `"k\u0000Wh"`, "", func(r *Reading) { r.Unit = "k\uFFFDWh" }},
	{"unit with half a surrogate pair", "unit", `"\ud834"`, "", func(r *Reading) { r.Unit = "\uFFFD" }},
	{"unit of 32 bytes", "unit", `"` + strings.Repeat("u", 32) + `"`, "", func(r *Reading) { r.Unit = strings.Repeat("u", 32) }},
	{"unit of 33 bytes", "unit", `"` + strings.Repeat("u", 33) + `"`, CodeBadReading, nil},
	{"unit a number", "unit", `1`, CodeBadReading, nil},
	{"unit an object", "unit", `{}`, CodeBadReading, nil},
}

func goodReading() Reading {
	return Reading{DeviceID: "m-001", Item: "1-0:1.8.0", Value: "1234.56", Unit: "kWh", ReadAt: noon(), Quality: Valid}
}

func TestReadingAlone(t *testing.T) {
	t.Parallel()
	for _, tc := range readingCases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			part := readingWith(tc.member, tc.value)
			want := goodReading()
			if tc.want != nil {
				tc.want(&want)
			}
			m, err := DecodeReadings(readings(someReadingOf("m-000"), part, someReadingOf("m-002")))
			if err != nil {
				t.Fatal(err)
			}
			alone(t, m.Readings, m.Bad, part, tc.code, want)

			want.CommandID = someCommand
			r, err := DecodeResults(results(resultWith("readings", "["+someReading+","+part+","+someReading+"]")))
			if err != nil || len(r.Results) != 1 || len(r.Bad) != 0 {
				t.Fatalf("%+v, %v; want one good result", r, err)
			}
			alone(t, r.Results[0].Readings, r.Results[0].Bad, part, tc.code, want)
		})
	}
}

// alone checks what became of the second of three readings, the others being good.
func alone(t *testing.T, good []Reading, bad []Bad, part, code string, want Reading) {
	t.Helper()
	if code == "" {
		if len(good) != 3 || len(bad) != 0 {
			t.Fatalf("%d good and %+v, want three good", len(good), bad)
		}
		if !reflect.DeepEqual(good[1], want) {
			t.Errorf("got  %+v\nwant %+v", good[1], want)
		}
		return
	}
	if len(good) != 2 || len(bad) != 1 {
		t.Fatalf("%d good and %+v, want two good and one bad", len(good), bad)
	}
	b := bad[0]
	if b.Index != 1 || b.Code != code || b.Detail == "" || string(b.Raw) != part {
		t.Errorf("bad is %d %s %q %s, want 1 %s %s", b.Index, b.Code, b.Detail, b.Raw, code, part)
	}
}

func someReadingOf(device string) string { return readingWith("device_id", `"`+device+`"`) }

func TestReadingOfNoObject(t *testing.T) {
	t.Parallel()
	for _, part := range []string{`null`, `1`, `"1234.56"`, `true`, `[]`, `[` + someReading + `]`} {
		m, err := DecodeReadings(readings(someReadingOf("m-000"), part, someReadingOf("m-002")))
		if err != nil {
			t.Fatal(err)
		}
		alone(t, m.Readings, m.Bad, part, CodeBadReading, Reading{})
	}
}

func TestReadingsDevice(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", `null`, `""`, `"a b"`, `"a/b"`, `17`, `["m-001"]`, `"` + strings.Repeat("x", 65) + `"`} {
		part := readingWith("device_id", raw)
		m, err := DecodeReadings(readings(someReadingOf("m-000"), part, someReadingOf("m-002")))
		if err != nil {
			t.Fatal(err)
		}
		alone(t, m.Readings, m.Bad, part, CodeDeviceInvalid, Reading{})
	}
	m, err := DecodeReadings(readings(someReadingOf("m-000"), someReadingOf("m-002")))
	if err != nil || len(m.Readings) != 2 || m.Readings[0].DeviceID != "m-000" || m.Readings[1].DeviceID != "m-002" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestReadingsWithoutReadings(t *testing.T) {
	t.Parallel()
	for _, member := range []string{``, `,"readings":null`, `,"readings":{}`, `,"readings":"x"`, `,"readings":1`, `,"Readings":[]`} {
		_, err := DecodeReadings([]byte(`{"v":1` + member + `}`))
		wantPoison(t, err, CodeBadReading)
	}
}

func TestReadingsBound(t *testing.T) {
	t.Parallel()
	many := func(n int) []byte { return []byte(fmt.Sprintf(`{"v":1,"readings":[%s1]}`, strings.Repeat("1,", n-1))) }
	m, err := DecodeReadings(many(10_000))
	if err != nil || len(m.Bad) != 10_000 {
		t.Errorf("10000 readings: %d bad, %v", len(m.Bad), err)
	}
	_, err = DecodeReadings(many(10_001))
	wantPoison(t, err, CodeBadReading)
}
