package checker

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"meterline/testkit/history"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a history and a record that agree, for tests to spoil.
type world struct {
	t        *testing.T
	events   []history.Event
	rec      *record
	readings []readingRow
	clock    time.Duration
}

const (
	command1 = "01941f29-7c00-7000-8000-000000000001"
	command2 = "01941f29-7c00-7000-8000-000000000002"
)

func at(d time.Duration) time.Time { return start.Add(d) }

func (w *world) add(actor string, kind history.Kind, phase history.Phase, id string, m *history.Message, c *history.Call) {
	w.clock += 10 * time.Millisecond
	w.events = append(w.events, history.Event{T: w.clock, At: at(w.clock), Actor: actor, Kind: kind, Phase: phase, ID: id, Message: m, Call: c,
		Line: history.Line(fmt.Sprintf("h:%d", len(w.events)+1))})
}

func payload(channel, text string) *history.Message {
	return &history.Message{Channel: channel, Payload: json.RawMessage(text)}
}

// publish is an uplink and, perhaps, its PUBACK.
func (w *world) publish(endpoint, id string, m *history.Message, acked bool) {
	w.add(endpoint, history.Uplink, history.Invoke, id, m, nil)
	if acked {
		w.add(endpoint, history.Uplink, history.OK, id, nil, nil)
	}
}

func reading(device, item, value string, t time.Time) string {
	return fmt.Sprintf(`{"device_id":%q,"item":%q,"value":%q,"unit":"kWh","read_at":%q}`, device, item, value, t.Format(time.RFC3339Nano))
}

func row(device, item, value string, t time.Time, command string) readingRow {
	return readingRow{readingKey: readingKey{device, item, t.UnixMicro(), value}, unit: "kWh", command: command, tenant: "acme"}
}

func asks(command string, devices ...string) *history.Message {
	return &history.Message{CommandID: command, DeviceIDs: devices, Attempt: 1, ExpiresAt: at(time.Minute)}
}

// right is a run in which a direct meter handed in a reading, answered one command and was told another, which was cancelled; a
// poison message, a lie about another device, an answer after the end.
func right(t *testing.T) *world {
	w := &world{t: t, rec: &record{now: at(2 * time.Minute), sums: map[string]sum{}, hashes: map[string]hash{}, latest: map[string]map[string]string{}}}
	w.add("m1", history.Connect, history.OK, "", &history.Message{}, nil)
	w.publish("m1", "u1", payload("readings", `{"v":1,"readings":[`+reading("m1", "1.8.0", "1.50", at(0))+`]}`), true)
	w.add("m1", history.Resend, history.Invoke, "u1", nil, nil)
	w.readings = append(w.readings, row("m1", "1.8.0", "1.50", at(0), ""))

	w.post("k1", command1)
	w.add("m1", history.Received, history.OK, "x1", asks(command1, "m1"), nil)
	w.add("m1", history.Taken, history.OK, "x1", asks(command1, "m1"), nil)
	w.add("m1", history.Executed, history.OK, "x1", asks(command1, "m1"), nil)
	w.publish("m1", "u2", payload("result", `{"v":1,"results":[{"command_id":"`+command1+`","device_id":"m1","status":"ok","final":true,"readings":[`+
		reading("", "1.8.0", "2.25", at(time.Second))+`]}]}`), true)
	w.readings = append(w.readings, row("m1", "1.8.0", "2.25", at(time.Second), command1))
	w.poll(command1, "succeeded", "succeeded")

	w.post("k2", command2)
	w.add("c", history.Cancel, history.OK, command2, nil, &history.Call{Status: 200})
	w.poll(command2, "cancelled", "cancelled")
	late := payload("result", `{"v":1,"results":[{"command_id":"`+command2+`","device_id":"m1","status":"ok","final":true,"readings":[`+
		reading("", "1.8.0", "3", at(2*time.Second))+`]}]}`)
	late.Intent = history.AfterEnd
	w.publish("m1", "u3", late, true)
	lateRow := row("m1", "1.8.0", "3", at(2*time.Second), command2)
	lateRow.late = true
	w.readings = append(w.readings, lateRow)

	w.publish("m1", "lie-1", &history.Message{Channel: "result", Bytes: []byte(`{"lie-1"`), Intent: history.Poison}, true)
	foreign := payload("readings", `{"v":1,"readings":[`+reading("m2", "1.8.0", "666", at(0))+`]}`)
	foreign.Intent = history.Foreign
	w.publish("m1", "lie-2", foreign, true)
	w.publish("m1", "u4", payload("event", `{"v":1,"type":"hello","device_id":"m1","at":"`+at(0).Format(time.RFC3339Nano)+`"}`), true)
	w.add("c", history.Probe, history.OK, "foreign", nil, &history.Call{Status: 404, Path: "GET /v1/devices/b1"})

	moves := func(states ...string) (ms []move) {
		for i, s := range states {
			ms = append(ms, move{s, at(time.Duration(i) * time.Second)})
		}
		return ms
	}
	w.rec.commands = []commandRow{
		{id: command1, tenant: "acme", total: 1, finished: true, expires: at(time.Minute), version: 4, counts: map[string]int{"succeeded": 1}},
		{id: command2, tenant: "acme", total: 1, finished: true, expires: at(time.Minute), version: 3, counts: map[string]int{"cancelled": 1}},
	}
	w.rec.operations = []operationRow{
		{opKey: opKey{command1, "m1"}, tenant: "acme", state: "succeeded", delivery: "acked", priority: 5, seq: 1, version: 4, expires: at(time.Minute),
			moves: moves("queued", "sent", "delivered", "succeeded")},
		{opKey: opKey{command2, "m1"}, tenant: "acme", state: "cancelled", delivery: "never_sent", late: true, priority: 5, seq: 2, version: 3,
			expires: at(time.Minute), moves: moves("queued", "cancelled")},
	}
	w.rec.keys = []keyRow{{"acme", "k1", command1}, {"acme", "k2", command2}}
	w.rec.letters = []letterRow{{id: "l1", source: "uplink", cause: "BAD_JSON", endpoint: "m1", payload: []byte(`{"lie-1"`)}}
	w.rec.events = []eventRow{
		{eventKey{"m1", "m1", "hello", at(0).UnixMicro()}, "acme"},
		{eventKey{"m1", "m2", "security", at(5 * time.Second).UnixMicro()}, "acme"},
	}
	w.rec.sums["m1"] = sum{3, "6.75"}
	w.rec.hashes[command1] = hash{status: "succeeded", version: 4, counts: map[string]int{"total": 1, "succeeded": 1},
		states: map[string]heldOperation{"m1": {"succeeded", 4}}}
	w.rec.latest["m1"] = map[string]string{"1.8.0": "3"}
	return w
}

func (w *world) post(key, id string) {
	w.add("c", history.Post, history.Invoke, key, nil, &history.Call{Tenant: "acme", BodyHash: "h"})
	w.add("c", history.Post, history.OK, key, nil, &history.Call{Tenant: "acme", BodyHash: "h", CommandID: id, Status: 202})
}

func (w *world) poll(id, status, state string) {
	w.add("c", history.Poll, history.OK, id, nil, &history.Call{Tenant: "acme", Status: 200, Shown: status, States: map[string]string{"m1": state}})
}

// event finds one by what it is, to be changed.
func (w *world) event(kind history.Kind, phase history.Phase, id string) *history.Event {
	i := slices.IndexFunc(w.events, func(e history.Event) bool { return e.Kind == kind && e.Phase == phase && e.ID == id })
	if i < 0 {
		w.t.Fatalf("no %s %s %s", kind, phase, id)
	}
	return &w.events[i]
}

func (w *world) drop(kind history.Kind, phase history.Phase, id string) {
	e := w.event(kind, phase, id)
	w.events = slices.DeleteFunc(w.events, func(one history.Event) bool { return one.Line == e.Line })
}

func (w *world) judge() Report {
	w.t.Helper()
	m := newModel()
	for _, e := range w.events {
		if err := m.take(e); err != nil {
			w.t.Fatal(err)
		}
	}
	m.finish()
	w.rec.readings = func(context.Context) iter.Seq2[readingRow, error] {
		return func(yield func(readingRow, error) bool) {
			for _, r := range w.readings {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	var r Report
	if err := r.judge(w.t.Context(), m, w.rec, 15*time.Second); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func TestWhatIsRightIsNotComplainedOf(t *testing.T) {
	t.Parallel()
	r := right(t).judge()
	if !r.OK() {
		t.Fatalf("%v %v", r.Violations, r.Void)
	}
	if r.AckedUplinks != 6 || r.Stored != 3 || r.AckedReadings != 3 || r.LateReadings != 1 || r.Commands != 2 || r.DeadLetters != 1 || r.Duplicates != 1 {
		t.Errorf("%+v", r)
	}
	if row := r.Row("seed 1"); strings.Count(row, "|") != strings.Count(strings.SplitN(Head, "\n", 2)[0], "|") || !strings.Contains(row, "| ok |") {
		t.Error(row)
	}
}

// Each rule, broken in every way that it can be.
var wrongs = []struct {
	name  string
	kind  string
	spoil func(*world)
}{
	{"an acknowledged reading is not there", "lost", func(w *world) { w.readings = w.readings[1:]; w.rec.sums["m1"] = sum{2, "5.25"} }},
	{"an acknowledged event is not there", "lost", func(w *world) { w.rec.events = w.rec.events[1:] }},
	{"poison left nothing", "lost", func(w *world) { w.rec.letters = nil }},
	{"a reading is there twice", "stored twice", func(w *world) {
		again := w.readings[0]
		again.revision = 1
		w.readings = slices.Insert(w.readings, 1, again)
	}},
	{"an event is there twice", "stored twice", func(w *world) { w.rec.events = append(w.rec.events, w.rec.events[0]) }},
	{"a value was changed", "not sent", func(w *world) { w.readings[0].value = "1.5" }},
	{"a unit was changed", "changed", func(w *world) { w.readings[0].unit = "Wh" }},
	{"a reading is booked on another command", "changed", func(w *world) { w.readings[1].command = command2 }},
	{"a lie about another device was believed", "not sent", func(w *world) { w.readings = append(w.readings, row("m2", "1.8.0", "666", at(0), "")) }},
	{"an event that nobody reported", "not sent", func(w *world) {
		w.rec.events = append(w.rec.events, eventRow{eventKey{"m1", "m1", "alarm", 1}, "acme"})
	}},
	{"SQL counts otherwise", "sums", func(w *world) { w.rec.sums["m1"] = sum{4, "6.75"} }},
	{"SQL adds up otherwise", "sums", func(w *world) { w.rec.sums["m1"] = sum{3, "6.7500001"} }},
	{"an accepted command is not there", "accepted and not there", func(w *world) {
		w.post("k3", "01941f29-7c00-7000-8000-000000000003")
	}},
	{"one key, two commands", "key", func(w *world) { w.post("k1", command2) }},
	{"another body under the same key", "key", func(w *world) {
		w.post("k1", command1)
		w.events[len(w.events)-1].Call.BodyHash = "other"
	}},
	{"a repeat is not said to be one", "key", func(w *world) { w.post("k1", command1) }},
	{"the key stands for another command", "key", func(w *world) {
		w.rec.keys[0].command = command2
		w.rec.keys = append(w.rec.keys, keyRow{"acme", "k2", command1})
	}},
	{"a command was made twice", "made twice", func(w *world) {
		w.rec.commands = append(w.rec.commands, commandRow{id: "another", tenant: "acme", finished: true})
	}},
	{"an operation has no end", "without end", func(w *world) { w.rec.operations[1].open, w.rec.operations[1].state = true, "queued" }},
	{"a command has no end", "command without end", func(w *world) { w.rec.commands[1].running = true }},
	{"two ends in the moves", "moves", func(w *world) {
		o := &w.rec.operations[0]
		o.state, o.version = "expired", 5
		o.moves = append(o.moves, move{"expired", at(time.Minute)})
	}},
	{"a step that does not exist", "moves", func(w *world) {
		w.rec.operations[0].moves[1].State, w.rec.operations[0].moves[2].State = "delivered", "sent"
	}},
	{"the state is not that of the last move", "moves", func(w *world) { w.rec.operations[1].state = "expired" }},
	{"a hole in the versions", "versions", func(w *world) { w.rec.operations[0].version = 5 }},
	{"shown as one end and then as another", "two ends", func(w *world) { w.poll(command1, "failed", "failed") }},
	{"shown as ended and then as open", "two ends", func(w *world) { w.poll(command1, "running", "sent") }},
	{"shown as one end, stored as another", "two ends", func(w *world) {
		w.rec.operations[1].state = "expired"
		w.rec.operations[1].moves[1].State = "expired"
		w.rec.commands[1].counts = map[string]int{"expired": 1}
	}},
	{"the command was shown to end otherwise", "two ends", func(w *world) { w.event(history.Poll, history.OK, command2).Call.Shown = "expired" }},
	{"counts that the operations do not have", "counts", func(w *world) { w.rec.commands[0].counts["succeeded"] = 2 }},
	{"counts of nothing", "counts", func(w *world) { w.rec.commands[0].counts["dead"] = 1 }},
	{"operations are missing", "counts", func(w *world) { w.rec.commands[0].total = 2 }},
	{"answered in time, and expired", "answered and expired", func(w *world) {
		w.drop(history.Poll, history.OK, command1)
		o := &w.rec.operations[0]
		o.state, o.moves[3].State = "expired", "expired"
		w.rec.commands[0].counts = map[string]int{"expired": 1}
	}},
	{"an answer after the end is not noted", "late answer", func(w *world) { w.rec.operations[1].late, w.rec.operations[1].version = false, 2 }},
	{"a reading after the end is not late", "not late", func(w *world) { w.readings[2].late = false }},
	{"succeeded without an answer", "not sent", func(w *world) { w.drop(history.Uplink, history.OK, "u2"); w.drop(history.Uplink, history.Invoke, "u2") }},
	{"failed with a code that nobody gave", "not sent", func(w *world) {
		w.rec.operations[0].state, w.rec.operations[0].code = "failed", "LIAR"
		w.rec.operations[0].moves[3].State = "failed"
	}},
	{"cancelled by nobody", "not sent", func(w *world) { w.drop(history.Cancel, history.OK, command2) }},
	{"first sends out of order", "order", func(w *world) {
		o := &w.rec.operations[1] // which was asked for when the first had long been accepted
		o.moves = []move{{"queued", at(0)}, {"sent", at(0)}, {"cancelled", at(time.Second)}}
	}},
	{"succeeded and never done", "never done", func(w *world) { w.drop(history.Executed, history.OK, "x1") }},
	{"delivered and never taken", "never taken", func(w *world) { w.drop(history.Taken, history.OK, "x1") }},
	{"never sent and received", "received", func(w *world) { w.add("m1", history.Received, history.OK, "x2", asks(command2, "m1"), nil) }},
	{"done after the deadline", "done after the deadline", func(w *world) {
		w.event(history.Executed, history.OK, "x1").At = at(time.Minute + 1100*time.Millisecond)
	}},
	{"sent with less than 2 s left", "sent too late", func(w *world) { w.rec.operations[0].moves[1].At = at(59 * time.Second) }},
	{"the live state has another state", "live state", func(w *world) { w.rec.hashes[command1].states["m1"] = heldOperation{"failed", 4} }},
	{"the live state has an older version", "live state", func(w *world) {
		h := w.rec.hashes[command1]
		h.version = 3
		w.rec.hashes[command1] = h
	}},
	{"the live state has a part", "live state", func(w *world) { delete(w.rec.hashes[command1].states, "m1") }},
	{"the live state counts otherwise", "live state", func(w *world) { w.rec.hashes[command1].counts["succeeded"] = 0 }},
	{"an older reading is called the newest", "newest reading", func(w *world) { w.rec.latest["m1"]["1.8.0"] = "1.50" }},
	{"an answer to another tenant", "leak", func(w *world) { w.event(history.Probe, history.OK, "foreign").Call.Status = 200 }},
	{"a byte of another tenant", "leak", func(w *world) { w.event(history.Poll, history.OK, command1).Call.Leaks = []string{"bolt-1"} }},
	{"a row of another tenant", "tenant", func(w *world) { w.rec.strays = []string{"reading of m1"} }},
	{"a command of another tenant", "tenant", func(w *world) { w.rec.commands[0].tenant = "bolt" }},
	{"a dead letter that nobody sent", "dead letter", func(w *world) {
		w.rec.letters = append(w.rec.letters, letterRow{id: "l2", source: "uplink", endpoint: "m1", payload: []byte("?")})
	}},
	{"a dead operation without a letter", "dead letter", func(w *world) { w.rec.operations[1].state = "dead" }},
	{"a letter of an operation that is not dead", "dead letter", func(w *world) {
		w.rec.letters = append(w.rec.letters, letterRow{id: "l2", source: "operation", command: command1, device: "m1"})
	}},
	{"a lie is not noted", "security event", func(w *world) { w.rec.events = w.rec.events[:1] }},
	{"a lie that nobody told", "security event", func(w *world) {
		w.rec.events = append(w.rec.events, w.rec.events[1])
	}},
	{"an older session goes on", "old session", func(w *world) {
		w.add("m1", history.Twin, history.Invoke, "", nil, nil)
		w.add("m1", history.Twin, history.OK, "", nil, nil)
		w.clock += 4 * time.Second
		w.add("m1", history.Connect, history.Fail, "", &history.Message{}, nil)
	}},
}

func TestEachWrongIsFound(t *testing.T) {
	t.Parallel()
	for _, wrong := range wrongs {
		t.Run(wrong.name, func(t *testing.T) {
			t.Parallel()
			w := right(t)
			wrong.spoil(w)
			r := w.judge()
			if r.Counts[wrong.kind] == 0 || r.OK() {
				t.Errorf("%q was not said, but %v", wrong.kind, r.Violations)
			}
			for _, v := range r.Violations {
				if v.Rule < 1 || v.Rule > 12 || v.IDs == "" || v.Text == "" {
					t.Errorf("%+v says too little", v)
				}
			}
		})
	}
}

// What names the history names the very lines.
func TestViolationsNameTheirLines(t *testing.T) {
	t.Parallel()
	w := right(t)
	sent, acked := w.event(history.Uplink, history.Invoke, "u1").Line, w.event(history.Uplink, history.OK, "u1").Line
	w.readings = w.readings[1:]
	w.rec.sums["m1"] = sum{2, "5.25"}
	r := w.judge()
	if len(r.Violations) != 1 || !slices.Equal(r.Violations[0].Lines, []history.Line{sent, acked}) || r.Lost != 1 {
		t.Fatalf("%v", r.Violations)
	}
	if text := r.Violations[0].String(); !strings.Contains(text, "u1 of m1") || !strings.Contains(text, string(sent)) {
		t.Error(text)
	}
}

// What may be gone after a flush is counted by itself; what was acknowledged after the flush may not.
func TestAFlushExcusesWhatCameBefore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flushAt             time.Duration
		lost, byFlush, void int
	}{{time.Hour, 0, 1, 0}, {0, 1, 0, 0}} {
		w := right(t)
		w.readings = w.readings[1:]
		w.rec.sums["m1"] = sum{2, "5.25"}
		w.events = append(w.events, history.Event{T: c.flushAt, Kind: history.Break, Phase: history.OK, ID: "f", Fault: &history.Fault{Name: history.Flush}})
		if r := w.judge(); r.Lost != c.lost || r.FlushLosses != c.byFlush || len(r.Void) != c.void || len(r.Counts) != c.lost {
			t.Errorf("flush at %s: %+v", c.flushAt, r)
		}
	}
}

func TestRunsThatShowNothingAreVoid(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*world){
		"sent again": func(w *world) { w.drop(history.Resend, history.Invoke, "u1") },
		"hit": func(w *world) {
			w.events = append(w.events, history.Event{Kind: history.Break, Phase: history.Invoke, ID: "f", Fault: &history.Fault{Name: "kill"}})
		},
	} {
		w := right(t)
		spoil(w)
		r := w.judge()
		if r.OK() || len(r.Counts) > 0 || !strings.Contains(strings.Join(r.Void, "; "), name) || !strings.Contains(r.Row(""), "void") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// The unacknowledged may be there or not; what is not counts as still at the device.
func TestWithoutPubackNothingIsPromised(t *testing.T) {
	t.Parallel()
	w := right(t)
	w.publish("m1", "u9", payload("readings", `{"v":1,"readings":[`+reading("m1", "2.8.0", "9", at(0))+`]}`), false)
	if r := w.judge(); !r.OK() || r.AtDevice != 1 {
		t.Errorf("%+v", r)
	}
	w.readings = append(w.readings, row("m1", "2.8.0", "9", at(0), ""))
	w.rec.sums["m1"] = sum{4, "15.75"}
	w.rec.latest["m1"]["2.8.0"] = "9"
	if r := w.judge(); !r.OK() || r.AtDevice != 0 {
		t.Errorf("%+v", r)
	}
}

// What is acknowledged when the load is over, and what is not stored, is no part of its rate.
func TestTheRateIsOfWhatWasStoredUnderLoad(t *testing.T) {
	t.Parallel()
	w := right(t)
	if r := w.judge(); r.PerSecond() != 0 {
		t.Errorf("%v readings per second of a load that is not known", r.PerSecond())
	}
	w.add("load", history.Load, history.Invoke, "", nil, nil)
	for i, id := range []string{"u10", "u11", "u12"} {
		if i == 2 {
			w.add("load", history.Load, history.OK, "", nil, nil)
		}
		w.publish("m1", id, payload("readings", `{"v":1,"readings":[`+reading("m1", "2.8.0", id[1:], at(0))+`]}`), true)
		if i != 1 {
			w.readings = append(w.readings, row("m1", "2.8.0", id[1:], at(0), ""))
		}
	}
	r := w.judge()
	loaded := w.event(history.Load, history.OK, "").T - w.event(history.Load, history.Invoke, "").T
	if r.UnderLoad != 1 || r.Loaded != loaded || r.Loaded <= 0 || r.PerSecond() != 1/loaded.Seconds() {
		t.Errorf("%d readings in %s, want 1 in %s: %v per second", r.UnderLoad, r.Loaded, loaded, r.PerSecond())
	}
}

func TestRecoveryIsTheLongestOfThree(t *testing.T) {
	t.Parallel()
	w := right(t)
	heal := w.event(history.Uplink, history.OK, "u1").T
	w.events = append(w.events, history.Event{T: heal, Kind: history.Heal, Phase: history.OK, ID: "f", Fault: &history.Fault{Name: "kill"}})
	want := w.event(history.Poll, history.OK, command1).T - heal
	r := w.judge()
	if len(r.Recoveries) != 1 || r.Recoveries[0].Uplink != 0 || r.Recoveries[0].Ended != want || r.Longest != want {
		t.Errorf("%+v, want %s", r.Recoveries, want)
	}
}

// A history that contradicts itself is no history.
func TestHistoriesThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, events := range map[string][]history.Event{
		"acknowledged and never published": {{Kind: history.Uplink, Phase: history.OK, ID: "u"}},
		"published for the first time twice": {
			{Kind: history.Uplink, Phase: history.Invoke, ID: "u", Message: payload("event", `{}`)},
			{Kind: history.Uplink, Phase: history.Invoke, ID: "u", Message: payload("event", `{}`)},
		},
		"an answer without a call":    {{Kind: history.Poll, Phase: history.OK}},
		"an uplink without a payload": {{Kind: history.Uplink, Phase: history.Invoke, ID: "u"}},
	} {
		m, failed := newModel(), false
		for _, e := range events {
			failed = failed || m.take(e) != nil
		}
		if !failed {
			t.Error(name)
		}
	}
}

func TestMetricsAreHeldAgainstTheRecord(t *testing.T) {
	t.Parallel()
	sums := map[string]float64{}
	if err := add(strings.NewReader("# HELP x\nx{a=\"1 2\"} 2\nx{a=\"3\"} 1.5\ny 7\n"), sums); err != nil || sums["x"] != 3.5 || sums["y"] != 7 {
		t.Errorf("%v %v", sums, err)
	}
	for _, c := range []struct {
		partitions, lag, counted float64
		faults, wrong            bool
	}{
		{16, 0, 7, false, false}, {16, 0, 6, false, true}, {16, 0, 6, true, false}, {16, 0, 8, true, true},
		{15, 0, 7, false, true}, {16, 6, 7, false, true},
	} {
		var r Report
		r.counted(map[string]float64{"meterline_worker_partitions": c.partitions, "meterline_uplink_lag_seconds": c.lag,
			"meterline_readings_stored_total": c.counted}, 7, c.faults)
		if r.OK() == c.wrong {
			t.Errorf("%+v: %+v", c, r.Violations)
		}
	}
}
