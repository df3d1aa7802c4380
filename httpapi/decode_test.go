package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"meterline/command"
	"meterline/fleet"
)

// FuzzDecode: whatever comes is either a problem of the client's, or decodes and has a hash that its canonical form has
// too.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{read, `{}`, `null`, `[]`, `{"kind":null,"params":{"a":[1,"x",null]}}`, `{"params":1e9}`, `{"kind":"\ud800"}`,
		`{"targets":{"tags":{"":""},"all":true}}`, `{"not_before":"2026-01-31T12:00:00.5+01:00"}`, "{\"a\\u0000\":1}", `{"x":`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, hash, err := decode[command.Request](raw)
		if err != nil {
			if p, ok := errors.AsType[*Problem](err); !ok || (p.Status != 400 && p.Status != 422) {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		var tree any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&tree); err != nil {
			t.Fatalf("%q was decoded to %+v, but is no JSON: %v", raw, r, err)
		}
		again, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		if _, other, err := decode[command.Request](again); err != nil || !bytes.Equal(hash, other) {
			t.Fatalf("%q and %q differ: %v", raw, again, err)
		}
	})
}

func TestDecodeTellsWhereJSONIsWrong(t *testing.T) {
	_, _, err := decode[fleet.NewToken]([]byte("{\n  \"name\": nope}"))
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Detail != "the body is not JSON: line 2, column 12: invalid character 'o' in literal null (expecting 'u')" {
		t.Errorf("got %v", err)
	}
}

func TestEventIDsRise(t *testing.T) {
	last := int64(-1)
	for changed := int64(0); changed < 4; changed++ {
		for place := range 3 {
			id := eventID(changed, place, place == 2)
			if id <= last {
				t.Errorf("%d after %d", id, last)
			}
			last = id
		}
	}
	if id := eventID(1, 5_000_000, false); id >= eventID(2, 0, false) || id > eventID(1, 0, true) {
		t.Errorf("a crowded transaction has the id %d", id)
	}
}
