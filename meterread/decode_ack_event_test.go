package meterread

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDecodeAck(t *testing.T) {
	t.Parallel()
	ack := func(member, value string) []byte {
		return []byte(objectWith(member, value, [][2]string{
			{"v", "1"}, {"command_id", `"` + someCommand + `"`}, {"device_ids", `["m-001","m-002"]`}, {"status", `"accepted"`},
		}))
	}
	good := func(change func(*Ack)) Ack {
		a := Ack{CommandID: someCommand, DeviceIDs: []DeviceID{"m-001", "m-002"}, Status: StatusAccepted}
		if change != nil {
			change(&a)
		}
		return a
	}
	for _, tc := range []struct {
		member, value string
		code          string
		want          func(*Ack)
	}{
		{"", "", "", nil},
		{"future", `[1]`, "", nil},
		{"message_id", `"u-1"`, "", nil},
		{"command_id", "", CodeBadAck, nil},
		{"command_id", `null`, CodeBadAck, nil},
		{"command_id", `"x"`, CodeBadAck, nil},
		{"command_id", `7`, CodeBadAck, nil},
		{"device_ids", "", CodeBadAck, nil},
		{"device_ids", `null`, CodeBadAck, nil},
		{"device_ids", `[]`, CodeBadAck, nil},
		{"device_ids", `"m-001"`, CodeBadAck, nil},
		{"device_ids", `{"m-001":1}`, CodeBadAck, nil},
		{"device_ids", `[` + strings.Repeat(`"m",`, 10_000) + `"m"]`, CodeBadAck, nil},
		{"device_ids", `["m-001",""]`, CodeDeviceInvalid, nil},
		{"device_ids", `["m-001",null]`, CodeDeviceInvalid, nil},
		{"device_ids", `["a b"]`, CodeDeviceInvalid, nil},
		{"device_ids", `[1]`, CodeDeviceInvalid, nil},
		{"device_ids", `["m-003"]`, "", func(a *Ack) { a.DeviceIDs = []DeviceID{"m-003"} }},
		{"status", "", CodeBadAck, nil},
		{"status", `null`, CodeBadAck, nil},
		{"status", `"ok"`, CodeBadAck, nil},
		{"status", `"Accepted"`, CodeBadAck, nil},
		{"status", `1`, CodeBadAck, nil},
		{"status", `"progress"`, "", func(a *Ack) { a.Status = StatusProgress }},
		{"status", `"rejected"`, "", func(a *Ack) { a.Status = StatusRejected }},
		{"code", `"BUSY"`, "", func(a *Ack) { a.Code = "BUSY" }},
		{"code", `null`, "", nil},
		{"code", `1`, CodeBadAck, nil},
		{"code", `"` + strings.Repeat("C", 65) + `"`, "", func(a *Ack) { a.Code = strings.Repeat("C", 64) }},
		{"message", `"try later"`, "", func(a *Ack) { a.Message = "try later" }},
		{"message", `[]`, CodeBadAck, nil},
	} {
		payload := ack(tc.member, tc.value)
		got, err := DecodeAck(payload)
		if tc.code != "" {
			wantPoison(t, err, tc.code)
			if !reflect.DeepEqual(got, Ack{}) {
				t.Errorf("%.200s: got %+v beside the error", payload, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", payload, err)
			continue
		}
		if want := good(tc.want); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", payload, got, want)
		}
	}
}

func TestDecodeEvent(t *testing.T) {
	t.Parallel()
	event := func(member, value string) []byte {
		return []byte(objectWith(member, value, [][2]string{
			{"v", "1"}, {"message_id", `"u-1"`}, {"type", `"alarm"`}, {"device_id", `"m-001"`}, {"at", `"2026-03-01T12:00:00Z"`},
			{"data", `{"cover":"open"}`},
		}))
	}
	for _, tc := range []struct {
		member, value string
		code          string
		want          func(*Event)
	}{
		{"", "", "", nil},
		{"future", `[1]`, "", nil},
		{"message_id", "", "", func(e *Event) { e.MessageID = "" }},
		{"type", "", CodeBadEvent, nil},
		{"type", `null`, CodeBadEvent, nil},
		{"type", `""`, CodeBadEvent, nil},
		{"type", `1`, CodeBadEvent, nil},
		{"type", `"two words"`, CodeBadEvent, nil},
		{"type", `"` + strings.Repeat("t", 65) + `"`, CodeBadEvent, nil},
		{"type", `"` + strings.Repeat("t", 64) + `"`, "", func(e *Event) { e.Type = strings.Repeat("t", 64) }},
		{"type", `"Bus.error_1-x"`, "", func(e *Event) { e.Type = "Bus.error_1-x" }},
		{"device_id", "", "", func(e *Event) { e.DeviceID = "" }},
		{"device_id", `null`, "", func(e *Event) { e.DeviceID = "" }},
		{"device_id", `""`, "", func(e *Event) { e.DeviceID = "" }},
		{"device_id", `"a b"`, CodeDeviceInvalid, nil},
		{"device_id", `1`, CodeDeviceInvalid, nil},
		{"at", "", "", func(e *Event) { e.At = time.Time{} }},
		{"at", `null`, "", func(e *Event) { e.At = time.Time{} }},
		{"at", `""`, CodeBadEvent, nil},
		{"at", `"now"`, CodeBadEvent, nil},
		{"at", `1772366400`, CodeBadEvent, nil},
		{"at", `"1969-12-31T23:59:59Z"`, CodeBadEvent, nil},
		{"at", `"2026-03-01T14:00:00.0000019+02:00"`, "", func(e *Event) { e.At = noon().Add(time.Microsecond) }},
		{"data", "", "", func(e *Event) { e.Data = nil }},
		{"data", `null`, "", func(e *Event) { e.Data = nil }},
		{"data", `{}`, "", func(e *Event) { e.Data = []byte(`{}`) }},
		{"data", `[]`, CodeBadEvent, nil},
		{"data", `"x"`, CodeBadEvent, nil},
		{"data", `{"a\u0000":"b\u0000"}`, "", func(e *Event) { e.Data = []byte(`{"a\ufffd":"b\ufffd"}`) }},
		{"data", `{"n":1e999999}`, CodeBadEvent, nil},
	} {
		payload := event(tc.member, tc.value)
		got, err := DecodeEvent(payload)
		if tc.code != "" {
			wantPoison(t, err, tc.code)
			if !reflect.DeepEqual(got, Event{}) {
				t.Errorf("%s: got %+v beside the error", payload, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", payload, err)
			continue
		}
		want := Event{MessageID: "u-1", Type: "alarm", DeviceID: "m-001", At: noon(), Data: []byte(`{"cover":"open"}`)}
		if tc.want != nil {
			tc.want(&want)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", payload, got, want)
		}
	}
}

func TestStorable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{}`:                                     `{}`,
		`{"a":[1,-2.5,"x\n\\"],"b":null}`:        `{"a":[1,-2.5,"x\n\\"],"b":null}`,
		`{"a":"\u0041\u00e9"}`:                   `{"a":"\u0041\u00e9"}`,
		`{"a":"\u0000"}`:                         `{"a":"\ufffd"}`,
		`{"\u0000":1}`:                           `{"\ufffd":1}`,
		`{"a":"\\u0000"}`:                        `{"a":"\\u0000"}`, // a backslash and letters
		`{"a":"\\\u0000"}`:                       `{"a":"\\\ufffd"}`,
		`{"a":"\ud834\udd1e"}`:                   `{"a":"\ud834\udd1e"}`,
		`{"a":"\ud834"}`:                         `{"a":"\ufffd"}`,
		`{"a":"\udd1e"}`:                         `{"a":"\ufffd"}`,
		`{"a":"\ud834\ud834\udd1e"}`:             `{"a":"\ufffd\ud834\udd1e"}`,
		`{"a":"\ud834\u0000"}`:                   `{"a":"\ufffd\ufffd"}`,
		`{"a":"\ud834x"}`:                        `{"a":"\ufffdx"}`,
		`{"a":"\uD834\\uDD1E"}`:                  `{"a":"\ufffd\\uDD1E"}`,
		`{"a":1e400}`:                            `{"a":1e400}`,
		`{"a":1E-400}`:                           `{"a":1E-400}`,
		`{"a":1e+400}`:                           `{"a":1e+400}`,
		`{"a":1e401}`:                            "",
		`{"a":[{"b":-1.5e-401}]}`:                "",
		`{"a":1e99999999999999999999}`:           "",
		`{"a":"1e999"}`:                          `{"a":"1e999"}`,
		`{"1e999":1}`:                            `{"1e999":1}`,
		`{"a":` + strings.Repeat("1", 401) + `}`: "",
	} {
		got, p := storable([]byte(in))
		if string(got) != want || (p == nil) != (want != "") {
			t.Errorf("storable(%s) = %s, %v; want %s", in, got, p, want)
		}
	}
}
