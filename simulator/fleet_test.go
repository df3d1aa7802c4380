package simulator

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
	"meterline/mqtt"
	"meterline/testkit"
)

// startFleet runs a fleet at the broker until the test ends and waits until it is ready.
func startFleet(t *testing.T, b *testBroker, behaviour Behaviour, ledger *Ledger, sites ...Site) *Fleet {
	t.Helper()
	f, err := New(Options{Brokers: []string{b.address}, Sites: sites, Behaviour: behaviour, Ledger: ledger})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run fleet: %v", err)
		}
	})
	select {
	case <-f.Ready():
	case <-time.After(patience):
		t.Fatalf("fleet not ready: %+v", f.Counters())
	}
	return f
}

func TestDirectMeterAnswers(t *testing.T) {
	b := startBroker(t)
	ledger := NewLedger()
	f := startFleet(t, b, quick(), ledger, directSite("d-1"))
	b.send("d-1", readCommand("c1", []meterread.Item{"1-0:1.8.0", "1-0:32.7.0"}, command.Target{DeviceID: "d-1"}))

	var ack ackMessage
	if err := json.Unmarshal(b.next("ack").payload, &ack); err != nil {
		t.Fatal(err)
	}
	if ack.Status != "accepted" || ack.CommandID != "c1" || !slices.Equal(ack.DeviceIDs, []meterread.DeviceID{"d-1"}) {
		t.Errorf("ack %+v", ack)
	}
	r := b.results(1)[0]
	if r.Status != "ok" || r.CommandID != "c1" || r.DeviceID != "d-1" || r.Attempt != 1 || !r.Final || len(r.Readings) != 2 {
		t.Errorf("result %+v", r)
	}
	if r.Trace.AskedAt == nil || r.Trace.AnsweredAt.Before(*r.Trace.AskedAt) || r.Trace.AskedAt.Before(r.Trace.ReceivedAt) {
		t.Errorf("trace %+v", r.Trace)
	}
	eventually(t, "PUBACK", func() bool { return f.Counters().ReadingsAcked == 2 })
	if n := ledger.Acked(); n != 2 {
		t.Errorf("ledger has %d acknowledged readings, want 2", n)
	}

	// Somebody else's operation is not for this meter.
	b.send("d-1", readCommand("c2", nil, command.Target{DeviceID: "d-2"}))
	if r := b.results(1)[0]; r.Code != codeNoSuchMeter || r.Status != "rejected" {
		t.Errorf("for another device: %+v", r)
	}
}

func TestResultsOfAnIPCTravelTogether(t *testing.T) {
	b := startBroker(t)
	behaviour := quick()
	behaviour.GroupCount, behaviour.GroupDelay = 4, time.Hour // only the count sends
	var meters []SiteMeter
	var targets []command.Target
	for i, name := range []meterread.DeviceID{"m-1", "m-2", "m-3", "m-4"} {
		route := Route(i%2+1, string(name))
		meters = append(meters, SiteMeter{name, route})
		targets = append(targets, command.Target{DeviceID: name, Route: route})
	}
	f := startFleet(t, b, behaviour, nil, ipcSite("ipc-1", meters...))
	b.send("ipc-1", readCommand("c1", []meterread.Item{"1-0:1.8.0"}, targets...))
	if got := parseResults(t, b.next("result").payload); len(got) != 4 {
		t.Errorf("%d results in the message, want 4", len(got))
	}
	eventually(t, "PUBACK", func() bool { return f.Counters().ReadingsAcked == 4 })
}

func TestHelloAndReadingsNobodyAskedFor(t *testing.T) {
	b := startBroker(t)
	behaviour := quick()
	behaviour.Hello, behaviour.PushEvery = true, 10*time.Millisecond
	ledger := NewLedger()
	startFleet(t, b, behaviour, ledger, directSite("d-1"))
	if u := b.next("event"); !strings.Contains(string(u.payload), `"hello"`) {
		t.Errorf("event %s", u.payload)
	}
	var m readingsMessage
	if err := json.Unmarshal(b.next("readings").payload, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Readings) != 2 || m.Readings[0].DeviceID != "d-1" {
		t.Errorf("readings %+v", m)
	}
	eventually(t, "PUBACKs", func() bool { return ledger.Acked() >= 4 })
}

// A result leaves the journal only after its PUBACK: a connection that breaks in between makes it come again, the same.
func TestJournalOutlivesTheConnection(t *testing.T) {
	b := startBroker(t)
	ledger := NewLedger()
	f := startFleet(t, b, quick(), ledger, directSite("d-1"))
	b.withhold(true)
	b.send("d-1", readCommand("c1", []meterread.Item{"1-0:1.8.0"}, command.Target{DeviceID: "d-1"}))
	first := b.next("result")
	if n := f.Counters().Journal; n != 1 {
		t.Fatalf("journal holds %d messages without PUBACK, want 1", n)
	}
	b.cut("d-1")
	second := b.next("result")
	if string(second.payload) != string(first.payload) {
		t.Errorf("came again as\n%s, was\n%s", second.payload, first.payload)
	}
	if first.dup || !second.dup {
		t.Errorf("DUP %v then %v, want false then true", first.dup, second.dup)
	}
	if c := f.Counters(); c.Journal != 1 || c.ReadingsAcked != 0 || ledger.Acked() != 0 {
		t.Errorf("counted as acknowledged without a PUBACK: %+v", c)
	}
	b.withhold(false)
	b.cut("d-1")
	b.next("result")
	eventually(t, "PUBACK", func() bool { return f.Counters().Journal == 0 })
	if c := f.Counters(); c.ReadingsAcked != 1 || c.Republished != 2 || c.Acted != 1 || c.Connects != 3 || ledger.Acked() != 1 {
		t.Errorf("%+v", c)
	}
}

// What is over the bound is neither taken up nor acknowledged.
func TestFullJournalTakesNothingUp(t *testing.T) {
	b := startBroker(t)
	behaviour := quick()
	behaviour.JournalSize = 1
	f := startFleet(t, b, behaviour, nil, directSite("d-1"))
	b.withhold(true)
	b.send("d-1", readCommand("c1", nil, command.Target{DeviceID: "d-1"}))
	b.next("result")
	b.send("d-1", readCommand("c2", nil, command.Target{DeviceID: "d-1"}))
	eventually(t, "refusal", func() bool { return f.Counters().RefusedFull == 1 })
	client, _ := b.server.Clients.Get("d-1")
	if n := client.State.Inflight.Len(); n != 1 {
		t.Errorf("%d commands without PUBACK, want 1", n)
	}
	if c := f.Counters(); c.Commands != 1 {
		t.Errorf("took %d commands up, want 1", c.Commands)
	}
}

func TestPUBACKThatDoesNotComeBreaksTheConnection(t *testing.T) {
	b := startBroker(t)
	behaviour := quick()
	behaviour.AckTimeout = 30 * time.Millisecond
	f := startFleet(t, b, behaviour, nil, directSite("d-1"))
	b.withhold(true)
	b.send("d-1", readCommand("c1", nil, command.Target{DeviceID: "d-1"}))
	b.next("result")
	b.next("result") // on a new connection
	b.withhold(false)
	eventually(t, "PUBACK", func() bool { return f.Counters().Journal == 0 })
	if c := f.Counters(); c.Connects < 2 || c.Acted != 1 {
		t.Errorf("%+v", c)
	}
}

func TestFaultsOnTheWire(t *testing.T) {
	read := readCommand("c1", []meterread.Item{"1-0:1.8.0"}, command.Target{DeviceID: "d-1"})
	t.Run("duplicate", func(t *testing.T) {
		b := startBroker(t)
		behaviour := quick()
		behaviour.Faults.Duplicate = 1
		ledger := NewLedger()
		f := startFleet(t, b, behaviour, ledger, directSite("d-1"))
		b.send("d-1", read)
		if one, two := b.next("result"), b.next("result"); string(one.payload) != string(two.payload) {
			t.Errorf("%s and %s", one.payload, two.payload)
		}
		eventually(t, "PUBACK", func() bool { return f.Counters().Journal == 0 })
		if c := f.Counters(); c.Duplicates != 1 || ledger.Acked() != 1 {
			t.Errorf("%+v", c)
		}
	})
	t.Run("garbage", func(t *testing.T) {
		b := startBroker(t)
		behaviour := quick()
		behaviour.Faults.Garbage = 1
		startFleet(t, b, behaviour, nil, directSite("d-1"))
		b.send("d-1", read)
		noise := b.next("result")
		if !slices.ContainsFunc(garbage, func(g []byte) bool { return string(g) == string(noise.payload) }) {
			t.Errorf("first came %q", noise.payload)
		}
		if r := b.results(1)[0]; r.Status != "ok" {
			t.Errorf("then came %+v", r)
		}
	})
	t.Run("offline", func(t *testing.T) {
		b := startBroker(t)
		behaviour := quick()
		behaviour.Faults.Offline = 1
		f := startFleet(t, b, behaviour, nil, directSite("d-1"))
		b.send("d-1", read)
		eventually(t, "reconnect", func() bool { c := f.Counters(); return c.Offline == 1 && c.Connects == 2 && c.Connected == 1 })
	})
	t.Run("lost, then repeated", func(t *testing.T) {
		b := startBroker(t)
		behaviour := quick()
		behaviour.Faults.Lost = 0.5
		f := startFleet(t, b, behaviour, nil, directSite("d-1"))
		// Asked again until it comes: the seed decides how often, the meter acts once.
		for attempt := 1; f.Counters().Results == 0; attempt++ {
			m := read
			m.Attempt = attempt
			lost := f.Counters().Lost
			b.send("d-1", m)
			eventually(t, "lost or sent", func() bool { c := f.Counters(); return c.Lost > lost || c.Results > 0 })
		}
		if c := f.Counters(); c.Acted != 1 {
			t.Errorf("acted %d times", c.Acted)
		}
	})
}

func TestCommandThatIsNoneIsAcknowledgedAndCounted(t *testing.T) {
	b := startBroker(t)
	f := startFleet(t, b, quick(), nil, directSite("d-1"))
	for _, payload := range []string{"{", `{"v":2}`, `{"v":1,"targets":7}`} {
		if err := b.server.Publish(mqtt.CommandTopic("d-1"), []byte(payload), false, 1); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "counted", func() bool { return f.Counters().BadCommands == 3 })
	client, _ := b.server.Clients.Get("d-1")
	eventually(t, "acknowledged", func() bool { return client.State.Inflight.Len() == 0 })
}

// A broker that is away when the fleet starts is found when it comes.
func TestFleetWaitsForTheBroker(t *testing.T) {
	dead, err := testkit.FreeAddress() // nobody listens there: the other one is tried next
	if err != nil {
		t.Fatal(err)
	}
	b := startBroker(t)
	sites := Layout{Prefix: "w", Direct: 20}.Sites()
	f, err := New(Options{Brokers: []string{dead, b.address}, Sites: sites, Behaviour: quick(), ConnectRate: 2000})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	select {
	case <-f.Ready():
	case <-time.After(patience):
		t.Errorf("not ready, %d wait", f.Waiting())
	}
	if c := f.Counters(); c.Connected != 20 || c.ConnectErrors == 0 || !strings.Contains(c.LastError, "refused") {
		t.Errorf("%+v", c)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := f.Counters().Connected; n != 0 {
		t.Errorf("%d still connected after Run", n)
	}
}

func TestNewRefuses(t *testing.T) {
	good := Options{Brokers: []string{"127.0.0.1:1"}, Sites: []Site{directSite("d-1")}, Behaviour: DefaultBehaviour()}
	cases := map[string]func(*Options){
		"no broker":  func(o *Options) { o.Brokers = nil },
		"no sites":   func(o *Options) { o.Sites = nil },
		"keep-alive": func(o *Options) { o.Behaviour.KeepAlive = 0 },
		"fault late": func(o *Options) { o.Behaviour.Faults.Late = 2 },
		"the same route": func(o *Options) {
			o.Sites = []Site{ipcSite("i", SiteMeter{"a", Route(1, "1")}, SiteMeter{"b", Route(1, "1")})}
		},
		"no array": func(o *Options) { o.Sites = []Site{ipcSite("i", SiteMeter{"a", json.RawMessage(`{}`)})} },
	}
	for want, spoil := range cases {
		o := good
		spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}
