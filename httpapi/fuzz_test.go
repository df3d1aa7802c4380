package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"meterline/command"
	"meterline/fleet"
)

// fuzzed are the decoders, by the first argument of FuzzDecode.
var fuzzed = []func(*testing.T, string){
	fuzzBody[command.Request], fuzzBody[fleet.NewDevice], fuzzBody[devicePatch], fuzzBody[newGroup], fuzzBody[map[string]*string],
	fuzzBody[groupPatch], fuzzBody[members], fuzzBody[fleet.NewToken],
	fuzzCursor, fuzzQuery, fuzzHeaders, fuzzIDs, fuzzCells,
}

// FuzzDecode gives the input to one of the decoders of bodies, query parameters and headers.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{read, `{}`, `null`, `[]`, `{"kind":null,"params":{"a":[1,"x",null]}}`, `{"params":1e9}`, `{"kind":"\ud800"}`,
		`{"targets":{"tags":{"":""},"all":true}}`, `{"not_before":"2026-01-31T12:00:00.5+01:00"}`, "{\"a\\u0000\":1}", `{"x":`, "\xff", `{} {}`,
		`{"id":"d1","kind":"direct","route":[{"a":"\u0000"}],"tags":{"a/b~c":1},"groups":[null],"enabled":"x"}`, `{"enabled":true,"params":1e999}`,
		`{"name":"n","description":1}`, `{"device_ids":["a",7,{}]}`, `{"name":"t","scopes":["mqtt"],"expires_at":"nope"}`, `{"priority":1.5,"items":{}}`,
		`{"targets":[],"params":{"\u0000":[{}]},"not_before":3}`, `{"params":"\u0000"}`, `{"tags":{"\u0000":"x"}}`} {
		for kind := range byte(8) {
			f.Add(kind, seed)
		}
	}
	for _, seed := range []string{"", "YWZ0ZXI6eA", "YWZ0ZXI6eAA", "YWZ0ZXI6AA", "!", "a=1&b=%zz", "a=%00", "%ff=1", "a=%41;b", "wait=5", "respond-async, wait=\"7\";x=y", "wait=-1",
		"wait=99999999999999999999", "WAIT = 3600", "text/csv", "application/json;q=0.1, text/csv", "application/json; charset=utf-8", "application/json; charset=x",
		"application/x-ndjson", ";", "1048575", "-1", "9223372036854775807", "abc-123", "é", string(theCommand), strings.ToUpper(string(theCommand)), "=1+1", "-1.5", "+x", "\tx"} {
		for kind := byte(8); int(kind) < len(fuzzed); kind++ {
			f.Add(kind, seed)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, in string) { fuzzed[int(kind)%len(fuzzed)](t, in) })
}

// fuzzBody: a body is either a problem of the client's that points at fields, or decodes and has a hash that its
// canonical form has too.
func fuzzBody[T any](t *testing.T, in string) {
	t.Helper()
	raw := []byte(in)
	r, hash, err := decode[T](raw)
	if err != nil {
		fuzzProblem(t, err)
		return
	}
	if !json.Valid(raw) || !utf8.Valid(raw) {
		t.Fatalf("%q was decoded to %+v, but is no JSON", raw, r)
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if _, other, err := decode[T](again); err != nil || !bytes.Equal(hash, other) {
		t.Fatalf("%q and %q differ: %v", raw, again, err)
	}
}

func fuzzProblem(t *testing.T, err error) {
	t.Helper()
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Status < 400 || p.Status >= 500 || p.Code == "" {
		t.Fatalf("not the client's: %v", err)
	}
	if p.Status == http.StatusUnprocessableEntity && len(p.Errors) == 0 || len(p.Errors) > maxComplaints {
		t.Errorf("%d fields are complained about: %v", len(p.Errors), err)
	}
	for _, f := range p.Errors {
		if f.Detail == "" || f.Pointer != "" && !strings.ContainsAny(f.Pointer[:1], "/?h") {
			t.Errorf("the complaint %q: %q", f.Pointer, f.Detail)
		}
	}
	if _, err := json.Marshal(p); err != nil {
		t.Errorf("%v cannot be answered: %v", p, err)
	}
}

func fuzzCursor(t *testing.T, in string) {
	t.Helper()
	after, err := Paged{Cursor: in}.after()
	if err != nil {
		fuzzProblem(t, err)
		return
	}
	if strings.ContainsRune(after, 0) || !utf8.ValidString(after) {
		t.Errorf("the cursor %q says %q, which goes into a query", in, after)
	}
	if again, err := (Paged{Cursor: cursor(after)}).after(); err != nil || again != after {
		t.Errorf("%q became %q, %v", after, again, err)
	}
}

func fuzzQuery(t *testing.T, in string) {
	t.Helper()
	p := checkQuery(&url.URL{RawQuery: in})
	if p != nil {
		fuzzProblem(t, p)
		return
	}
	query, err := url.ParseQuery(in)
	if err != nil {
		t.Fatalf("%q was let through: %v", in, err)
	}
	for name, values := range query {
		if all := strings.Join(append(values, name), ""); !utf8.ValidString(all) || strings.ContainsRune(all, 0) {
			t.Errorf("%q was let through", in)
		}
	}
}

func fuzzHeaders(t *testing.T, in string) {
	t.Helper()
	if wait := preferredWait([]string{in, "wait=3"}); wait < 0 || wait > maxWait || wait%time.Second != 0 {
		t.Errorf("%q makes us wait %v", in, wait)
	}
	if wantsCSV(in) && !strings.Contains(in, "csv") && !strings.Contains(in, "text/*") && !strings.Contains(in, "*") {
		t.Errorf("%q is given CSV", in)
	}
	types := []string{jsonType, ndjsonType}
	if err := checkType(in, types); err != nil {
		fuzzProblem(t, err)
	} else if in != "" && !slices.ContainsFunc(types, func(s string) bool { return strings.Contains(strings.ToLower(in), s) }) {
		t.Errorf("a body of %q is taken", in)
	}
	after, err := resumeAt(in)
	if err != nil {
		fuzzProblem(t, err)
		return
	}
	if in != "" && after < 1<<42 && (after < -1 || resumed(t, eventID(after+1, 0, false)) != after) {
		t.Errorf("the event %q is resumed at %d", in, after)
	}
}

func resumed(t *testing.T, id int64) int64 {
	t.Helper()
	b, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	after, err := resumeAt(string(b))
	if err != nil {
		t.Fatalf("%d is none of our ids: %v", id, err)
	}
	return after
}

func fuzzIDs(t *testing.T, in string) {
	t.Helper()
	if id := requestID(in); id != in {
		if _, err := uuid.Parse(id); err != nil {
			t.Errorf("the request id %q became %q", in, id)
		}
	} else if len(in) > 128 || strings.ContainsAny(in, " \"\n\x00") {
		t.Errorf("the request id %q is logged as it is", in)
	}
	if id, err := (OfCommand{ID: in}).parse(); err == nil && (string(id) != in || len(in) != 36) || err != nil && !errors.Is(err, command.ErrNotFound) {
		t.Errorf("%q became the command %q, %v", in, id, err)
	}
	key, err := Idempotent{Key: in}.of(nil)
	if err != nil {
		fuzzProblem(t, err)
	} else if key.Key != in || strings.ContainsAny(in, "\x00\n\x7f") || !utf8.ValidString(in) {
		t.Errorf("the key %q is taken as %q", in, key.Key)
	}
}

// fuzzCells: no cell of a CSV answer begins a formula.
func fuzzCells(t *testing.T, in string) {
	t.Helper()
	for _, cell := range []string{text(in), number(in)} {
		if cell == "" || !strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
			continue
		}
		if rest := strings.TrimLeft(cell, "+-"); len(rest) < len(cell)-1 || strings.Trim(rest, "0123456789.eE+-") != "" {
			t.Errorf("the cell %q begins a formula", cell)
		}
	}
}
