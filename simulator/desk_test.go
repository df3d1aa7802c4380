package simulator

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// testDesk is a desk without network whose clock jumps from one appointment to the next.
type testDesk struct {
	*desk
	clock time.Time
	gone  []result
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newTestDesk(t *testing.T, b Behaviour, meters ...SiteMeter) *testDesk {
	t.Helper()
	site, err := NewIPC("ipc-1", meters, &b)
	if err != nil {
		t.Fatal(err)
	}
	d := &testDesk{clock: noon}
	stats := &Stats{}
	d.desk = &desk{behaviour: &b, site: site, memory: newMemory(b.MemorySize, stats), agenda: &agenda{}, stats: stats,
		acts: func(*command.Message, meterread.DeviceID) {}, repeats: func(*command.Message, meterread.DeviceID) {},
		now: func() time.Time { return d.clock }, answer: func(r *result, _ fate) { d.gone = append(d.gone, *r) }}
	return d
}

// run jumps until nothing is left to do and gives what was answered meanwhile.
func (d *testDesk) run() []result {
	for {
		at, ok := d.agenda.next()
		if !ok {
			gone := d.gone
			d.gone = nil
			return gone
		}
		d.clock = at
		d.agenda.run(at)
	}
}

func (d *testDesk) ask(command string, attempt int, targets ...command.Target) ([]meterread.DeviceID, []result) {
	m := readCommand(command, []meterread.Item{"1-0:1.8.0"}, targets...)
	m.Attempt, m.ExpiresAt = attempt, d.clock.Add(time.Hour)
	accepted := d.take(&m)
	return accepted, d.run()
}

func plainBehaviour() Behaviour {
	b := DefaultBehaviour()
	b.BusTimeoutRate, b.ClockOff = 0, 0
	return b
}

var (
	meterA = SiteMeter{"m-a", Route(1, "000000000001")}
	meterB = SiteMeter{"m-b", Route(2, "000000000002")}
)

func target(m SiteMeter) command.Target { return command.Target{DeviceID: m.ID, Route: m.Route} }

func TestIPCFindsAMeterByItsRouteAlone(t *testing.T) {
	spaced := json.RawMessage(`[ {"baud":2400, "bus":"com1"}, {"protocol":"dlt645-2007","meter":"000000000001"} ]`)
	cases := []struct {
		name  string
		ask   command.Target
		found bool
	}{
		{"its route", target(meterA), true},
		{"its route, written otherwise", command.Target{DeviceID: "m-a", Route: spaced}, true},
		{"swapped with another's", command.Target{DeviceID: "m-a", Route: meterB.Route}, false},
		{"swapped, the other way round", command.Target{DeviceID: "m-b", Route: meterA.Route}, false},
		{"another bus", command.Target{DeviceID: "m-a", Route: Route(2, "000000000001")}, false},
		{"another address", command.Target{DeviceID: "m-a", Route: Route(1, "000000000009")}, false},
		{"no route", command.Target{DeviceID: "m-a"}, false},
		{"no array", command.Target{DeviceID: "m-a", Route: json.RawMessage(`{"bus":"com1"}`)}, false},
		{"an unknown meter at a good route", command.Target{DeviceID: "m-z", Route: meterA.Route}, false},
	}
	for i, c := range cases {
		d := newTestDesk(t, plainBehaviour(), meterA, meterB)
		accepted, results := d.ask(fmt.Sprint("c", i), 1, c.ask)
		if len(results) != 1 {
			t.Fatalf("%s: %d results", c.name, len(results))
		}
		r := results[0]
		if c.found && (r.Status != "ok" || len(r.Readings) != 1 || len(accepted) != 1) {
			t.Errorf("%s: %+v", c.name, r)
		}
		if !c.found && (r.Code != codeNoSuchMeter || len(r.Readings) != 0 || len(accepted) != 0 || d.stats.acted.Load() != 0) {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

func TestOneMeterAtATimePerBus(t *testing.T) {
	var meters []SiteMeter
	var targets []command.Target
	for i := range 40 {
		m := SiteMeter{meterread.DeviceID(fmt.Sprintf("m-%02d", i)), Route(i%2+1, fmt.Sprintf("%012d", i))}
		meters, targets = append(meters, m), append(targets, target(m))
	}
	b := DefaultBehaviour()
	b.BusTimeoutRate = 0.2
	d := newTestDesk(t, b, meters...)
	_, results := d.ask("c1", 1, targets...)
	if len(results) != 40 {
		t.Fatalf("%d results, want 40", len(results))
	}
	var busy [2][]result
	timeouts := 0
	for _, r := range results {
		i := slices.IndexFunc(meters, func(m SiteMeter) bool { return m.ID == r.DeviceID })
		busy[i%2] = append(busy[i%2], r)
		took := r.Trace.AnsweredAt.Sub(*r.Trace.AskedAt)
		if r.Code == codeBusTimeout {
			timeouts++
			if took != b.BusTimeout {
				t.Errorf("timeout after %s, want %s", took, b.BusTimeout)
			}
		} else if took < b.AnswerMin || took > b.AnswerMax {
			t.Errorf("answer after %s, want %s to %s", took, b.AnswerMin, b.AnswerMax)
		}
	}
	if timeouts == 0 || timeouts == 40 {
		t.Errorf("%d timeouts of 40 at a rate of 0.2", timeouts)
	}
	for n, asked := range busy {
		slices.SortFunc(asked, func(a, b result) int { return a.Trace.AskedAt.Compare(*b.Trace.AskedAt) })
		for i := 1; i < len(asked); i++ {
			if asked[i].Trace.AskedAt.Before(asked[i-1].Trace.AnsweredAt) {
				t.Errorf("bus %d: %s asked before %s had answered", n, asked[i].DeviceID, asked[i-1].DeviceID)
			}
		}
		if !asked[0].Trace.AskedAt.Equal(noon) {
			t.Errorf("bus %d waited for the other", n)
		}
	}
}

func TestRepeatIsAnsweredFromMemory(t *testing.T) {
	d := newTestDesk(t, plainBehaviour(), meterA)
	_, first := d.ask("c1", 1, target(meterA))
	accepted, second := d.ask("c1", 2, target(meterA))
	if len(second) != 1 || len(accepted) != 0 || d.stats.acted.Load() != 1 || d.stats.repeats.Load() != 1 {
		t.Fatalf("second: %+v, acted %d times", second, d.stats.acted.Load())
	}
	if second[0].Attempt != 2 || !slices.Equal(second[0].Readings, first[0].Readings) || second[0].Trace.AnsweredAt != first[0].Trace.AnsweredAt {
		t.Errorf("first  %+v\nsecond %+v", first[0], second[0])
	}
	if _, other := d.ask("c2", 1, target(meterA)); len(other) != 1 || d.stats.acted.Load() != 2 {
		t.Errorf("another command is no repeat: %+v", other)
	}
}

func TestRepeatWhileInProgressActsOnce(t *testing.T) {
	d := newTestDesk(t, plainBehaviour(), meterA)
	m := readCommand("c1", nil, target(meterA))
	m.ExpiresAt = noon.Add(time.Hour)
	d.take(&m)
	again := m
	again.Attempt = 2
	if accepted := d.take(&again); len(accepted) != 1 {
		t.Errorf("accepted %v, want the operation in progress", accepted)
	}
	results := d.run()
	if len(results) != 1 || results[0].Attempt != 2 || d.stats.acted.Load() != 1 {
		t.Errorf("%+v, acted %d times", results, d.stats.acted.Load())
	}
	if d.open != 0 {
		t.Errorf("%d operations left open", d.open)
	}
}

func TestExpiredIsDropped(t *testing.T) {
	d := newTestDesk(t, plainBehaviour(), meterA, SiteMeter{"m-c", Route(1, "3")})
	m := readCommand("c1", nil, target(meterA))
	m.ExpiresAt = noon
	if accepted := d.take(&m); len(accepted) != 0 {
		t.Errorf("accepted %v", accepted)
	}
	if r := d.run(); len(r) != 1 || r[0].Code != codeExpired || r[0].Status != "rejected" {
		t.Errorf("over on arrival: %+v", r)
	}
	// The second waits for the bus until it is over.
	m = readCommand("c2", nil, target(meterA), command.Target{DeviceID: "m-c", Route: Route(1, "3")})
	m.ExpiresAt = d.clock.Add(10 * time.Millisecond)
	d.take(&m)
	r := d.run()
	if len(r) != 2 || r[0].Status != "ok" || r[1].Code != codeExpired || r[1].Trace.AskedAt != nil {
		t.Errorf("over while it waited: %+v", r)
	}
	if n := d.stats.acted.Load(); n != 1 {
		t.Errorf("acted %d times, want 1", n)
	}
}

func TestLateLostAndErrors(t *testing.T) {
	b := plainBehaviour()
	b.Faults.Late = 1
	d := newTestDesk(t, b, meterA)
	began := d.clock
	if _, r := d.ask("c1", 1, target(meterA)); len(r) != 1 || d.clock.Sub(began) < b.LateBy {
		t.Errorf("late: %+v after %s", r, d.clock.Sub(began))
	}
	b = plainBehaviour()
	b.Faults.Lost = 1
	d = newTestDesk(t, b, meterA)
	if _, r := d.ask("c1", 1, target(meterA)); len(r) != 0 || d.open != 0 || d.stats.acted.Load() != 1 {
		t.Errorf("lost: %+v, %d open", r, d.open)
	}
	b = plainBehaviour()
	b.Faults.Error = 1
	d = newTestDesk(t, b, meterA)
	if _, r := d.ask("c1", 1, target(meterA)); len(r) != 1 || r[0].Status != "error" || !slices.Contains(errorCodes, r[0].Code) {
		t.Errorf("error: %+v", r)
	}
}

func TestKinds(t *testing.T) {
	self := command.Target{DeviceID: "ipc-1"}
	cases := []struct {
		name         string
		kind         command.Kind
		items        []meterread.Item
		params       string
		target       command.Target
		status, code string
		readings     int
	}{
		{"read", command.MeterRead, []meterread.Item{"1-0:1.8.0", "1-0:32.7.0"}, "", target(meterA), "ok", "", 2},
		{"read all there is", command.MeterRead, nil, "", target(meterA), "ok", "", len(Items)},
		{"unknown item", command.MeterRead, []meterread.Item{"1-0:1.8.0", "1-0:99.9.9"}, "", target(meterA), "error", codeNoSuchItem, 0},
		{"time", command.MeterTimeSync, nil, "", target(meterA), "ok", "", 0},
		{"relay", command.MeterRelay, nil, `{"state":"open"}`, target(meterA), "ok", "", 0},
		{"relay without position", command.MeterRelay, nil, `{}`, target(meterA), "error", codeMeterRefused, 0},
		{"relay without params", command.MeterRelay, nil, ``, target(meterA), "error", codeMeterRefused, 0},
		{"ping", command.DevicePing, nil, "", target(meterA), "ok", "", 0},
		{"ping the IPC", command.DevicePing, nil, "", self, "ok", "", 0},
		{"read the IPC", command.MeterRead, nil, "", self, "rejected", codeUnsupportedKind, 0},
		{"unknown kind", "meter.dance", nil, "", target(meterA), "rejected", codeUnsupportedKind, 0},
	}
	for _, c := range cases {
		d := newTestDesk(t, plainBehaviour(), meterA)
		m := readCommand("c1", c.items, c.target)
		m.Kind, m.ExpiresAt = c.kind, noon.Add(time.Hour)
		if c.params != "" {
			m.Params = json.RawMessage(c.params)
		}
		d.take(&m)
		r := d.run()
		if len(r) != 1 || r[0].Status != c.status || r[0].Code != c.code || len(r[0].Readings) != c.readings {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	// A target's own items go before the message's.
	d := newTestDesk(t, plainBehaviour(), meterA)
	own := target(meterA)
	own.Items = []meterread.Item{"1-0:14.7.0"}
	if _, r := d.ask("c1", 1, own); len(r) != 1 || len(r[0].Readings) != 1 || r[0].Readings[0].Item != "1-0:14.7.0" {
		t.Errorf("own items: %+v", r)
	}
}
