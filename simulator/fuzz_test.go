package simulator

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// FuzzDecode: whatever command comes, every target is answered once at most, and what is answered is good by the rules
// that a gateway has for uplinks.
func FuzzDecode(f *testing.F) {
	at := noon.Add(time.Hour)
	message := command.Message{V: 1, MessageID: "m", MessageType: "unicast", CommandID: "0192f0c1-2b3c-7d4e-8f50-123456789abc", Kind: command.MeterRead,
		ExpiresAt: at, Attempt: 1, Items: []meterread.Item{"1-0:1.8.0"}, Params: json.RawMessage(`{}`),
		Targets: []command.Target{target(meterA), target(meterB), {DeviceID: "ipc-1"}}}
	for _, kind := range append(slices.Clone(command.Kinds), "meter.dance") {
		message.Kind = kind
		f.Add(encode(message), uint8(2))
	}
	message.Kind, message.Params = command.MeterRelay, json.RawMessage(`{"state":"open"}`)
	f.Add(encode(message), uint8(1))
	message.Targets[0].Route, message.Targets[1].Items = json.RawMessage(`[{"bus":1}]`), []meterread.Item{"9-9:9.9.9"}
	message.Kind = command.MeterRead
	f.Add(encode(message), uint8(1))
	for _, s := range []string{`{"v":1}`, `{"v":2}`, `{`, `{"v":1,"targets":[{"device_id":"m-a","route":{}},{"device_id":"m-a"}],"expires_at":"2020-01-01T00:00:00Z"}`,
		`{"v":1,"kind":"meter.relay","params":{"action":"off"},"targets":[null,{}]}`} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, payload []byte, times uint8) {
		var m command.Message
		if json.Unmarshal(payload, &m) != nil || m.V != meterread.Version {
			return
		}
		d := newTestDesk(t, plainBehaviour(), meterA, meterB)
		var gone []result
		for range times%3 + 1 {
			accepted := d.take(&m)
			for _, id := range accepted {
				if !slices.ContainsFunc(m.Targets, func(t command.Target) bool { return t.DeviceID == id }) {
					t.Errorf("%q is at work, but was not asked", id)
				}
			}
			answers := d.run()
			if len(answers) > len(m.Targets) || d.open != 0 {
				t.Fatalf("%d answers to %d targets, %d are left", len(answers), len(m.Targets), d.open)
			}
			gone = append(gone, answers...)
		}
		fuzzAnswers(t, gone)
	})
}

func fuzzAnswers(t *testing.T, gone []result) {
	t.Helper()
	message := resultMessage{V: meterread.Version, MessageID: "m"}
	for _, r := range gone {
		_, badID := meterread.ParseDeviceID(string(r.DeviceID))
		_, badCommand := meterread.ParseCommandID(string(r.CommandID))
		if badID != nil || badCommand != nil || r.Attempt < 0 {
			continue // asked for what there cannot be
		}
		message.Results = append(message.Results, &r)
	}
	decoded, err := meterread.DecodeResults(encode(message))
	if message.Results == nil {
		return
	}
	if err != nil || len(decoded.Bad) > 0 || len(decoded.Results) != len(message.Results) {
		t.Fatalf("%s was decoded to %+v, %v", encode(message), decoded, err)
	}
	for _, r := range decoded.Results {
		if len(r.Bad) > 0 {
			t.Errorf("bad readings: %+v", r.Bad)
		}
	}
}
