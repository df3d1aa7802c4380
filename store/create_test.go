package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
	"meterline/testkit"
)

func TestCreateWritesACommandWithItsOperations(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc1", "m2", "m1")
		f.direct(tenantA, "d1")
		c := want(tenantA, ids("m2", "d1", "m1", "m1"))
		c.ID, c.ParentID, c.TraceParent, c.Params = "0192-1", "0192-0", "00-aa-bb-01", []byte(`{"a":1}`)
		made := f.create(c, time.Minute)
		got := f.command("0192-1")
		if got.Counts != (command.Counts{Total: 3, Queued: 3}) || got.Seq == 0 || got.Version != 1 || !got.ExpiresAt.Equal(got.CreatedAt.Add(time.Minute)) ||
			got.ParentID != "0192-0" || got.TraceParent != "00-aa-bb-01" || string(got.Params) != `{"a":1}` || got.Expanding || !got.NotBefore.IsZero() ||
			!slices.Equal(got.Items, c.Items) || !slices.Equal(got.Selector.DeviceIDs, c.Selector.DeviceIDs) || got.Expanded != "m2" || got.IssuedBy != "tester" {
			t.Fatalf("command %+v", got)
		}
		if made.Command.Seq != got.Seq || !made.Command.CreatedAt.Equal(got.CreatedAt) || made.Command.Counts != got.Counts {
			t.Fatalf("answered %+v, kept %+v", made.Command, got)
		}
		var order []string
		for _, o := range made.Operations {
			order = append(order, string(o.DeviceID)+"@"+string(o.EndpointID))
			if o.Partition != fleet.Partition(o.EndpointID, Partitions) {
				t.Errorf("partition of %s is %d", o.DeviceID, o.Partition)
			}
		}
		equal(t, "operations", order, []string{"d1@d1", "m1@ipc1", "m2@ipc1"})
		if o := f.operation(key("0192-1", "m1")); string(o.Device.Route) != `[{"bus":"com1"},{"meter":"m1"}]` || o.State != command.Queued || o.Changed != 1 {
			t.Fatalf("operation %+v", o)
		}
	})
}

func TestDeadlineCountsFromNotBefore(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		c := want(tenantA, ids("d1"))
		c.NotBefore = time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		got := f.command(f.create(c, time.Minute).Command.ID)
		if !got.ExpiresAt.Equal(c.NotBefore.Add(time.Minute)) || !got.NotBefore.Equal(c.NotBefore) {
			t.Fatalf("not before %v: %+v", c.NotBefore, got)
		}
		timed, err := db.Timed(f.ctx, c.NotBefore.Add(-time.Second), c.NotBefore)
		check(t, err)
		equal(t, "timed", timed, []command.ID{got.ID})
		if timed, err = db.Timed(f.ctx, c.NotBefore, c.NotBefore.Add(time.Hour)); err != nil || len(timed) != 0 {
			t.Fatalf("timed again: %v %v", timed, err)
		}
	})
}

func TestTargets(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc1", "m1", "m2")
		f.direct(tenantA, "d1", "off")
		f.direct(tenantB, "foreign")
		d, err := db.Device(f.ctx, tenantA, "off")
		check(t, err)
		d.Enabled = false
		_, _, err = db.UpdateDevice(f.ctx, by(d.Tenant), d)
		check(t, err)
		_, err = db.CreateGroup(f.ctx, by(tenantA), fleet.Group{Name: "north"})
		check(t, err)
		_, err = db.CreateGroup(f.ctx, by(tenantA), fleet.Group{Name: "empty"})
		check(t, err)
		check(t, db.AddMembers(f.ctx, by(tenantA), "north", []fleet.DeviceID{"ipc1", "m2", "d1", "off"}))

		for name, test := range map[string]struct {
			kind     command.Kind
			selector command.Selector
			want     []string
			wrong    []string
		}{
			"all":              {command.MeterRead, command.Selector{All: true}, []string{"d1", "m1", "m2"}, nil},
			"ping reaches all": {command.DevicePing, command.Selector{All: true}, []string{"d1", "ipc1", "m1", "m2"}, nil},
			"group":            {command.MeterRead, command.Selector{Group: "north"}, []string{"d1", "m2"}, nil},
			"tags":             {command.MeterRead, command.Selector{Tags: map[string]string{"city": "Graz"}}, []string{"m1", "m2"}, nil},
			"no such group":    {command.MeterRead, command.Selector{Group: "south"}, nil, []string{"/targets/group"}},
			"empty group":      {command.MeterRead, command.Selector{Group: "empty"}, nil, []string{"/targets"}},
			"no such tag":      {command.MeterRead, command.Selector{Tags: map[string]string{"city": "Graz", "x": "y"}}, nil, []string{"/targets"}},
			"devices": {command.MeterRead, ids("d1", "nobody", "foreign", "off", "ipc1"), nil,
				[]string{"/targets/device_ids/1", "/targets/device_ids/2", "/targets/device_ids/3", "/targets/device_ids/4"}},
		} {
			t.Run(name, func(t *testing.T) {
				c := want(tenantA, test.selector)
				c.Kind = test.kind
				made, err := db.Create(f.ctx, c, time.Hour, command.Idempotency{}, 100, command.Born)
				var wrong *command.Invalid
				if errors.As(err, &wrong) {
					var pointers []string
					for _, w := range wrong.Fields {
						pointers = append(pointers, w.Pointer)
					}
					equal(t, "complaints", pointers, test.wrong)
					return
				}
				check(t, err)
				var got []string
				for _, o := range made.Operations {
					got = append(got, string(o.DeviceID))
				}
				equal(t, "targets", got, test.want)
			})
		}
		many := make([]string, 50)
		for i := range many {
			many[i] = fmt.Sprint("none", i)
		}
		_, err = db.Create(f.ctx, want(tenantA, ids(many...)), time.Hour, command.Idempotency{}, 100, command.Born)
		var wrong *command.Invalid
		if !errors.As(err, &wrong) || len(wrong.Fields) != maxComplaints {
			t.Fatalf("complaints about 50 devices: %v", err)
		}
	})
}

func TestFiftyPostsOfOneKeyMakeOneCommand(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		idem := command.Idempotency{Key: "k", BodyHash: []byte{1, 2}}
		var mu sync.Mutex
		made := map[command.ID]int{}
		fresh := 0
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				var got command.Created
				testkit.Eventually(t, time.Minute, func() (err error) { // who has waited for 2 s for the first is told to come again
					if got, err = db.Create(f.ctx, want(tenantA, ids("d1")), time.Hour, idem, 10, command.Born); errors.Is(err, command.ErrStillRunning) {
						return err
					}
					if err != nil {
						t.Error(err)
					}
					return nil
				}, "the first to be done")
				mu.Lock()
				defer mu.Unlock()
				made[got.Command.ID]++
				if !got.Replayed {
					fresh++
				}
			})
		}
		all.Wait()
		if len(made) != 1 || fresh != 1 {
			t.Fatalf("commands %v, %d of them fresh", made, fresh)
		}
		if _, err := db.Create(f.ctx, want(tenantA, ids("d1")), time.Hour, command.Idempotency{Key: "k", BodyHash: []byte{9}}, 10, command.Born); !errors.Is(err, command.ErrKeyReused) {
			t.Fatalf("another body: %v", err)
		}
		f.direct(tenantB, "b1")
		if got, err := db.Create(f.ctx, want(tenantB, ids("b1")), time.Hour, idem, 10, command.Born); err != nil || got.Replayed {
			t.Fatalf("another tenant's key: %+v %v", got, err)
		}
		check(t, f.write(f.ctx, urgent, func(x *tx) error {
			_, err := x.exec(`UPDATE idempotency SET created_at = $1 WHERE tenant = $2`, at(time.Now().Add(-8*24*time.Hour)), string(tenantA))
			return err
		}))
		if got, err := db.Create(f.ctx, want(tenantA, ids("d1")), time.Hour, command.Idempotency{Key: "k", BodyHash: []byte{9}}, 10, command.Born); err != nil || got.Replayed {
			t.Fatalf("a key of last week: %+v %v", got, err)
		}
	})
}

func TestKeyStillRunning(t *testing.T) {
	t.Parallel()
	db := openPostgres(t)
	f := fix(t, db)
	f.direct(tenantA, "d1")
	idem := command.Idempotency{Key: "k", BodyHash: []byte{1}}
	inside, done := make(chan struct{}), make(chan struct{})
	var first sync.WaitGroup
	first.Go(func() {
		_, err := db.Create(f.ctx, want(tenantA, ids("d1")), time.Hour, idem, 10, func(c command.Command, d command.Candidate, now time.Time) *command.Operation {
			close(inside)
			<-done
			return command.Born(c, d, now)
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	_, err := db.Create(f.ctx, want(tenantA, ids("d1")), time.Hour, idem, 10, command.Born)
	close(done)
	first.Wait()
	if !errors.Is(err, command.ErrStillRunning) {
		t.Fatalf("second request: %v", err)
	}
}

// A refused request must not use its key up.
func TestRefusedRequestLeavesItsKeyFree(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		idem := command.Idempotency{Key: "k", BodyHash: []byte{1}}
		if _, err := db.Create(f.ctx, want(tenantA, ids("d1")), time.Hour, idem, 10, command.Born); err == nil {
			t.Fatal("a device that is not there was accepted")
		}
		f.direct(tenantA, "d1")
		if made, err := db.Create(f.ctx, want(tenantA, ids("d1")), time.Hour, idem, 10, command.Born); err != nil || made.Replayed {
			t.Fatalf("%+v %v", made, err)
		}
	})
}

func TestAnsweredFromStock(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2", "d3")
		now, err := db.Now(f.ctx)
		check(t, err)
		reading := func(device, item, value string, age time.Duration) meterread.Reading {
			return meterread.Reading{DeviceID: meterread.DeviceID(device), Item: meterread.Item(item), Value: value, Unit: "kWh",
				ReadAt: now.Add(-age), ReceivedAt: now.Add(-age), Quality: meterread.Valid}
		}
		f.read(f.own("w"), reading("d1", "1-0:1.8.0", "1", time.Hour), reading("d1", "1-0:1.8.0", "2", time.Minute), reading("d1", "1-0:2.8.0", "3", time.Minute),
			reading("d2", "1-0:1.8.0", "4", time.Minute), reading("d3", "1-0:1.8.0", "5", time.Minute), reading("d3", "1-0:2.8.0", "6", time.Hour))
		c := want(tenantA, ids("d1", "d2", "d3"))
		c.Items = []meterread.Item{"1-0:1.8.0", "1-0:2.8.0"}
		c.MaxAge = 10 * time.Minute
		id := f.create(c, time.Hour).Command.ID
		if got := f.command(id); got.Counts.Succeeded != 1 || got.Counts.Queued != 2 || got.MaxAge != c.MaxAge {
			t.Fatalf("command %+v", got)
		}
		o := f.operation(key(id, "d1"))
		if !o.FromStock || len(o.Readings) != 2 || o.Readings[0].Value != "2" || o.Readings[1].Value != "3" || o.State != command.Succeeded {
			t.Fatalf("operation %+v", o)
		}
		c = want(tenantA, ids("d1"))
		c.MaxAge = 10 * time.Minute
		if made := f.create(c, time.Hour); made.Command.Running() || f.command(made.Command.ID).Running() {
			t.Fatal("a command that was answered from stock as a whole still runs")
		}
	})
}

// read stores readings that nobody asked for.
func (f fixture) read(fence command.Fence, rs ...meterread.Reading) []meterread.Reading {
	f.Helper()
	done, err := f.Change(f.ctx, fence, command.Need{}, func(x *command.Tx) error {
		x.Readings = rs
		return nil
	})
	check(f, err)
	return done.Readings
}

func TestExpandInChunks(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		devices := f.meters(tenantA, "ipc", "m", 25)
		made, err := db.Create(f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, 4, command.Born)
		check(t, err)
		id := made.Command.ID
		if c := f.command(id); !c.Expanding || c.Counts.Total != 25 || c.Counts.Queued != 25 || len(made.Operations) != 4 || c.Expanded != devices[3] {
			t.Fatalf("command %+v", c)
		}
		_, _, whole, err := db.Snapshot(f.ctx, id, 100)
		if err != nil || whole {
			t.Fatalf("a command that is expanding is whole: %v", err)
		}
		f.direct(tenantA, "later") // not there when the command was issued
		for _, gone := range []int{1, 10, 24} {
			_, err := db.DeleteDevice(f.ctx, by(tenantA), devices[gone])
			check(t, err)
		}
		var ops []string
		chunks := 0
		for {
			made, found, err := db.Expand(f.ctx, 7, command.Born)
			check(t, err)
			if !found {
				break
			}
			chunks++
			for _, o := range made.Operations {
				ops = append(ops, string(o.DeviceID))
				if o.Changed != made.Command.Version {
					t.Errorf("operation of chunk %d changed at %d, not %d", chunks, o.Changed, made.Command.Version)
				}
			}
		}
		var left []string
		for i, d := range devices {
			if i >= 4 && i != 10 && i != 24 {
				left = append(left, string(d))
			}
		}
		equal(t, "expanded", ops, left)
		c := f.command(id)
		if c.Expanding || c.Counts.Total != 23 || c.Counts.Queued != 22 || c.Counts.Cancelled != 1 || chunks != 3 {
			t.Fatalf("%d chunks, command %+v", chunks, c)
		}
	})
}

func TestExpandACancelledCommand(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.meters(tenantA, "ipc", "m", 12)
		made, err := db.Create(f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, 5, command.Born)
		check(t, err)
		id := made.Command.ID
		check(t, db.Cancel(f.ctx, by(tenantA), id))
		if _, _, _, err := db.End(f.ctx, nil, []command.ID{id}, command.Cancelled, "user", "", 100); err != nil {
			t.Fatal(err)
		}
		if due, err := db.Due(f.ctx, nil, 10); err != nil || len(due) != 1 || due[0].ID != id {
			t.Fatalf("a cancelled command that still runs is not due: %+v %v", due, err)
		}
		if c := f.command(id); !c.Running() || c.Counts.Cancelled != 5 {
			t.Fatalf("command %+v", c)
		}
		if _, found, err := db.Expand(f.ctx, 100, command.Born); !found || err != nil {
			t.Fatalf("expand: %v %v", found, err)
		}
		if c := f.command(id); c.Running() || c.Counts.Cancelled != 12 || c.Counts.Status() != command.StatusCancelled {
			t.Fatalf("command %+v", c)
		}
	})
}

// Cancelling while a chunk is being made leaves nothing open.
func TestCancelAgainstExpand(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.meters(tenantA, "ipc", "m", 40)
		for range 10 {
			made, err := db.Create(f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, 1, command.Born)
			check(t, err)
			id := made.Command.ID
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					for {
						_, found, err := db.Expand(f.ctx, 5, command.Born)
						if err != nil {
							t.Error(err)
						}
						if !found || err != nil {
							return
						}
					}
				})
			}
			both.Go(func() {
				if err := db.Cancel(f.ctx, by(tenantA), id); err != nil {
					t.Error(err)
				}
				if _, _, _, err := db.End(f.ctx, nil, []command.ID{id}, command.Cancelled, "user", "", 1000); err != nil {
					t.Error(err)
				}
			})
			both.Wait()
			for found := true; found; {
				_, found, err = db.Expand(f.ctx, 100, command.Born)
				check(t, err)
			}
			if c := f.command(id); c.Running() || c.Counts.Cancelled != 40 {
				t.Fatalf("command %+v", c)
			}
		}
	})
}

func TestEveryDeviceLeftDuringExpansion(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2")
		made, err := db.Create(f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, 0, command.Born)
		check(t, err)
		for _, d := range []fleet.DeviceID{"d1", "d2"} {
			_, err := db.DeleteDevice(f.ctx, by(tenantA), d)
			check(t, err)
		}
		if _, found, err := db.Expand(f.ctx, 10, command.Born); err != nil || !found {
			t.Fatalf("expand: %v %v", found, err)
		}
		if c := f.command(made.Command.ID); c.Running() || c.Counts.Total != 0 {
			t.Fatalf("command %+v", c)
		}
	})
}

func TestArrivals(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc1", "m1", "m2")
		f.direct(tenantA, "d1")
		growing, err := db.Create(f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, 1, command.Born)
		check(t, err)
		one, two := f.issue(tenantA, "d1"), f.issue(tenantA, "d1", "m1")
		as, err := db.Arrivals(f.ctx, one.Command.Seq, 10)
		check(t, err)
		if len(as) != 2 || as[0].ID != growing.Command.ID || !as[0].Expanding || as[1].ID != two.Command.ID || as[1].Expanding || as[1].Age < 0 || as[1].Age > time.Minute {
			t.Fatalf("arrivals %+v", as)
		}
		every := make([]int, Partitions)
		for i := range every {
			every[i] = i
		}
		endpoints, last, err := db.Endpoints(f.ctx, two.Command.ID, every, "")
		check(t, err)
		slices.Sort(endpoints)
		if last != "m1" || !slices.Equal(endpoints, []meterread.DeviceID{"d1", "ipc1"}) {
			t.Fatalf("endpoints %v, last %s", endpoints, last)
		}
		endpoints, last, err = db.Endpoints(f.ctx, two.Command.ID, []int{fleet.Partition("ipc1", Partitions)}, "d1")
		if err != nil || last != "m1" || !slices.Equal(endpoints, []meterread.DeviceID{"ipc1"}) {
			t.Fatalf("endpoints %v, last %s: %v", endpoints, last, err)
		}
		if endpoints, last, err = db.Endpoints(f.ctx, two.Command.ID, every, "m1"); err != nil || last != "m1" || len(endpoints) != 0 {
			t.Fatalf("endpoints %v, last %s: %v", endpoints, last, err)
		}
	})
}

func TestEndInChunks(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.meters(tenantA, "ipc", "m", 23)
		f.direct(tenantA, "a1", "a2")
		id := f.create(want(tenantA, command.Selector{All: true}), time.Hour).Command.ID
		fence := f.own("w")
		f.change(fence, succeed, key(id, "m00003"))
		f.change(fence, claim, key(id, "m00004"))
		if done, _, more, err := db.End(f.ctx, fence, []command.ID{id}, command.Expired, "", "", 10); err != nil || more || len(done.Changes) != 0 {
			t.Fatalf("expired before the deadline: %+v %v %v", done, more, err)
		}
		f.overdue(id)
		n := fleet.Partition("ipc", Partitions)
		var after meterread.DeviceID
		var ended []string
		for more := true; more; {
			var done command.Committed
			var err error
			done, after, more, err = db.End(f.ctx, command.Fence{n: fence[n]}, []command.ID{id}, command.Expired, "", after, 10)
			check(t, err)
			for _, c := range done.Changes {
				if c.Bulk || c.From != c.Command.Version-1 || c.Command.ID != id {
					t.Fatalf("change %+v", c)
				}
				for _, o := range c.Operations {
					ended = append(ended, string(o.DeviceID))
					last := o.Moves[len(o.Moves)-1]
					if o.State != command.Expired || last.State != command.Expired || !last.At.Equal(done.Now) || o.Error != nil || o.Changed != c.Command.Version {
						t.Fatalf("operation %+v", o)
					}
				}
			}
		}
		if len(ended) != 22 || slices.Contains(ended, "m00003") || !slices.IsSorted(ended) {
			t.Fatalf("ended %v", ended)
		}
		if o := f.operation(key(id, "m00004")); o.Version != 3 || len(o.Moves) != 3 || o.Delivery != command.MaybeSent {
			t.Fatalf("operation %+v", o)
		}
		wantOpen := 0
		for _, d := range []fleet.DeviceID{"a1", "a2"} {
			if fleet.Partition(d, Partitions) != n {
				wantOpen++
			}
		}
		if c := f.command(id); c.Counts.Open() != wantOpen || c.Counts.Succeeded != 1 {
			t.Fatalf("command %+v", c)
		}
		due, err := db.Due(f.ctx, nil, 10)
		check(t, err)
		if len(due) != 1 || due[0].ID != id {
			t.Fatalf("due %+v", due)
		}
		if due, err = db.Due(f.ctx, []command.ID{id}, 10); err != nil || len(due) != 0 {
			t.Fatalf("due although it was named %v %v", due, err)
		}
		if done, _, more, err := db.End(f.ctx, nil, []command.ID{id}, command.Cancelled, "user", "", 100); err != nil || more || len(done.Changes) != 0 {
			t.Fatalf("cancelled after the deadline: %+v %v %v", done, more, err)
		}
		if _, _, _, err := db.End(f.ctx, nil, []command.ID{id}, command.Expired, "", "", 100); err != nil {
			t.Fatal(err)
		}
		if due, err = db.Due(f.ctx, nil, 10); err != nil || len(due) != 0 {
			t.Fatalf("due %v %v", due, err)
		}
		if _, _, _, err := db.End(f.ctx, nil, []command.ID{id}, command.Succeeded, "", "", 10); err == nil {
			t.Fatal("ended as succeeded")
		}
	})
}
