package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/fleet"
	"meterline/meterread"
)

// rewound is a ledger whose transactions begin anew from the same record; what the last one left is seen.
type rewound struct {
	Ledger
	begin  func(Need) *Tx
	last   *Tx
	rounds int
	refuse func(*Tx) error
}

func (l *rewound) Change(_ context.Context, _ Fence, need Need, decide func(*Tx) error) (Committed, error) {
	l.rounds++
	l.last = l.begin(need)
	if err := decide(l.last); err != nil {
		return Committed{}, err
	}
	if l.refuse != nil {
		if err := l.refuse(l.last); err != nil {
			return Committed{}, err
		}
	}
	return Committed{Now: l.last.Now}, nil
}

func letterWorker(l *rewound) *Worker {
	return NewWorker(WorkerOptions{Ledger: l, Logger: slog.New(slog.DiscardHandler), RunTimeout: ForAll(time.Minute), MaxLetters: 3})
}

const oneReading = `{"item":"1-0:1.8.0","value":"1.5","unit":"kWh","read_at":"2026-03-01T12:00:00Z"}`

func resultOf(device string) string {
	return `{"v":1,"results":[{"command_id":"` + string(testCommand().ID) + `","device_id":"` + device + `","status":"ok","readings":[` + oneReading + `]}]}`
}

// A fact that panics its handler is a dead letter; whatever it had moved is as it was, and the others of its batch count.
func TestAFactThatPanicsIsPutAsideAlone(t *testing.T) {
	l := &rewound{begin: func(need Need) *Tx { tx := fuzzTx(Sent); tx.Letters = loads(need, 0); return tx }}
	good := factsOf(Uplink{Endpoint: "ipc-1", Kind: UplinkResult, Payload: []byte(resultOf("m-001")), Position: "1", AppendedAt: testNow})
	bad := fact{Uplink: Uplink{Endpoint: "ipc-1", Kind: UplinkResult, Payload: []byte("P"), Position: "2", AppendedAt: testNow}, result: &meterread.Result{Raw: []byte("P")}}
	facts := []fact{bad, good[0], bad}
	facts[2].Endpoint = "x-1"
	_, left, err := letterWorker(l).judgeAll(t.Context(), nil, Need{}, facts, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.last.Operations[Key{testCommand().ID, "m-001"}]; got.State != Succeeded || len(l.last.Readings) != 1 {
		t.Errorf("the good one is %s with %d readings", got.State, len(l.last.Readings))
	}
	if len(l.last.DeadLetters) != 2 || left.letters.kept[CausePanic] != 2 {
		t.Fatalf("%+v", l.last.DeadLetters)
	}
	for i, tenant := range []fleet.Tenant{"acme", "other"} {
		if d := l.last.DeadLetters[i]; d.Cause != CausePanic || d.Tenant != tenant || string(d.Payload) != "P" || d.Detail == "" {
			t.Errorf("%+v", d)
		}
	}
}

func loads(need Need, open int) map[DeviceID]LetterLoad {
	m := map[DeviceID]LetterLoad{}
	for _, id := range need.Letters {
		m[id] = LetterLoad{Letters: open}
	}
	return m
}

// One endpoint's dead letters are bounded; what is not kept is counted and told once, and another endpoint's are kept.
func TestDeadLettersOfOneEndpointAreBounded(t *testing.T) {
	open := 1
	l := &rewound{begin: func(need Need) *Tx { tx := fuzzTx(Sent); tx.Letters = loads(need, open); return tx }}
	w := letterWorker(l)
	batch := func() (facts []fact) {
		for i := range 5 {
			facts = append(facts, factsOf(Uplink{Endpoint: "ipc-1", Kind: UplinkResult, Payload: fmt.Appendf(nil, "rubbish %d", i), Position: Position(fmt.Sprint(i)), AppendedAt: testNow})...)
		}
		return append(facts, factsOf(Uplink{Endpoint: "x-1", Kind: UplinkResult, Payload: []byte("rubbish"), Position: "9", AppendedAt: testNow})...)
	}
	_, left, err := w.judgeAll(t.Context(), nil, Need{}, batch(), nil)
	if err != nil || len(l.last.DeadLetters) != 3 || left.letters.dropped[meterread.CodeBadJSON] != 3 || left.letters.kept[meterread.CodeBadJSON] != 3 {
		t.Fatalf("%d kept, %+v: %v", len(l.last.DeadLetters), left, err)
	}
	if e := l.last.Events; len(e) != 1 || e[0].Type != EventSecurity || e[0].EndpointID != "ipc-1" || e[0].Tenant != "acme" || e[0].Key == "" {
		t.Fatalf("%+v", e)
	}
	registry := prometheus.NewRegistry()
	NewMetrics(registry).buried(left.letters)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := 0.0
	for _, f := range families {
		if f.GetName() == "meterline_dead_letters_dropped_total" {
			counted += f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if counted != 3 {
		t.Errorf("counted %v", counted)
	}
	open = 0
	if _, left, err = w.judgeAll(t.Context(), nil, Need{}, batch()[3:], nil); err != nil || len(left.letters.dropped) != 0 || len(l.last.DeadLetters) != 3 {
		t.Errorf("with room: %+v: %v", left, err)
	}
}

func replayOf(id string, payload string, kind UplinkKind) Replay {
	return Replay{DeadLetter: DeadLetter{ID: id, Tenant: "acme", Source: LetterUplink, EndpointID: "ipc-1", Kind: kind, Epoch: 7, Gateway: "g/i",
		Payload: []byte(payload), ReceivedAt: testNow, Attempt: 1}}
}

// again judges letters that are handled again, over operations in the state.
func again(t *testing.T, state State, change func(*Tx), letters ...Replay) *Tx {
	t.Helper()
	l := &rewound{begin: func(need Need) *Tx {
		tx := fuzzTx(state)
		tx.Letters, tx.Replays = loads(need, 1000), map[string]struct{}{}
		for _, id := range need.Replays {
			tx.Replays[id] = struct{}{}
		}
		if change != nil {
			change(tx)
		}
		return tx
	}}
	w := letterWorker(l)
	var facts []fact
	for _, r := range letters {
		facts = append(facts, r.facts()...)
	}
	if _, _, err := w.judgeAll(t.Context(), nil, Need{Replays: replaysOf(facts)}, facts, nil); err != nil {
		t.Fatal(err)
	}
	return l.last
}

// A replayed uplink counts as it was: by its sender, and as of when it came.
func TestAReplayIsTheUplinkAsItWas(t *testing.T) {
	key := Key{testCommand().ID, "m-001"}
	tx := again(t, Sent, nil, replayOf("a", resultOf("m-001"), UplinkResult))
	if o := tx.Operations[key]; o.State != Succeeded || !tx.Readings[0].ReceivedAt.Equal(testNow) || tx.Readings[0].Late || len(tx.DeadLetters) != 0 {
		t.Errorf("%s, readings %+v", o.State, tx.Readings)
	}
	tx = again(t, Sent, func(tx *Tx) { o := tx.Operations[key]; o.must(o.Cancel(testNow, "by hand")) }, replayOf("a", resultOf("m-001"), UplinkResult))
	if o := tx.Operations[key]; o.State != Cancelled || o.LateResultAt.IsZero() || len(tx.Readings) != 1 || !tx.Readings[0].Late {
		t.Errorf("after the end: %s, late %s, readings %+v", o.State, o.LateResultAt, tx.Readings)
	}
	tx = again(t, Sent, nil, replayOf("a", resultOf("x-1"), UplinkResult))
	if o := tx.Operations[Key{testCommand().ID, "x-1"}]; o.State != Sent || len(tx.Readings) != 0 || len(tx.Events) != 1 || tx.Events[0].Type != EventSecurity {
		t.Errorf("for another's device: %s", o.State)
	}
	tx = again(t, Sent, func(tx *Tx) { clear(tx.Replays) }, replayOf("a", resultOf("m-001"), UplinkResult))
	if o := tx.Operations[key]; o.State != Sent || len(tx.Readings)+len(tx.DeadLetters) != 0 {
		t.Errorf("handled already, and again: %s", o.State)
	}
	tx = again(t, Sent, func(tx *Tx) { d := tx.Devices["ipc-1"]; d.Tenant = "other"; tx.Devices["ipc-1"] = d }, replayOf("a", resultOf("m-001"), UplinkResult))
	if o := tx.Operations[key]; o.State != Sent || len(tx.DeadLetters) != 1 || tx.DeadLetters[0].Cause != CauseUnknownDevice || tx.DeadLetters[0].Tenant != "acme" {
		t.Errorf("the sender's name is another tenant's: %s, %+v", o.State, tx.DeadLetters)
	}
}

// What is bad again is a dead letter again, of the same tenant and linked, whatever else is open; each replay is another.
func TestWhatIsBadAgainIsLinked(t *testing.T) {
	tx := again(t, Sent, nil, replayOf("a", "rubbish", UplinkResult), replayOf("b", "rubbish", UplinkResult), replayOf("c", `{"v":1,"results":[]}`, UplinkResult))
	if len(tx.DeadLetters) != 2 || tx.DeadLetters[0].Key == tx.DeadLetters[1].Key {
		t.Fatalf("%+v", tx.DeadLetters)
	}
	for i, parent := range []string{"a", "b"} {
		if l := tx.DeadLetters[i]; l.ParentID != parent || l.Attempt != 2 || l.Tenant != "acme" || !l.ReceivedAt.Equal(testNow) || l.Epoch != 7 || l.Gateway != "g/i" {
			t.Errorf("%+v", l)
		}
	}
}

// When the record refuses letters that are handled again they are tried alone, and the one to blame is a dead letter again.
func TestARefusedReplayIsTriedAlone(t *testing.T) {
	var committed []string
	l := &rewound{refuse: func(tx *Tx) error {
		for _, d := range tx.DeadLetters {
			if d.ParentID == "b" && d.Cause == CauseUnknownCommand {
				return errors.New("no letter of b's, please")
			}
		}
		for _, d := range tx.DeadLetters {
			committed = append(committed, d.ParentID+" "+d.Cause)
		}
		return nil
	}}
	l.begin = func(need Need) *Tx {
		tx := fuzzTx(Sent)
		tx.Replays = map[string]struct{}{}
		for _, id := range need.Replays {
			tx.Replays[id] = struct{}{}
		}
		return tx
	}
	w := letterWorker(l)
	err := w.handleAgain(t.Context(), []Replay{replayOf("a", resultOf("q"), UplinkResult), replayOf("b", resultOf("q"), UplinkResult), replayOf("c", resultOf("q"), UplinkResult)})
	if want := "[a UNKNOWN_COMMAND b RECORD_REFUSED c UNKNOWN_COMMAND]"; err != nil || fmt.Sprint(committed) != want {
		t.Errorf("committed %v, want %s: %v", committed, want, err)
	}
}

func TestASelectionSaysWhatIsWrong(t *testing.T) {
	at, zero := testNow, 0
	before := at.Add(-time.Hour)
	for name, c := range map[string]struct {
		r    LetterSelection
		want []string
	}{
		"nothing":     {LetterSelection{}, []string{""}},
		"two things":  {LetterSelection{All: true, Cause: CauseCorrupt}, []string{"/all"}},
		"cause":       {LetterSelection{Cause: "BAD_JASON"}, []string{"/cause"}},
		"command":     {LetterSelection{CommandID: "7"}, []string{"/command_id"}},
		"no ids":      {LetterSelection{IDs: []string{}}, []string{"/ids"}},
		"many ids":    {LetterSelection{IDs: make([]string, decideMost+1)}, []string{"/ids"}},
		"source":      {LetterSelection{Source: "x"}, []string{"/source"}},
		"period":      {LetterSelection{From: &at, To: &before}, []string{"/to"}},
		"limit":       {LetterSelection{All: true, Limit: &zero}, []string{"/limit"}},
		"all is fine": {LetterSelection{All: true}, nil},
	} {
		_, limit, err := c.r.filter()
		var bad *Invalid
		errors.As(err, &bad)
		var got []string
		if bad != nil {
			for _, f := range bad.Fields {
				got = append(got, f.Pointer)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) || err == nil && limit != decideMost {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestOnlyWhatCanBeReplayedIs(t *testing.T) {
	for _, c := range []struct {
		l    DeadLetter
		want bool
	}{
		{DeadLetter{Source: LetterOperation}, true},
		{DeadLetter{Source: LetterUplink, Kind: UplinkEvent}, true},
		{DeadLetter{Source: LetterUplink, Kind: UplinkEvent, Cause: CauseCorrupt}, false},
		{DeadLetter{Source: LetterUplink, Kind: UplinkDelivered, Cause: CausePanic}, false},
	} {
		if got := c.l.final() == ""; got != c.want {
			t.Errorf("%+v: %t", c.l, got)
		}
	}
}
