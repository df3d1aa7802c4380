package state

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// fuzzView is a command as the live state would have it.
func fuzzView() command.View {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	reading := meterread.Reading{DeviceID: "m-1", Item: "1-0:1.8.0", Value: "1.5", Unit: "kWh", ReadAt: at, ReceivedAt: at, Quality: meterread.Valid}
	op := command.OperationView{Version: 2, State: command.Sent, DeviceID: "m-2", UpdatedAt: at, Moves: []command.Move{{State: command.Queued, At: at}}}
	other := op
	other.DeviceID, other.Readings, other.Error, other.LateResultAt = "m-1", []meterread.Reading{reading}, &command.Failure{Code: "BUSY"}, &at
	return command.View{ID: "0192f0c1-2b3c-7d4e-8f50-123456789abc", Tenant: "acme", Kind: command.MeterRead, Status: command.StatusRunning,
		CreatedAt: at, ExpiresAt: at, FinishedAt: &at, Items: []meterread.Item{"1-0:1.8.0"}, Params: json.RawMessage(`{"a":1}`), Version: 3,
		Counts: command.Counts{Total: 2, Sent: 2}, Errors: map[string]int{"BUSY": 1}, Operations: []command.OperationView{op, other}}
}

// fuzzAnswer is what loadScript answers about v.
func fuzzAnswer(t testing.TB, v command.View) []any {
	t.Helper()
	meta, err := metaFields(v, v.Operations)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for i := 0; i+1 < len(meta); i += 2 {
		switch value := meta[i+1].(type) {
		case []byte:
			fields[meta[i].(string)] = string(value)
		case string:
			fields[meta[i].(string)] = value
		}
	}
	version, err := json.Marshal(v.Version)
	if err != nil {
		t.Fatal(err)
	}
	ops := make([]any, len(v.Operations), len(v.Operations)+len(v.Encoded))
	for i, o := range v.Operations {
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		ops[i] = string(b)
	}
	for _, o := range v.Encoded {
		ops = append(ops, string(o))
	}
	return []any{fields["command"], string(version), fields["status"], fields["counts"], fields["errors"], fields["finished_at"], ops}
}

// FuzzDecode reads what Redis may hold: texts, one a line. Whatever is taken for good can be written and read again.
func FuzzDecode(f *testing.F) {
	var lines []string
	for _, part := range fuzzAnswer(f, fuzzView()) {
		switch part := part.(type) {
		case string:
			lines = append(lines, part)
		case []any:
			for _, o := range part {
				lines = append(lines, o.(string))
			}
		}
	}
	whole := strings.Join(lines, "\n")
	for place := range lines {
		broken := append([]string{}, lines...)
		broken[place] = "{"
		f.Add(strings.Join(broken, "\n"))
	}
	f.Add(whole)
	f.Add(strings.Join(lines[:5], "\n"))
	f.Add("7\ngw\ni1\n2026-03-01T12:00:00Z\n127.0.0.1:1")
	f.Add(`{"endpoint":"ipc-1","gateway":"gw","incarnation":"i1","since":"2026-03-01T12:00:00Z","remote_addr":"x","epoch":7}`)
	f.Add(`{"address":"a","incarnation":"i","beat":3}`)
	f.Add(`{"device_id":"m","item":"1-0:1.8.0","value":"1","read_at":"2026-03-01T12:00:00Z"}` + "\n" + `{"item":"0-0:1.8.0"}`)
	f.Add("used_memory:12\r\nmaxmemory:9e9\r\nused_memory:x")
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Split(text, "\n")
		fuzzLoaded(t, lines)
		fuzzReadings(t, lines)
		fuzzPresence(t, lines)
		if n := infoNumber(text, "used_memory"); n != 0 && !strings.Contains(text, "used_memory:") {
			t.Errorf("%q holds the number %v", text, n)
		}
	})
}

func fuzzLoaded(t *testing.T, lines []string) {
	t.Helper()
	got := make([]any, 0, 7)
	for _, line := range lines[:min(6, len(lines))] {
		got = append(got, line)
	}
	if len(lines) > 6 {
		var ops []any
		for _, line := range lines[6:] {
			ops = append(ops, line)
		}
		got = append(got, ops)
	}
	v, err := decodeView(got)
	if err != nil {
		return
	}
	if len(v.Operations) > 0 || len(v.Encoded) > len(lines) {
		t.Fatalf("%d and %d operations of %d lines", len(v.Operations), len(v.Encoded), len(lines))
	}
	again, err := decodeView(fuzzAnswer(t, v))
	if err != nil {
		t.Fatalf("%+v cannot be read again: %v", v, err)
	}
	want, have := fuzzJSON(t, v), fuzzJSON(t, again)
	if !bytes.Equal(want, have) {
		t.Errorf("%s became %s", want, have)
	}
}

func fuzzJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%+v cannot be written: %v", v, err)
	}
	return b
}

func fuzzReadings(t *testing.T, lines []string) {
	t.Helper()
	rs, err := decodeReadings(lines)
	if err != nil {
		return
	}
	texts := make([]string, len(rs))
	for i, r := range rs {
		if i > 0 && rs[i-1].Item > r.Item {
			t.Errorf("%s comes after %s", r.Item, rs[i-1].Item)
		}
		texts[i] = string(fuzzJSON(t, r))
	}
	if again, err := decodeReadings(texts); err != nil || !reflect.DeepEqual(again, rs) && !bytes.Equal(fuzzJSON(t, again), fuzzJSON(t, rs)) {
		t.Errorf("%+v became %+v, %v", rs, again, err)
	}
}

func fuzzPresence(t *testing.T, lines []string) {
	t.Helper()
	fields := map[string]string{}
	for i, name := range []string{"epoch", "gateway", "incarnation", "since", "remote_addr"} {
		if i < len(lines) {
			fields[name] = lines[i]
		}
	}
	if s, ok := decodeSession("d", fields); ok && (s.Endpoint != "d" || s.Gateway != fields["gateway"] || s.Incarnation != fields["incarnation"]) {
		t.Errorf("%v became %+v", fields, s)
	}
	for _, line := range lines {
		s, ok := decodeOpened(line)
		if ok {
			b := fuzzJSON(t, openedSession{s.Endpoint, s.Gateway, s.Incarnation, s.Since, s.RemoteAddr, s.Epoch})
			if again, ok := decodeOpened(string(b)); !ok || !again.Since.Equal(s.Since) || again.Epoch != s.Epoch || again.Gateway != s.Gateway {
				t.Errorf("%+v became %+v", s, again)
			}
		}
		if beats, err := decodeGateways(map[string]string{"gw": line}); err == nil && len(beats) != 1 {
			t.Errorf("%q became %v", line, beats)
		}
	}
}
