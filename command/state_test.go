package command

import (
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The states in the words of the design: forward steps may be skipped, what is in flight may go back, what is open may
// be ended from outside, and an end is an end.
func TestStateMachine(t *testing.T) {
	t.Parallel()
	forward := map[State]int{Queued: 0, Sent: 1, Delivered: 2, Accepted: 3, Succeeded: 4, Failed: 4}
	for _, from := range States {
		open := slices.Contains([]State{Queued, Sent, Delivered, Accepted}, from)
		if from.Open() != open {
			t.Errorf("%s.Open() = %t", from, from.Open())
		}
		if from.InFlight() != (open && from != Queued) {
			t.Errorf("%s.InFlight() = %t", from, from.InFlight())
		}
		for _, to := range States {
			step, ahead := forward[to]
			want := open && (ahead && step > forward[from] || // forward, skipping or not
				to == Queued && from != Queued || // back, to be sent again
				to == Expired || to == Cancelled || to == Dead)
			if got := from.CanBecome(to); got != want {
				t.Errorf("%s can become %s: %t, want %t", from, to, got, want)
			}
		}
		if from.CanBecome("") || from.CanBecome("lost") || State("lost").CanBecome(from) {
			t.Errorf("%s is connected with a state that does not exist", from)
		}
	}
	if len(States) != 9 || len(slices.Compact(slices.Sorted(slices.Values(States)))) != 9 {
		t.Errorf("States = %v, want nine different ones", States)
	}
	for from, tos := range next {
		for _, s := range append(tos, from) {
			if !slices.Contains(States, s) {
				t.Errorf("the table names %s, States does not", s)
			}
		}
	}
}

// step is a method of Operation that moves it.
type step struct {
	name string
	to   State
	from []State // from which it may be made
	make func(*Operation, time.Time) error
}

var (
	openStates     = []State{Queued, Sent, Delivered, Accepted}
	inFlightStates = []State{Sent, Delivered, Accepted}
)

const (
	testLease = 15 * time.Second
	testWait  = 5 * time.Second
)

var testSession = Session{Endpoint: "ipc-1", Gateway: "gw-1", Incarnation: "7f", Epoch: 42}

var everyStep = []step{
	{"Claim", Sent, []State{Queued}, func(o *Operation, at time.Time) error { return o.Claim(at, testSession, "msg-1", testLease) }},
	{"Deliver", Delivered, []State{Sent}, func(o *Operation, at time.Time) error { return o.Deliver(at, testLease) }},
	{"Accept", Accepted, []State{Queued, Sent, Delivered}, func(o *Operation, at time.Time) error { return o.Accept(at, testLease) }},
	{"Succeed", Succeeded, openStates, func(o *Operation, at time.Time) error { return o.Succeed(at) }},
	{"Fail", Failed, openStates, func(o *Operation, at time.Time) error {
		return o.Fail(at, Failure{Code: "BUS_TIMEOUT", Message: "silence"})
	}},
	{"Requeue counted", Queued, inFlightStates, func(o *Operation, at time.Time) error { return o.Requeue(at, at.Add(testWait), true, "no answer") }},
	{"Requeue uncounted", Queued, inFlightStates, func(o *Operation, at time.Time) error { return o.Requeue(at, at, false, "endpoint gone") }},
	{"Die", Dead, openStates, func(o *Operation, at time.Time) error { return o.Die(at) }},
	{"Expire", Expired, openStates, func(o *Operation, at time.Time) error { return o.Expire(at) }},
	{"Cancel", Cancelled, openStates, func(o *Operation, at time.Time) error { return o.Cancel(at, "by a user") }},
}

// stepNamed finds a step; the name must be one.
func stepNamed(t *testing.T, name string) step {
	t.Helper()
	i := slices.IndexFunc(everyStep, func(s step) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("no step %s", name)
	}
	return everyStep[i]
}

// operationIn is an operation that came to the state by the usual way.
func operationIn(t *testing.T, s State) *Operation {
	t.Helper()
	way := map[State][]string{
		Sent: {"Claim"}, Delivered: {"Claim", "Deliver"}, Accepted: {"Claim", "Deliver", "Accept"},
		Succeeded: {"Claim", "Deliver", "Accept", "Succeed"}, Failed: {"Claim", "Deliver", "Accept", "Fail"},
		Expired: {"Expire"}, Cancelled: {"Cancel"}, Dead: {"Claim", "Die"},
	}
	o := Born(testCommand(), testCandidate(), testNow)
	for i, name := range way[s] {
		if err := stepNamed(t, name).make(o, testNow.Add(time.Duration(i+1)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if o.State != s {
		t.Fatalf("the way to %s leads to %s", s, o.State)
	}
	return o
}

// Every method from every state: it leads where it should, or answers an error and changes nothing.
func TestEveryStepFromEveryState(t *testing.T) {
	t.Parallel()
	at := testNow.Add(time.Minute)
	for _, from := range States {
		for _, s := range everyStep {
			o := operationIn(t, from)
			before := cloneOperation(o)
			err := s.make(o, at)
			if slices.Contains(s.from, from) {
				if err != nil || o.State != s.to {
					t.Errorf("%s from %s: %s, %v; want %s", s.name, from, o.State, err, s.to)
				}
				if !from.CanBecome(s.to) {
					t.Errorf("%s from %s is outside the state machine", s.name, from)
				}
				continue
			}
			if !errors.Is(err, errMove) {
				t.Errorf("%s from %s: error %v, want errMove", s.name, from, err)
			}
			if err != nil && (!strings.Contains(err.Error(), string(from)) || !strings.Contains(err.Error(), string(s.to))) {
				t.Errorf("%s from %s: %q does not name the step", s.name, from, err)
			}
			wantUnchanged(t, before, o)
		}
	}
}

const lifecycle = "../docs/command-lifecycle.md"

// The diagram that people read shows the states and steps of the code: every arrow is a step, and every step is an
// arrow or skips arrows that lead forward.
func TestDiagramAgrees(t *testing.T) {
	t.Parallel()
	arrows := diagram(t)
	seen := map[State]bool{}
	for from, tos := range arrows {
		for to := range tos {
			seen[from], seen[to] = true, true
			if !from.CanBecome(to) {
				t.Errorf("the diagram has %s --> %s, the code has not", from, to)
			}
		}
	}
	if got, want := slices.Sorted(maps.Keys(seen)), slices.Sorted(slices.Values(States)); !slices.Equal(got, want) {
		t.Errorf("the diagram has the states %v, the code %v", got, want)
	}
	for from, tos := range next {
		for _, to := range tos {
			if !arrows[from][to] && (to == Queued || !leadsForward(arrows, from, to)) {
				t.Errorf("the code has %s --> %s, the diagram has not", from, to)
			}
		}
	}
}

var (
	mermaidBlock = regexp.MustCompile("(?s)```mermaid\\s*\n(.*?)```")
	mermaidArrow = regexp.MustCompile(`^\s*(\[\*\]|\w+)\s*-->\s*(\[\*\]|\w+)\s*(?::.*)?$`)
	mermaidAlias = regexp.MustCompile(`^\s*state\s+"[^"]*"\s+as\s+(\w+)\s*$`)
)

// diagram reads the arrows of the mermaid block, in small letters. A name that is declared with `state "…" as name` and
// is no state stands for every open one. What begins or ends at [*] is no step.
func diagram(t *testing.T) map[State]map[State]bool {
	t.Helper()
	text, err := os.ReadFile(lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	block := mermaidBlock.FindStringSubmatch(strings.ToLower(string(text)))
	if block == nil {
		t.Fatalf("%s has no mermaid block", lifecycle)
	}
	anyOpen := map[string]bool{}
	arrows := map[State]map[State]bool{}
	for line := range strings.Lines(block[1]) {
		line = strings.TrimRight(line, "\r\n")
		if alias := mermaidAlias.FindStringSubmatch(line); alias != nil {
			anyOpen[alias[1]] = !slices.Contains(States, State(alias[1]))
		}
		arrow := mermaidArrow.FindStringSubmatch(line)
		if arrow == nil {
			if strings.Contains(line, "-->") {
				t.Errorf("cannot read the arrow %q", line)
			}
			continue
		}
		if arrow[1] == "[*]" || arrow[2] == "[*]" {
			continue
		}
		froms := []State{State(arrow[1])}
		if anyOpen[arrow[1]] {
			froms = openStates
		}
		for _, from := range froms {
			if arrows[from] == nil {
				arrows[from] = map[State]bool{}
			}
			arrows[from][State(arrow[2])] = true
		}
	}
	if len(arrows) == 0 {
		t.Fatalf("the mermaid block of %s has no arrows", lifecycle)
	}
	return arrows
}

// leadsForward says whether arrows lead from one state to the other without going back to the queue.
func leadsForward(arrows map[State]map[State]bool, from, to State) bool {
	for via := range arrows[from] {
		if via == to || via != Queued && leadsForward(arrows, via, to) {
			return true
		}
	}
	return false
}

// The table of all steps beside the diagram, `| from | x | | …`, is the table of the code, where there is one.
func TestTableInTheDocsAgrees(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	var columns []string
	rows := map[State]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.ToLower(strings.Trim(cells[i], " `"))
		}
		switch from := State(cells[0]); {
		case strings.HasPrefix(string(from), "from"):
			columns = cells
		case len(cells) != len(columns) || !slices.Contains(States, from):
			if len(rows) > 0 && len(rows) == len(States) {
				columns = nil // below the table
			}
		default:
			rows[from] = true
			for i, cell := range cells[1:] {
				if to := State(columns[i+1]); from.CanBecome(to) != (cell != "") {
					t.Errorf("from %s to %s the docs say %q, the code %t", from, to, cell, from.CanBecome(to))
				}
			}
		}
	}
	if len(rows) != len(States) {
		t.Errorf("the table has rows for %d of %d states", len(rows), len(States))
	}
}
