package meterread

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

var walked = []string{
	`{}`, `[]`, ` { } `, `[ ]`, `{"a":1}`, `[1]`, `{"a":{"b":[1,2,{"c":"]}"}]},"d":null}`, `[[],{},[{}]]`,
	`{ "a" : "x\"y\\" , "b" : [ 1 , -2.5e+3 , true ] }`, "{\r\n\t\"a\"\t:\n1\r,\"b\":false}", `{"\u0061":1,"a":2}`,
	`["\\","\"","\\\"",",]}"]`, `{"":""}`, `{"a":[{"a":[{"a":[]}]}]}`, `"x"`, ` 1 `, `null`, `{"a\\":{"\"":"{"}}`,
}

func TestWalk(t *testing.T) {
	t.Parallel()
	for _, s := range walked {
		walk(t, []byte(s))
	}
}

// walk compares what the walkers find in valid JSON with what encoding/json finds.
func walk(t *testing.T, payload []byte) {
	t.Helper()
	value := payload[space(payload, 0):]
	same := func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
	switch value[0] {
	case '{':
		want, got := map[string]json.RawMessage{}, map[string]json.RawMessage{}
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatal(err)
		}
		for name, raw := range fields(value) {
			got[string(name)] = raw
		}
		if !maps.EqualFunc(got, want, same) {
			t.Errorf("fields(%q) = %q, want %q", value, got, want)
		}
	case '[':
		var want, got []json.RawMessage
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatal(err)
		}
		for i, raw := range elements(value) {
			if i != len(got) {
				t.Errorf("elements(%q): element %d is numbered %d", value, len(got), i)
			}
			got = append(got, raw)
		}
		if !slices.EqualFunc(got, want, same) {
			t.Errorf("elements(%q) = %q, want %q", value, got, want)
		}
	case '"':
		var want string
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatal(err)
		}
		if got, ok := text(value[:end(value, 0)]); !ok || got != strings.ReplaceAll(want, "\x00", "\uFFFD") {
			t.Errorf("text(%q) = %q, want %q", value, got, want)
		}
	}
	if got, want := depth(payload), depthByTokens(t, payload); got != want {
		t.Errorf("depth(%q) = %d, want %d", payload, got, want)
	}
}

func depthByTokens(t *testing.T, payload []byte) int {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	deepest, now := 0, 0
	for {
		token, err := d.Token()
		if err != nil {
			return deepest // the end
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			now++
			deepest = max(deepest, now)
		case json.Delim('}'), json.Delim(']'):
			now--
		}
	}
}

// Whoever appends to a part must not write over what follows it in the payload.
func TestPartsCannotGrowIntoThePayload(t *testing.T) {
	t.Parallel()
	payload := []byte(`{"a":[1,2],"b":3}`)
	for _, raw := range fields(payload) {
		_ = append(raw, 'X')
	}
	for _, raw := range elements(payload[5:]) {
		_ = append(raw, 'X')
	}
	if string(payload) != `{"a":[1,2],"b":3}` {
		t.Errorf("the payload is now %s", payload)
	}
}
