package simulator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// fakeIssuer answers commands after a number of polls.
type fakeIssuer struct {
	mu     sync.Mutex
	orders []Order
	polls  map[meterread.CommandID]int
	keys   map[string]bool
	after  int // polls until a command has ended; negative: never
	refuse error
	large  bool // operations come by pages only
	failed int  // of each command's operations
}

func (f *fakeIssuer) Issue(_ context.Context, o Order, key string) (CommandView, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return CommandView{}, f.refuse
	}
	if f.polls == nil {
		f.polls, f.keys = map[meterread.CommandID]int{}, map[string]bool{}
	}
	f.keys[key] = true
	f.orders = append(f.orders, o)
	id := meterread.CommandID(fmt.Sprint(len(f.orders) - 1))
	return CommandView{ID: id, Status: "running", Counts: command.Counts{Total: len(o.Targets.DeviceIDs)}}, nil
}

func (f *fakeIssuer) view(id meterread.CommandID) CommandView {
	var n int
	_, _ = fmt.Sscan(string(id), &n)
	devices := f.orders[n].Targets.DeviceIDs
	c := CommandView{ID: id, Status: "running", Counts: command.Counts{Total: len(devices), Sent: len(devices)}}
	if f.after < 0 || f.polls[id] < f.after {
		return c
	}
	c.Status, c.Errors = "partial", map[string]int{"BUS_TIMEOUT": f.failed}
	c.Counts = command.Counts{Total: len(devices), Succeeded: len(devices) - f.failed, Failed: f.failed}
	for i, d := range devices {
		o := OperationView{DeviceID: d, State: "failed"}
		if i >= f.failed {
			o.State, o.Readings = "succeeded", []ReadingView{{DeviceID: d, ReceivedAt: time.Now()}, {DeviceID: d}}
		}
		c.Operations = append(c.Operations, o)
	}
	return c
}

func (f *fakeIssuer) Command(_ context.Context, id meterread.CommandID) (CommandView, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.polls[id]++
	c := f.view(id)
	if f.large {
		c.Operations = nil
	}
	return c, nil
}

func (f *fakeIssuer) Operations(_ context.Context, id meterread.CommandID, each func(OperationView)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.view(id).Operations {
		each(o)
	}
	return nil
}

// runUntil runs the loader until enough has come of it: how much comes of a time is the machine's affair.
func runUntil(t *testing.T, l *Loader, what string, enough func(LoadResult) bool) LoadResult {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var err error
	var running sync.WaitGroup
	running.Go(func() { err = l.Run(ctx) })
	defer running.Wait()
	defer stop()
	eventually(t, what, func() bool { return enough(l.Result()) })
	stop()
	running.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return l.Result()
}

func testLoad() Load {
	return Load{Rate: 1000, CommandSize: 3, Targets: TargetIDs,
		Devices: []meterread.DeviceID{"a", "b", "c", "d"}, Items: []meterread.Item{"1-0:1.8.0"}, Mode: command.Realtime,
		Timeout: 30 * time.Second, Poll: time.Millisecond, Drain: patience, MaxOpen: 1000}
}

func TestLoadFollowsCommandsToTheirEnd(t *testing.T) {
	for _, large := range []bool{false, true} {
		f := &fakeIssuer{after: 2, failed: 1, large: large}
		r := runUntil(t, NewLoader(testLoad(), f), "commands", func(r LoadResult) bool { return r.Issued >= 20 })
		n := len(f.orders)
		if n < 2 || r.Issued != n || len(f.keys) != n || r.Unfinished != 0 || r.Refused != 0 || r.PollErrors != 0 {
			t.Errorf("large %v: %+v of %d orders", large, r, n)
		}
		if r.Operations != 3*n || r.States.Succeeded != 2*n || r.States.Failed != n || r.Codes["BUS_TIMEOUT"] != n {
			t.Errorf("large %v: %+v of %d orders", large, r, n)
		}
		if r.Readings != 4*n || r.Seen.Count != 2*n || r.Received.Count != 2*n || r.Seen.Max < r.Seen.P50 || r.Seen.P50 <= 0 || r.PerSecond <= 0 {
			t.Errorf("large %v: %+v of %d orders", large, r, n)
		}
		if o := f.orders[0]; o.TimeoutS != 30 || o.Kind != command.MeterRead || o.Mode != command.Realtime {
			t.Errorf("order %+v", o)
		}
	}
}

func TestLoadHoldsBackAndGivesUp(t *testing.T) {
	load := testLoad()
	load.MaxOpen, load.Drain = 2, time.Millisecond
	r := runUntil(t, NewLoader(load, &fakeIssuer{after: -1}), "a command that is held back", func(r LoadResult) bool { return r.Issued == 2 && r.HeldBack > 0 })
	if r.Issued != 2 || r.Unfinished != 2 || r.States.Sent != 6 {
		t.Errorf("%+v", r)
	}
}

func TestLoadThatCannotIssueFails(t *testing.T) {
	load := testLoad()
	load.Duration = 50 * time.Millisecond
	l := NewLoader(load, &fakeIssuer{refuse: errors.New("503 no")})
	if err := l.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "503 no") {
		t.Errorf("%v", err)
	}
}

func TestLoadTargets(t *testing.T) {
	for targets, want := range map[Targets]command.Selector{TargetGroup: {Group: "g"}, TargetAll: {All: true}} {
		load := testLoad()
		load.Targets, load.Group = targets, "g"
		o, ok := NewLoader(load, nil).nextOrder()
		if !ok || o.Targets.Group != want.Group || o.Targets.All != want.All || o.Targets.DeviceIDs != nil {
			t.Errorf("%s: %+v", targets, o)
		}
	}
}

// Devices have their turns.
func TestLoadTakesDevicesInTurn(t *testing.T) {
	l := NewLoader(testLoad(), nil)
	one, _ := l.nextOrder()
	two, _ := l.nextOrder()
	if got := fmt.Sprint(one.Targets.DeviceIDs, two.Targets.DeviceIDs); got != "[a b c] [d a b]" {
		t.Errorf("targets %s", got)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fakeIssuer{after: 1}
	l := NewLoader(testLoad(), f)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	eventually(t, "commands", func() bool { return l.Result().Issued > 3 })
	cancel()
	select {
	case err := <-ended:
		if r := l.Result(); err != nil || r.Unfinished != 0 {
			t.Errorf("%v, %+v", err, r) // what was issued is still followed to its end
		}
	case <-time.After(patience):
		t.Fatal("did not end")
	}
}
