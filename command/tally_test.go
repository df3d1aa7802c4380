package command

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// tallyLedger commits what it is told; tallyPages keeps what is written, or fails.
type tallyLedger struct {
	Ledger
	done Committed
}

func (l *tallyLedger) Change(_ context.Context, _ Fence, _ Need, decide func(*Tx) error) (Committed, error) {
	return l.done, decide(&Tx{Devices: map[meterread.DeviceID]fleet.Device{"m-9": {ID: "m-9", Tenant: "other"}}})
}

func (l *tallyLedger) End(context.Context, Fence, []ID, State, string, meterread.DeviceID, int) (Committed, meterread.DeviceID, bool, error) {
	return l.done, "", false, nil
}

type tallyPages struct {
	fail    error
	minutes []Minute
	holds   *Holding
}

func (p *tallyPages) AddMinutes(_ context.Context, _ string, minutes []Minute, holds *Holding) error {
	if p.fail == nil {
		p.minutes, p.holds = minutes, holds
	}
	return p.fail
}

func ended(s State, code string) *Operation {
	o := &Operation{CommandID: "c-1", State: s}
	if code != "" {
		o.Error = &Failure{Code: code}
	}
	return o
}

func TestTallyCountsWhatIsCommitted(t *testing.T) {
	noon := time.Date(2026, 1, 31, 12, 0, 42, 0, time.UTC)
	late := ended(Expired, "")
	late.LateResultAt = noon
	l := &tallyLedger{done: Committed{Now: noon, Changes: []Change{{Command: Command{ID: "c-1", Tenant: "acme"}, Operations: []*Operation{
		ended(Succeeded, ""), ended(Succeeded, ""), ended(Failed, "BUS_TIMEOUT"), ended(Dead, CodeAttemptsUsedUp), ended(Cancelled, ""),
		ended(Sent, ""), ended(Queued, "BUSY"), late,
	}}}, Readings: []meterread.Reading{{DeviceID: "m-1", CommandID: "c-1"}, {DeviceID: "m-9"}, {DeviceID: "gone"}}}}
	pages := &tallyPages{fail: errors.New("away")}
	tally := NewTally(TallyOptions{Ledger: l, Book: pages, Logger: slog.New(slog.DiscardHandler), Holds: func() (Holding, bool) { return Holding{Bound: 7}, true }})
	change := func() {
		t.Helper()
		if _, err := tally.Change(t.Context(), nil, Need{}, func(*Tx) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	change()
	if _, err := tally.Change(t.Context(), nil, Need{}, func(*Tx) error { return ErrLost }); !errors.Is(err, ErrLost) {
		t.Fatal(err) // and nothing was counted
	}
	tally.write(t.Context()) // is kept
	change()
	l.done = Committed{Now: noon.Add(time.Minute), Changes: []Change{{Command: Command{ID: "c-2", Tenant: "acme"}, Bulk: true, Ended: 5000}}}
	for _, as := range []State{Expired, Cancelled} {
		if _, _, _, err := tally.End(t.Context(), nil, nil, as, "", "", 1); err != nil {
			t.Fatal(err)
		}
	}
	pages.fail = nil
	tally.write(t.Context())
	at := noon.Truncate(time.Minute)
	want := []Minute{
		{Tenant: "acme", At: at, Readings: 2, Succeeded: 4, Failed: 2, Dead: 2, Codes: map[string]int{"BUS_TIMEOUT": 2, CodeAttemptsUsedUp: 2}},
		{Tenant: "other", At: at, Readings: 2, Codes: map[string]int{}},
		{Tenant: "acme", At: at.Add(time.Minute), Expired: 5000, Codes: map[string]int{}},
	}
	if !reflect.DeepEqual(pages.minutes, want) || pages.holds == nil || pages.holds.Bound != 7 {
		t.Errorf("wrote %+v", pages.minutes)
	}
	if tally.write(t.Context()); len(pages.minutes) != 0 {
		t.Errorf("wrote again %+v", pages.minutes)
	}
}

// Devices make codes up: there is room for some.
func TestTallyBoundsCodes(t *testing.T) {
	m := &Minute{Codes: map[string]int{}}
	for i := range 3 * tallyCodes {
		m.code(string(rune('A'+i)), 1)
	}
	if len(m.Codes) != tallyCodes+1 || m.Codes[OtherCodes] != 2*tallyCodes {
		t.Errorf("%d codes, %d others", len(m.Codes), m.Codes[OtherCodes])
	}
	if got := failures(map[string]int{"B": 1, "A": 1, "C": 3}, 2); !reflect.DeepEqual(got, []FailureCount{{"C", 3}, {"A", 1}}) {
		t.Errorf("%v", got)
	}
}

func TestLastMinutesAreThoseThatAreOver(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 42, 0, time.UTC)
	got := lastMinutes(now, 3, []Minute{{At: now.Truncate(time.Minute), Failed: 9}, {At: now.Truncate(time.Minute).Add(-2 * time.Minute), Failed: 1}})
	want := []Minute{{At: now.Truncate(time.Minute).Add(-3 * time.Minute)}, {At: now.Truncate(time.Minute).Add(-2 * time.Minute), Failed: 1}, {At: now.Truncate(time.Minute).Add(-time.Minute)}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

// BenchmarkTally is what counting costs for each operation that ends with a reading.
func BenchmarkTally(b *testing.B) {
	const many = 100
	l := &tallyLedger{done: Committed{Now: time.Now()}}
	change := Change{Command: Command{ID: "c-1", Tenant: "acme"}}
	for range many {
		change.Operations = append(change.Operations, ended(Succeeded, ""))
		l.done.Readings = append(l.done.Readings, meterread.Reading{DeviceID: "m-1", CommandID: "c-1"})
	}
	l.done.Changes = []Change{change}
	tally := NewTally(TallyOptions{Ledger: l})
	b.ReportAllocs()
	for b.Loop() {
		_, _ = tally.Change(b.Context(), nil, Need{}, func(*Tx) error { return nil })
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*many), "ns/operation")
}
