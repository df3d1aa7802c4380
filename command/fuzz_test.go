package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

var fuzzKinds = []UplinkKind{UplinkResult, UplinkAck, UplinkReadings, UplinkEvent, UplinkSecurity, UplinkDelivered, UplinkUndeliverable,
	UplinkDisconnected, UplinkConnected, "else"}

const fuzzMessage = "0192f0c1-0000-7000-8000-000000000001"

// fuzzTx is a record in which ipc-1 speaks for m-001, and x-1 for itself; both have an operation in the state.
func fuzzTx(state State) *Tx {
	tx := &Tx{Now: testNow.Add(time.Minute), Operations: map[Key]*Operation{}, Devices: map[DeviceID]fleet.Device{
		"ipc-1": {ID: "ipc-1", Tenant: "acme", Kind: fleet.IPC, EndpointID: "ipc-1"},
		"m-001": {ID: "m-001", Tenant: "acme", Kind: fleet.Meter, EndpointID: "ipc-1"},
		"x-1":   {ID: "x-1", Tenant: "other", Kind: fleet.Direct, EndpointID: "x-1"},
	}}
	for _, id := range []DeviceID{"m-001", "x-1"} {
		o := Born(testCommand(), Candidate{DeviceID: id, Info: fleet.Info{Kind: fleet.Meter, EndpointID: tx.Devices[id].EndpointID}}, testNow)
		if state != Queued {
			o.must(o.Claim(testNow, Session{Endpoint: "ipc-1", Gateway: "g", Incarnation: "i", Epoch: 7}, fuzzMessage, time.Minute))
		}
		if state == Accepted || state == Succeeded {
			o.must(o.Accept(testNow, time.Minute))
		}
		if state == Succeeded {
			o.must(o.Succeed(testNow))
		}
		tx.Operations[o.Key()] = o
	}
	return tx
}

// FuzzDecode lets an entry of the uplink log be decoded and judged. Nothing is lost without a dead letter, nobody speaks
// for another's devices, and the same entry once more changes nothing.
func FuzzDecode(f *testing.F) {
	id := string(testCommand().ID)
	reading := `{"item":"1-0:1.8.0","value":"1.5","unit":"kWh","read_at":"2026-03-01T12:00:00Z"}`
	about := func(device, reading string) string { return `{"device_id":"` + device + `",` + reading[1:] }
	for i, payloads := range [][]string{
		{`{"v":1,"results":[{"command_id":"` + id + `","device_id":"m-001","status":"ok","readings":[` + reading + `,{"item":"x"}]},{"status":1}]}`,
			`{"v":1,"results":[{"command_id":"` + id + `","device_id":"x-1","status":"error","code":"BUSY"},{"command_id":"` + fuzzMessage + `","device_id":"m-001","status":"ok"}]}`,
			`{"v":1,"results":[{"command_id":"` + id + `","device_id":"m-001","status":"ok","final":false,"readings":[` + reading + `]},{"command_id":"` + id + `","device_id":"m-001","status":"rejected"}]}`,
			`{"v":1,"results":[{"command_id":"` + id + `","device_id":"m-001","status":"ok","readings":[{}]}]}`,
			`{"v":1,"results":[` + strings.Repeat("1,", lettersMost+1) + `1]}`},
		{`{"v":1,"command_id":"` + id + `","device_ids":["m-001","x-1","m-001","q"],"status":"accepted"}`,
			`{"v":1,"command_id":"` + id + `","device_ids":["m-001"],"status":"rejected","code":"BUSY"}`},
		{`{"v":1,"readings":[` + about("m-001", reading) + `,` + about("x-1", reading) + `,` + about("q", reading) + `,{}]}`},
		{`{"v":1,"type":"hello","data":{"window":4}}`, `{"v":1,"type":"alarm","device_id":"x-1","message_id":"u"}`, `{"v":1,"type":"alarm","device_id":"q","at":"2026-03-01T12:00:00Z"}`},
		{`{"v":1,"type":"security.x","device_id":"ipc-1"}`}, {fuzzMessage}, {fuzzMessage}, {""}, {""}, {"x"},
	} {
		for _, p := range append(payloads, `{"v":2}`, `{`, "\xff") {
			for state := range byte(4) {
				f.Add(byte(i)<<2|state, false, []byte(p))
			}
		}
		f.Add(byte(i)<<2, true, []byte("x"))
	}
	f.Fuzz(func(t *testing.T, what byte, corrupt bool, payload []byte) {
		u := Uplink{Endpoint: "ipc-1", Epoch: 7, Gateway: "g/i", Kind: fuzzKinds[int(what>>2)%len(fuzzKinds)], Payload: payload, Position: "1-1",
			AppendedAt: testNow.Add(time.Second), Corrupt: corrupt}
		before := bytes.Clone(payload)
		tx := fuzzTx([]State{Queued, Sent, Accepted, Succeeded}[what&3])
		j := fuzzJudge(t, tx, u)
		fuzzLetters(t, u, tx.DeadLetters)
		fuzzJudged(t, u, tx)
		if !bytes.Equal(before, payload) {
			t.Error("the payload was changed")
		}
		fuzzTwice(t, j, tx, u)
	})
}

func fuzzJudge(t *testing.T, tx *Tx, u Uplink) *judge {
	t.Helper()
	j := &judge{tx: tx, runTimeout: ForAll(time.Minute)}
	facts := factsOf(u)
	if len(facts) == 0 && u.Kind != UplinkResult || len(facts) > len(u.Payload)+1 {
		t.Errorf("%d facts", len(facts))
	}
	for _, f := range facts {
		if u.Kind.Hint() && !u.Corrupt {
			f.keys = []Key{{testCommand().ID, "m-001"}}
		}
		j.take(0, f)
	}
	if len(j.panicked) > 0 {
		t.Errorf("panicked: %v", j.panicked)
	}
	return j
}

// fuzzLetters: dead letters have names, are bounded, and what is left of a message is as bad as it was in it.
func fuzzLetters(t *testing.T, u Uplink, letters []DeadLetter) {
	t.Helper()
	keys, bytes := map[string]bool{}, 0
	for _, l := range letters {
		if l.Cause == "" || l.Cause == CausePanic || l.Detail == "" || keys[l.Key] {
			t.Errorf("the dead letter %+v", l)
		}
		keys[l.Key] = true
		bytes += len(l.Payload)
		if len(l.Payload) < len(u.Payload) && l.Cause != CauseUnknownDevice && l.Cause != CauseUnknownCommand {
			fuzzAgain(t, u, l)
		}
	}
	if len(letters) > lettersMost || bytes > letterBytesMost+2*len(u.Payload)+1024 {
		t.Errorf("%d dead letters of %d bytes", len(letters), bytes)
	}
}

func fuzzAgain(t *testing.T, u Uplink, l DeadLetter) {
	t.Helper()
	u.Payload = l.Payload
	for _, f := range factsOf(u) {
		if slices.ContainsFunc(f.bad, func(b meterread.Bad) bool { return b.Code == l.Cause }) {
			return
		}
	}
	t.Errorf("the dead letter %s with %q is no %s when it is handled again", l.Key, l.Payload, l.Cause)
}

func fuzzJudged(t *testing.T, u Uplink, tx *Tx) {
	t.Helper()
	for _, r := range tx.Readings {
		if r.DeviceID != "m-001" && r.DeviceID != "ipc-1" || r.ReceivedAt.IsZero() || u.Corrupt {
			t.Errorf("ipc-1 gave the reading %+v", r)
		}
	}
	for _, e := range tx.Events {
		if e.Tenant == "" || e.Data != nil && !json.Valid(e.Data) || e.EndpointID != "ipc-1" || e.Type != EventSecurity && e.DeviceID == "x-1" {
			t.Errorf("ipc-1 gave the event %+v", e)
		}
	}
	if o := tx.Operations[Key{testCommand().ID, "x-1"}]; o.Version != fuzzTx(o.State).Operations[o.Key()].Version {
		t.Errorf("ipc-1 moved another's operation: %+v", o)
	}
}

// fuzzTwice: handled again, an entry leaves the same keys and moves nothing that has ended.
func fuzzTwice(t *testing.T, j *judge, tx *Tx, u Uplink) {
	t.Helper()
	names := func() (all []string) {
		for _, l := range tx.DeadLetters {
			all = append(all, l.Key)
		}
		for _, e := range tx.Events {
			all = append(all, e.Key)
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	before, o := names(), tx.Operations[Key{testCommand().ID, "m-001"}]
	state := fmt.Sprint(o.State, o.Error, len(o.Readings))
	j.letters, j.bytes = 0, 0
	again := *j
	for _, f := range factsOf(u) {
		again.take(0, f)
	}
	if after := names(); !slices.Equal(before, after) {
		t.Errorf("once more left %v, not %v", after, before)
	}
	if !o.State.Open() && state != fmt.Sprint(o.State, o.Error, len(o.Readings)) {
		t.Errorf("once more made %s of %s", fmt.Sprint(o.State, o.Error, len(o.Readings)), state)
	}
}
