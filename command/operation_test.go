package command

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meterline/fleet"
	"meterline/meterread"
)

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testCommand() Command {
	return Command{
		ID: "0192f0c1-2b3c-7d4e-8f50-123456789abc", Seq: 7, Tenant: "acme", Kind: MeterRead, Mode: Async, Priority: 5,
		Items: []meterread.Item{"1-0:1.8.0", "1-0:2.8.0"}, Attempts: 5, CreatedAt: testNow, ExpiresAt: testNow.Add(24 * time.Hour),
	}
}

func testCandidate() Candidate {
	return Candidate{DeviceID: "m-001", Partition: 3, Info: fleet.Info{Name: "Meter 1", Kind: fleet.Meter, EndpointID: "ipc-1"}}
}

// cloneOperation is a copy that shares nothing that moves.
func cloneOperation(o *Operation) *Operation {
	c := *o
	c.Moves, c.Readings = slices.Clone(o.Moves), slices.Clone(o.Readings)
	if o.Error != nil {
		why := *o.Error
		c.Error = &why
	}
	return &c
}

type failer interface {
	Helper()
	Errorf(format string, args ...any)
}

func wantUnchanged(t failer, before, after *Operation) {
	t.Helper()
	if !reflect.DeepEqual(before, after) {
		t.Errorf("changed by what was refused:\nbefore %+v\nafter  %+v", before, after)
	}
}

var deliveries = []Delivery{NeverSent, MaybeSent, Acked} // as they rise

// Whatever is tried in whatever order, an operation keeps its promises.
func TestOperationProperties(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("CET", 3600)
	rapid.Check(t, func(t *rapid.T) {
		o := Born(testCommand(), testCandidate(), testNow)
		at := testNow.In(zone)
		tries := rapid.SliceOfN(rapid.IntRange(0, len(everyStep)), 1, 40).Draw(t, "steps")
		for _, n := range tries {
			at = at.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			before := cloneOperation(o)
			if n == len(everyStep) {
				o.Late(at)
				checkLate(t, before, o, at)
				continue
			}
			s := everyStep[n]
			if err := s.make(o, at); err != nil {
				if !errors.Is(err, errMove) || slices.Contains(s.from, before.State) {
					t.Errorf("%s from %s: %v", s.name, before.State, err)
				}
				wantUnchanged(t, before, o)
				continue
			}
			checkStep(t, s, before, o, at)
		}
	})
}

// checkStep checks what a step that was taken left behind.
func checkStep(t failer, s step, before, after *Operation, at time.Time) {
	t.Helper()
	if !before.State.Open() {
		t.Errorf("%s changed the end %s", s.name, before.State)
	}
	if !slices.Contains(s.from, before.State) || after.State != s.to {
		t.Errorf("%s led from %s to %s", s.name, before.State, after.State)
	}
	if after.Version != before.Version+1 {
		t.Errorf("%s: version %d after %d", s.name, after.Version, before.Version)
	}
	if slices.Index(deliveries, after.Delivery) < slices.Index(deliveries, before.Delivery) {
		t.Errorf("%s: delivery fell from %s to %s", s.name, before.Delivery, after.Delivery)
	}
	attempts := before.Attempts
	switch {
	case s.name == "Claim":
		attempts++
	case s.name == "Requeue uncounted" && before.State == Sent: // it never reached the endpoint
		attempts--
	case (s.to == Succeeded || s.to == Failed) && attempts == 0 && before.Delivery != NeverSent: // it did
		attempts = 1
	}
	if after.Attempts != attempts || after.Attempts < 0 {
		t.Errorf("%s from %s: attempts %d after %d, want %d", s.name, before.State, after.Attempts, before.Attempts, attempts)
	}
	if len(after.Moves) != len(before.Moves)+1 || !reflect.DeepEqual(after.Moves[:len(before.Moves)], before.Moves) {
		t.Errorf("%s: the moves are %+v after %+v", s.name, after.Moves, before.Moves)
	}
	last := after.Moves[len(after.Moves)-1]
	if last.State != after.State || last.At != at.UTC() || after.UpdatedAt != at.UTC() {
		t.Errorf("%s: last move %+v of an operation that is %s since %s, want %s", s.name, last, after.State, after.UpdatedAt, at.UTC())
	}
	if (after.Error != nil) != (after.State == Failed || after.State == Dead) {
		t.Errorf("%s: %s with error %v", s.name, after.State, after.Error)
	}
}

// checkLate checks that a late result is noted once and moves nothing.
func checkLate(t failer, before, after *Operation, at time.Time) {
	t.Helper()
	want := cloneOperation(before)
	if before.LateResultAt.IsZero() {
		want.LateResultAt, want.UpdatedAt, want.Version = at.UTC(), at.UTC(), before.Version+1
	}
	if !reflect.DeepEqual(after, want) {
		t.Errorf("late result:\ngot  %+v\nwant %+v", after, want)
	}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	o := Born(testCommand(), testCandidate(), testNow)
	if err := o.Claim(testNow, testSession, "msg-1", testLease); err != nil {
		t.Fatal(err)
	}
	if o.Attempts != 1 || o.Delivery != MaybeSent || o.MessageID != "msg-1" || o.Gateway != "gw-1/7f" || o.Epoch != 42 ||
		!o.LeaseUntil.Equal(testNow.Add(testLease)) {
		t.Errorf("claimed: %+v", o)
	}
	if got, want := o.Moves[1], (Move{State: Sent, At: testNow, Attempt: 1, Endpoint: "ipc-1", Gateway: "gw-1"}); got != want {
		t.Errorf("move %+v, want %+v", got, want)
	}
	if err := o.Deliver(testNow.Add(time.Second), time.Minute); err != nil {
		t.Fatal(err)
	}
	if o.Delivery != Acked || !o.LeaseUntil.Equal(testNow.Add(61*time.Second)) {
		t.Errorf("delivered: %s, lease until %s", o.Delivery, o.LeaseUntil)
	}
	if err := o.Accept(testNow.Add(2*time.Second), time.Minute); err != nil {
		t.Fatal(err)
	}
	if !o.LeaseUntil.Equal(testNow.Add(62 * time.Second)) {
		t.Errorf("accepted: lease until %s", o.LeaseUntil)
	}
	// The second attempt knows that the endpoint had the first.
	if err := o.Requeue(testNow.Add(time.Minute), testNow.Add(2*time.Minute), true, "no answer"); err != nil {
		t.Fatal(err)
	}
	if !o.NextAt.Equal(testNow.Add(2*time.Minute)) || o.Moves[4].Reason != "no answer" {
		t.Errorf("queued again: next at %s, move %+v", o.NextAt, o.Moves[4])
	}
	if err := o.Claim(testNow.Add(2*time.Minute), testSession, "msg-2", testLease); err != nil {
		t.Fatal(err)
	}
	if o.Attempts != 2 || o.Delivery != Acked || o.MessageID != "msg-2" || o.Moves[5].Attempt != 2 {
		t.Errorf("claimed again: %+v", o)
	}
}

// An attempt counts once the endpoint has it, whatever the reason for the way back.
func TestRequeueCounts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ways    []string
		counted bool
		want    int
	}{
		{[]string{"Claim"}, true, 1},
		{[]string{"Claim"}, false, 0},
		{[]string{"Claim", "Deliver"}, true, 1},
		{[]string{"Claim", "Deliver"}, false, 1},
		{[]string{"Claim", "Accept"}, false, 1},
		{[]string{"Claim", "Requeue uncounted", "Claim"}, false, 0},
		{[]string{"Claim", "Requeue counted", "Claim"}, false, 1},
		{[]string{"Claim", "Requeue counted", "Claim"}, true, 2},
		{[]string{"Claim", "Requeue uncounted", "Accept"}, false, 0}, // an ack that overtook the way back
		{[]string{"Accept"}, false, 0},
		{[]string{"Accept"}, true, 0},
	} {
		o := Born(testCommand(), testCandidate(), testNow)
		for _, name := range tc.ways {
			if err := stepNamed(t, name).make(o, testNow); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Requeue(testNow, testNow, tc.counted, "because"); err != nil {
			t.Fatal(err)
		}
		if o.Attempts != tc.want {
			t.Errorf("%v, back with counted=%t: %d attempts, want %d", tc.ways, tc.counted, o.Attempts, tc.want)
		}
	}
}

func TestEndsSayWhy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		state    State
		delivery Delivery
		why      *Failure
	}{
		{Succeeded, Acked, nil},
		{Failed, Acked, &Failure{Code: "BUS_TIMEOUT", Message: "silence"}},
		{Dead, MaybeSent, &Failure{Code: CodeAttemptsUsedUp, Message: "no answer to any attempt"}},
		{Expired, NeverSent, nil},
		{Cancelled, NeverSent, nil},
	} {
		o := operationIn(t, tc.state)
		if o.Delivery != tc.delivery || !reflect.DeepEqual(o.Error, tc.why) {
			t.Errorf("%s: delivery %s and error %+v, want %s and %+v", tc.state, o.Delivery, o.Error, tc.delivery, tc.why)
		}
	}
	// What overtook the claim shows all the same that the endpoint had it.
	o := Born(testCommand(), testCandidate(), testNow)
	if err := o.Succeed(testNow); err != nil || o.Delivery != Acked {
		t.Errorf("succeeded out of the queue: %s, %v", o.Delivery, err)
	}
	o = operationIn(t, Sent)
	if err := o.Cancel(testNow, "device disabled"); err != nil || o.Delivery != MaybeSent || o.Moves[2].Reason != "device disabled" {
		t.Errorf("cancelled on its way: %s, %+v, %v; the device may still act", o.Delivery, o.Moves, err)
	}
}

func TestOver(t *testing.T) {
	t.Parallel()
	deadline := testCommand().ExpiresAt
	for _, tc := range []struct {
		name  string
		state State
		at    time.Time
		shown bool
		want  bool
	}{
		{"in time", Sent, testNow, false, false},
		{"in time, though back in the queue", Queued, testNow, false, false},
		{"at the last moment", Accepted, deadline.Add(-time.Microsecond), false, false},
		{"at the deadline", Accepted, deadline, false, true},
		{"after the deadline", Sent, deadline.Add(time.Hour), false, true},
		{"in time, but somebody was told that it expired", Sent, testNow, true, true},
		{"after the end", Succeeded, testNow, false, true},
		{"after it was cancelled", Cancelled, testNow, false, true},
	} {
		o := operationIn(t, tc.state)
		o.ShownExpired = tc.shown
		if got := o.Over(tc.at); got != tc.want {
			t.Errorf("%s: Over = %t, want %t", tc.name, got, tc.want)
		}
	}
}

func TestSpokenForBy(t *testing.T) {
	t.Parallel()
	o := operationIn(t, Sent)
	if err := o.Requeue(testNow, testNow, true, "no answer"); err != nil {
		t.Fatal(err)
	}
	o.EndpointID = "ipc-2" // the device moved
	if err := o.Claim(testNow, testSession, "msg-2", testLease); err != nil {
		t.Fatal(err)
	}
	o.EndpointID = "ipc-3"
	for endpoint, want := range map[meterread.DeviceID]bool{"ipc-1": true, "ipc-2": true, "ipc-3": true, "ipc-4": false, "m-001": false, "": false} {
		if got := o.SpokenForBy(endpoint); got != want {
			t.Errorf("SpokenForBy(%q) = %t, want %t", endpoint, got, want)
		}
	}
}

func TestBorn(t *testing.T) {
	t.Parallel()
	c, d := testCommand(), testCandidate()
	o := Born(c, d, testNow)
	want := &Operation{
		CommandID: c.ID, DeviceID: "m-001", Tenant: "acme", Kind: MeterRead, Priority: 5, Seq: 7, MaxAttempts: 5,
		CreatedAt: testNow, ExpiresAt: c.ExpiresAt, EndpointID: "ipc-1", Partition: 3, Device: d.Info,
		State: Queued, Delivery: NeverSent, NextAt: testNow, Version: 1, UpdatedAt: testNow, Moves: []Move{{State: Queued, At: testNow}},
	}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got  %+v\nwant %+v", o, want)
	}
	if o.Key() != (Key{c.ID, "m-001"}) {
		t.Errorf("key %v", o.Key())
	}
	c.NotBefore = testNow.Add(time.Hour)
	if o := Born(c, d, testNow); !o.NextAt.Equal(c.NotBefore) || o.State != Queued {
		t.Errorf("not before %s, but next at %s", c.NotBefore, o.NextAt)
	}
	c.NotBefore = testNow.Add(-time.Hour)
	if o := Born(c, d, testNow); !o.NextAt.Equal(testNow) {
		t.Errorf("not before a time that is over, but next at %s", o.NextAt)
	}
	c.CancelledAt = testNow.Add(-time.Second)
	if o := Born(c, d, testNow); o.State != Cancelled || o.Delivery != NeverSent || o.Version != 2 || len(o.Moves) != 2 {
		t.Errorf("born of a cancelled command: %+v", o)
	}
	c.MaxAge, d.Newest = time.Hour, stock(testNow, testNow)
	if o := Born(c, d, testNow); o.State != Cancelled || o.FromStock {
		t.Errorf("born of a cancelled command, though there is stock: %+v", o)
	}
}

// stock is a reading of each of the items of testCommand, read and received at that times.
func stock(readAt, receivedAt time.Time) []meterread.Reading {
	r := meterread.Reading{DeviceID: "m-001", Item: "1-0:1.8.0", Value: "1", ReadAt: readAt, ReceivedAt: receivedAt, Quality: meterread.Valid}
	other := r
	other.Item = "1-0:2.8.0"
	return []meterread.Reading{r, other}
}

func TestBornFromStock(t *testing.T) {
	t.Parallel()
	const age = 15 * time.Minute
	ago := func(d time.Duration) time.Time { return testNow.Add(-d) }
	with := func(rs []meterread.Reading, change func(*meterread.Reading)) []meterread.Reading {
		change(&rs[1])
		return rs
	}
	for _, tc := range []struct {
		name   string
		maxAge time.Duration
		newest []meterread.Reading
		want   bool
	}{
		{"both young", age, stock(ago(time.Minute), ago(time.Minute)), true},
		{"as old as may be", age, stock(ago(age), ago(age)), true},
		{"a little too old", age, stock(ago(age+time.Microsecond), ago(time.Minute)), false},
		{"always ask", 0, stock(testNow, testNow), false},
		{"always ask, and nothing there", 0, nil, false},
		{"nothing there", age, nil, false},
		{"one item missing", age, stock(testNow, testNow)[:1], false},
		{"one item too old", age, with(stock(testNow, testNow), func(r *meterread.Reading) { r.ReadAt = ago(time.Hour) }), false},
		{"read long ago, received just now", age, stock(ago(24*time.Hour), testNow), false},
		{"a clock that is ahead, received long ago", age, stock(testNow.Add(time.Hour), ago(time.Hour)), false},
		{"a clock that is ahead, received just now", age, stock(testNow.Add(time.Hour), ago(time.Minute)), true},
		{"one is invalid", age, with(stock(testNow, testNow), func(r *meterread.Reading) { r.Quality = meterread.Invalid }), false},
		{"one is estimated", age, with(stock(testNow, testNow), func(r *meterread.Reading) { r.Quality = meterread.Estimated }), true},
	} {
		c, d := testCommand(), testCandidate()
		c.MaxAge, d.Newest = tc.maxAge, tc.newest
		o := Born(c, d, testNow)
		if !tc.want {
			if o.State != Queued || o.FromStock || o.Readings != nil || o.Version != 1 {
				t.Errorf("%s: %+v, want it queued", tc.name, o)
			}
			continue
		}
		if o.State != Succeeded || !o.FromStock || !reflect.DeepEqual(o.Readings, tc.newest) || o.Delivery != NeverSent ||
			o.Attempts != 0 || o.Version != 2 || len(o.Moves) != 2 {
			t.Errorf("%s: %+v, want it answered from stock", tc.name, o)
		}
	}
}
