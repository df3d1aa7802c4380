package uplink

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// fuzzParts makes what Redis may answer of bytes: a nested list of texts, numbers and nothing.
func fuzzParts(in *[]byte, depth int) any {
	if len(*in) == 0 {
		return nil
	}
	kind := (*in)[0]
	*in = (*in)[1:]
	n := int(kind >> 2)
	switch kind & 3 {
	case 0:
		text := (*in)[:min(n, len(*in))]
		*in = (*in)[len(text):]
		return string(text)
	case 1:
		list := make([]any, 0, n)
		for len(list) < n && len(*in) > 0 && depth < 4 {
			list = append(list, fuzzParts(in, depth+1))
		}
		return list
	case 2:
		return int64(n)
	}
	return nil
}

// parts is the other way round, for seeds.
func fuzzBytes(v any) []byte {
	switch v := v.(type) {
	case string:
		return append([]byte{byte(len(v) << 2)}, v...)
	case []any:
		b := []byte{byte(len(v)<<2 | 1)}
		for _, e := range v {
			b = append(b, fuzzBytes(e)...)
		}
		return b
	case int64:
		return []byte{byte(v<<2 | 2)}
	}
	return []byte{3}
}

// written is an entry as appendScript leaves it.
func written(id string, u command.Uplink, sum string) []any {
	return []any{id, []any{"e", string(u.Endpoint), "s", strconv.FormatInt(u.Epoch, 10), "g", u.Gateway, "k", string(u.Kind),
		"p", string(u.Payload), "c", sum}}
}

// FuzzDecode reads answers of Redis, whatever they are, and entries that were changed after they were written.
func FuzzDecode(f *testing.F) {
	u := command.Uplink{Endpoint: "ipc-1", Epoch: 7, Gateway: "g/1", Kind: command.UplinkResult, Payload: []byte("hello")}
	good := written("1700000000000-1", u, checksum(u))
	for _, answer := range []any{
		[]any{"gen", "1700000000", "5", int64(1), []any{good, good}}, []any{"gen", "1700000000", "5", int64(0), []any{}},
		[]any{"other", "1", "0", int64(1), []any{}}, []any{}, "x", nil, []any{"gen", "x", "5", int64(0), []any{}}, []any{"gen", "5", "x", int64(0), nil},
		[]any{"gen", "1", "5", int64(0), []any{written("1-0", u, "00000000")}}, []any{"gen", "1", "5", int64(0), []any{written("x", u, "")}},
		[]any{"gen", "1", "5", int64(0), []any{[]any{"1-1", []any{"e"}}}}, []any{"gen", "1", "5", int64(0), []any{"x"}},
	} {
		f.Add(fuzzBytes(answer), "gen", "ipc-1", int64(7), "result", uint16(3), byte(1))
	}
	f.Fuzz(func(t *testing.T, answer []byte, generation, endpoint string, epoch int64, kind string, at uint16, flip byte) {
		fuzzAnswer(t, answer, generation)
		fuzzEntry(t, command.Uplink{Endpoint: meterread.DeviceID(endpoint), Epoch: epoch, Gateway: "g/1", Kind: command.UplinkKind(kind), Payload: answer}, at, flip)
	})
}

// fuzzAnswer: an answer is an error, or a batch that says no more than the answer did.
func fuzzAnswer(t *testing.T, answer []byte, generation string) {
	t.Helper()
	in := answer
	raw, _ := fuzzParts(&in, 0).([]any)
	from := command.LogPosition{Partition: 3, Generation: generation, Position: "5-0"}
	b, err := decodeBatch(from, raw)
	if err != nil {
		return
	}
	entries, _ := raw[4].([]any)
	if len(b.Entries) != len(entries) || b.Partition != 3 || b.Horizon.After(b.Now) && len(entries) == 0 {
		t.Fatalf("%v became %+v", raw, b)
	}
	if b.Generation != generation && b.Position == from.Position && len(entries) == 0 {
		t.Errorf("a position of generation %q was kept for %q", generation, b.Generation)
	}
	for i, u := range b.Entries {
		id := entries[i].([]any)[0].(string)
		if string(u.Position) != id || u.Partition != 3 || len(u.Payload) > len(answer) {
			t.Errorf("%v became %+v", entries[i], u)
		}
		if !u.Corrupt {
			intact(t, u)
		}
	}
	if n := len(b.Entries); n > 0 && b.Position != b.Entries[n-1].Position {
		t.Errorf("the position is %q after %q", b.Position, b.Entries[n-1].Position)
	}
}

// intact: what is taken for intact is the same when it is written and read again.
func intact(t *testing.T, u command.Uplink) {
	t.Helper()
	again, err := decodeEntry(u.Partition, written(string(u.Position), u, checksum(u)))
	if err != nil || again.Corrupt || again.Endpoint != u.Endpoint || again.Epoch != u.Epoch || again.Kind != u.Kind || !bytes.Equal(again.Payload, u.Payload) {
		t.Errorf("%+v became %+v, %v", u, again, err)
	}
}

// fuzzEntry: an entry survives being written and read; changed in one byte it is corrupt.
func fuzzEntry(t *testing.T, u command.Uplink, at uint16, flip byte) {
	t.Helper()
	u.AppendedAt = time.UnixMilli(5).UTC()
	u.Position = "5-0"
	if bytes.IndexByte([]byte(u.Kind), 0) >= 0 || bytes.IndexByte([]byte(u.Endpoint), 0) >= 0 {
		return // neither can be: kinds are ours, and ids are checked
	}
	intact(t, u)
	entry := written("5-0", u, checksum(u))
	values := entry[1].([]any)
	which := []int{1, 3, 7, 9, 11}[int(at)%5]
	value := []byte(values[which].(string))
	if flip == 0 || len(value) == 0 {
		return
	}
	value[int(binary.BigEndian.Uint16([]byte{byte(at), byte(at >> 8)}))%len(value)] ^= flip
	values[which] = string(value)
	if read, err := decodeEntry(0, entry); err != nil || !read.Corrupt && !same(read, u) {
		t.Errorf("%+v was changed to %+v, %v", u, read, err)
	}
}

func same(a, b command.Uplink) bool {
	return a.Endpoint == b.Endpoint && a.Epoch == b.Epoch && a.Kind == b.Kind && bytes.Equal(a.Payload, b.Payload)
}
