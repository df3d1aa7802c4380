package simulator

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
	"meterline/mqtt"
)

// notebook is an Observer that writes down one line per event.
type notebook struct {
	mu    sync.Mutex
	lines []string
}

func (n *notebook) note(what ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, strings.Join(what, " "))
}

func (n *notebook) count(prefix string) (found int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.lines {
		if strings.HasPrefix(l, prefix) {
			found++
		}
	}
	return found
}

func (n *notebook) at(line string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Index(n.lines, line)
}

func (n *notebook) Connected(e meterread.DeviceID, _ string)    { n.note("connected", string(e)) }
func (n *notebook) Disconnected(e meterread.DeviceID, _ string) { n.note("disconnected", string(e)) }
func (n *notebook) Published(_ meterread.DeviceID, u Uplink, copies int) {
	n.note("published", string(u.Channel), u.ID)
	if copies == 2 {
		n.note("twice", u.ID)
	}
}
func (n *notebook) Resent(_ meterread.DeviceID, id string)       { n.note("resent", id) }
func (n *notebook) Acknowledged(_ meterread.DeviceID, id string) { n.note("acknowledged", id) }
func (n *notebook) Received(_ meterread.DeviceID, m *command.Message) {
	n.note("received", string(m.CommandID))
}
func (n *notebook) Taken(_ meterread.DeviceID, m *command.Message) {
	n.note("taken", string(m.CommandID))
}
func (n *notebook) Twin(e meterread.DeviceID, connected bool) {
	n.note("twin", string(e), strconv.FormatBool(connected))
}
func (n *notebook) Executed(_ meterread.DeviceID, m *command.Message, d meterread.DeviceID) {
	n.note("executed", string(m.CommandID), string(d))
}
func (n *notebook) Repeated(_ meterread.DeviceID, m *command.Message, d meterread.DeviceID) {
	n.note("repeated", string(m.CommandID), string(d))
}

func startObserved(t *testing.T, b *testBroker, behaviour Behaviour, sites ...Site) (*Fleet, *notebook) {
	t.Helper()
	seen := &notebook{}
	f, err := New(Options{Brokers: []string{b.address}, Sites: sites, Behaviour: behaviour, Observer: seen})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	select {
	case <-f.Ready():
	case <-time.After(patience):
		t.Fatalf("fleet not ready: %+v", f.Counters())
	}
	return f, seen
}

// An observer hears of every step in its order: before what follows from it can be seen from outside.
func TestObserverHearsOfEveryStep(t *testing.T) {
	b := startBroker(t)
	behaviour := quick()
	behaviour.Faults.Duplicate = 1
	f, seen := startObserved(t, b, behaviour, directSite("d-1"))
	b.send("d-1", readCommand("c1", []meterread.Item{"1-0:1.8.0"}, command.Target{DeviceID: "d-1"}))
	b.results(1)
	b.send("d-1", readCommand("c1", []meterread.Item{"1-0:1.8.0"}, command.Target{DeviceID: "d-1"}))
	if !f.Hand(t.Context(), "d-1", Uplink{ID: "odd", Channel: mqtt.Readings, Payload: []byte("nonsense")}) {
		t.Fatal("the endpoint took nothing")
	}
	eventually(t, "all PUBACKs", func() bool { return seen.count("acknowledged") == 3 })
	for what, want := range map[string]int{
		"connected d-1": 1, "received c1": 2, "taken c1": 2, "executed c1 d-1": 1, "repeated c1 d-1": 1, "published result": 2, "twice": 2,
		"published readings odd": 1, "acknowledged odd": 1, "disconnected": 0,
	} {
		if got := seen.count(what); got != want {
			t.Errorf("%q was heard %d times, want %d: %q", what, got, want, seen.lines)
		}
	}
	for _, order := range [][2]string{
		{"connected d-1", "received c1"}, {"received c1", "executed c1 d-1"}, {"published readings odd", "acknowledged odd"},
	} {
		if seen.at(order[0]) > seen.at(order[1]) {
			t.Errorf("%q before %q: %q", order[1], order[0], seen.lines)
		}
	}
	if f.Hand(t.Context(), "d-2", Uplink{}) || f.Cut(t.Context(), "d-2") {
		t.Error("somebody who is not there takes orders")
	}
}

// A cut connection is made again, and what had no PUBACK goes out once more.
func TestCutBringsResends(t *testing.T) {
	b := startBroker(t)
	b.withhold(true)
	f, seen := startObserved(t, b, quick(), directSite("d-1"))
	b.send("d-1", readCommand("c1", []meterread.Item{"1-0:1.8.0"}, command.Target{DeviceID: "d-1"}))
	b.next("result")
	b.withhold(false) // before the cut: what comes after it must not wait for a PUBACK again
	f.Cut(t.Context(), "d-1")
	eventually(t, "it goes out again, with the reading of the cut", func() bool { return seen.count("acknowledged") == 2 })
	if seen.count("resent") != 2 || seen.count("disconnected d-1") != 1 || seen.count("connected d-1") != 2 {
		t.Errorf("%q", seen.lines)
	}
}

// A twin takes the session over, and the endpoint takes it back.
func TestTwin(t *testing.T) {
	b := startBroker(t)
	b.allowTwins()
	behaviour := quick()
	// The endpoint is not back before the twin has subscribed, which may take its time on a busy machine.
	behaviour.RetryMin, behaviour.RetryMax = 2*time.Second, 2*time.Second
	f, seen := startObserved(t, b, behaviour, directSite("d-1"))
	f.Twin(t.Context(), "d-1") // until it is disconnected
	eventually(t, "the endpoint is back", func() bool { return seen.count("connected d-1") == 2 })
	if seen.at("twin d-1 false") > seen.at("twin d-1 true") || seen.count("twin") != 2 || seen.count("disconnected d-1") != 1 {
		t.Errorf("%q", seen.lines)
	}
}

func TestPushingStops(t *testing.T) {
	b := startBroker(t)
	behaviour := quick()
	behaviour.PushEvery = 5 * time.Millisecond
	f, seen := startObserved(t, b, behaviour, directSite("d-1"))
	eventually(t, "readings nobody asked for", func() bool { return seen.count("published readings") > 3 })
	f.StopPushing()
	eventually(t, "an empty journal", func() bool { return f.Counters().Journal == 0 })
	after := seen.count("published readings")
	f.Hand(t.Context(), "d-1", Uplink{ID: "last", Channel: mqtt.Event, Payload: []byte(`{}`)})
	eventually(t, "the last one", func() bool { return seen.at("acknowledged last") >= 0 })
	if more := seen.count("published readings") - after; more > 1 { // one may have been on its way
		t.Errorf("%d more were pushed", more)
	}
}
