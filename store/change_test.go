package store

import (
	"errors"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

func TestChangeWritesWhatMoved(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc1", "m1", "m2", "m3")
		made := f.issue(tenantA, "m1", "m2", "m3")
		id := made.Command.ID
		fence := f.own("w1")

		done := f.change(fence, claim, key(id, "m1"), key(id, "m2"))
		if len(done.Changes) != 1 || len(done.Changes[0].Operations) != 2 || done.Changes[0].From != 1 || done.Changes[0].Command.Version != 2 {
			t.Fatalf("changes %+v", done.Changes)
		}
		c := f.command(id)
		if c.Counts.Sent != 2 || c.Counts.Queued != 1 {
			t.Fatalf("counts %+v", c.Counts)
		}
		o := f.operation(key(id, "m1"))
		if o.State != command.Sent || o.Delivery != command.MaybeSent || o.Attempts != 1 || o.MessageID != "msg" || o.Gateway != "gw/1" ||
			o.Epoch != 7 || !o.LeaseUntil.Equal(done.Now.Add(15*time.Second)) || o.Version != 2 || o.Changed != 2 || len(o.Moves) != 2 ||
			o.Moves[1].Endpoint != "ipc1" || o.Device.EndpointID != "ipc1" || o.Device.Tags["city"] != "Graz" ||
			o.Seq != made.Command.Seq || !o.CreatedAt.Equal(made.Command.CreatedAt) || !o.ExpiresAt.Equal(made.Command.ExpiresAt) {
			t.Fatalf("operation %+v", o)
		}
		done = f.change(fence, failWith("BUS\x00TIMEOUT"), key(id, "m1"))
		if n := done.Changes[0].Command.Errors["BUS\uFFFDTIMEOUT"]; n != 1 {
			t.Fatalf("errors %v", done.Changes[0].Command.Errors)
		}
		f.change(fence, succeed, key(id, "m2"))
		done = f.change(fence, succeed, key(id, "m3"))
		c = f.command(id)
		if c.FinishedAt.IsZero() || !c.FinishedAt.Equal(done.Now) || c.Counts.Status() != command.StatusPartial || len(c.Errors) != 1 {
			t.Fatalf("ended command %+v", c)
		}
		o = f.operation(key(id, "m1"))
		if o.Error == nil || o.Error.Code != "BUS\uFFFDTIMEOUT" || o.Error.Message != "because\uFFFDof" {
			t.Fatalf("error %+v", o.Error)
		}
	})
}

func TestChangeWithoutAMoveWritesNothing(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		id := f.issue(tenantA, "d1").Command.ID
		done, err := db.Change(f.ctx, f.own("w"), command.Need{Operations: []command.Key{key(id, "d1"), key(id, "nobody")}, Devices: []meterread.DeviceID{"d1", "no"}},
			func(x *command.Tx) error {
				if len(x.Operations) != 1 || len(x.Devices) != 1 || x.Devices["d1"].Tenant != tenantA {
					t.Errorf("saw %d operations and devices %v", len(x.Operations), x.Devices)
				}
				return nil
			})
		check(t, err)
		if len(done.Changes) != 0 || f.command(id).Version != 1 {
			t.Fatalf("changed %+v", done)
		}
	})
}

// A late result leaves state and counts alone, but everybody must see it.
func TestLateResultKeepsTheCounts(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		id := f.issue(tenantA, "d1").Command.ID
		fence := f.own("w")
		f.change(fence, succeed, key(id, "d1"))
		before := f.command(id)
		done := f.change(fence, func(x *command.Tx, o *command.Operation) error { o.Late(x.Now); return nil }, key(id, "d1"))
		after := f.command(id)
		if after.Version != before.Version+1 || after.Counts != before.Counts || !after.FinishedAt.Equal(before.FinishedAt) {
			t.Fatalf("before %+v after %+v", before, after)
		}
		if o := f.operation(key(id, "d1")); o.State != command.Succeeded || !o.LateResultAt.Equal(done.Now) || o.Changed != after.Version {
			t.Fatalf("operation %+v", o)
		}
	})
}

// A part of an answer adds readings without a step of the state machine; it must not be lost.
func TestPartOfAnAnswerIsKept(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		id := f.issue(tenantA, "d1").Command.ID
		fence := f.own("w")
		f.change(fence, func(x *command.Tx, o *command.Operation) error { return o.Accept(x.Now, time.Minute) }, key(id, "d1"))
		f.change(fence, func(x *command.Tx, o *command.Operation) error {
			o.Readings = append(o.Readings, meterread.Reading{DeviceID: "d1", Item: "1-0:1.8.0", Value: "1.50", ReadAt: x.Now})
			return nil
		}, key(id, "d1"))
		if o := f.operation(key(id, "d1")); len(o.Readings) != 1 || o.Readings[0].Value != "1.50" || o.Version != 3 || o.Changed != 3 {
			t.Fatalf("operation %+v", o)
		}
	})
}

func TestFenceLost(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		id := f.issue(tenantA, "d1").Command.ID
		old := f.own("w1")
		check(t, db.Release(f.ctx, "w1", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}))
		decided := false
		_, err := db.Change(f.ctx, old, command.Need{Operations: []command.Key{key(id, "d1")}}, func(*command.Tx) error { decided = true; return nil })
		if !errors.Is(err, command.ErrLost) || decided {
			t.Fatalf("change after release: %v, decided %v", err, decided)
		}
		now := f.own("w2")
		for n, epoch := range now {
			if epoch <= old[n] {
				t.Fatalf("partition %d: epoch %d after %d", n, epoch, old[n])
			}
		}
		if _, err := db.Change(f.ctx, command.Fence{99: 1}, command.Need{}, func(*command.Tx) error { return nil }); !errors.Is(err, command.ErrLost) {
			t.Fatalf("unknown partition: %v", err)
		}
		if _, _, _, err := db.End(f.ctx, old, []command.ID{id}, command.Cancelled, "", "", 10); !errors.Is(err, command.ErrLost) {
			t.Fatalf("end by an old owner: %v", err)
		}
		if c := f.command(id); c.Version != 1 {
			t.Fatalf("an old owner changed %+v", c)
		}
	})
}

func TestPositionsMoveWithTheData(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		fence := f.own("w1")
		want := []command.LogPosition{{Partition: 3, Generation: "g", Position: "17-0"}, {Partition: 5, Generation: "g", Position: "9-1"}}
		_, err := db.Change(f.ctx, command.Fence{3: fence[3], 5: fence[5]}, command.Need{}, func(x *command.Tx) error {
			x.Positions = want
			return nil
		})
		check(t, err)
		failed := errors.New("no")
		_, err = db.Change(f.ctx, fence, command.Need{}, func(x *command.Tx) error {
			x.Positions = []command.LogPosition{{Partition: 3, Generation: "h", Position: "1"}}
			return failed
		})
		if !errors.Is(err, failed) || errors.Is(err, command.ErrUnavailable) {
			t.Fatalf("error of decide came back as %v", err)
		}
		r, err := db.Recover(f.ctx, []int{3, 5})
		check(t, err)
		equal(t, "positions", r.Positions, want)
	})
}

// Whoever ends the last operation ends the command, also when the last two end in two transactions at once.
func TestLastTwoEndAtOnce(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2")
		fence := f.own("w")
		for range 20 {
			id := f.issue(tenantA, "d1", "d2").Command.ID
			start := make(chan struct{})
			var both sync.WaitGroup
			for _, d := range []string{"d1", "d2"} {
				both.Go(func() {
					<-start
					_, err := db.Change(f.ctx, fence, command.Need{Operations: []command.Key{key(id, d)}}, func(x *command.Tx) error {
						return succeed(x, x.Operations[key(id, d)])
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			both.Wait()
			if c := f.command(id); c.Running() || c.Counts.Succeeded != 2 || c.Version != 3 {
				t.Fatalf("command %+v", c)
			}
		}
	})
}

// A cancel and a result meet: exactly one of them wins each operation, and the counts agree.
func TestCancelAgainstCollect(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		devices := []string{"m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"}
		f.ipc(tenantA, "ipc", devices...)
		fence := f.own("w")
		for range 10 {
			id := f.issue(tenantA, devices...).Command.ID
			start := make(chan struct{})
			var both sync.WaitGroup
			both.Go(func() {
				<-start
				if err := db.Cancel(f.ctx, by(tenantA), id); err != nil {
					t.Error(err)
				}
				if _, _, _, err := db.End(f.ctx, nil, []command.ID{id}, command.Cancelled, "user", "", 100); err != nil {
					t.Error(err)
				}
			})
			both.Go(func() {
				<-start
				for _, d := range devices {
					_, err := db.Change(f.ctx, fence, command.Need{Operations: []command.Key{key(id, d)}}, func(x *command.Tx) error {
						if o := x.Operations[key(id, d)]; o.State.Open() {
							return o.Succeed(x.Now)
						}
						x.Operations[key(id, d)].Late(x.Now)
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
			close(start)
			both.Wait()
			c := f.command(id)
			if c.Running() || c.Counts.Succeeded+c.Counts.Cancelled != len(devices) {
				t.Fatalf("command %+v", c)
			}
			for _, d := range devices {
				if o := f.operation(key(id, d)); (o.State == command.Cancelled) == o.LateResultAt.IsZero() {
					t.Fatalf("operation %s is %s with a late result at %v", d, o.State, o.LateResultAt)
				}
			}
		}
	})
}

// What somebody was told has expired stays so: a result that was being written at that moment is taken back and judged anew.
func TestShownWhileAResultIsWritten(t *testing.T) {
	t.Parallel()
	db := openPostgres(t) // SQLite has one writer: nothing can be shown while another writes
	f := fix(t, db)
	f.direct(tenantA, "d1")
	id := f.issue(tenantA, "d1").Command.ID
	f.overdue(id)
	runs := 0
	seen := f.operation(key(id, "d1")) // of it nothing is locked; what is loaded holds its command: nobody is shown it meanwhile
	done, err := db.Change(f.ctx, f.own("w"), command.Need{Known: []*command.Operation{&seen}}, func(x *command.Tx) error {
		runs++
		o := x.Operations[key(id, "d1")]
		if runs == 1 {
			if o.ShownExpired {
				t.Error("shown before anybody looked")
			}
			v, _, _, err := db.Snapshot(f.ctx, id, 10)
			if err != nil || v.Status != command.StatusExpired || v.Operations[0].State != command.Expired {
				t.Errorf("shown as %s: %v", v.Status, err)
			}
		}
		if o.ShownExpired {
			if err := o.Expire(x.Now); err != nil {
				return err
			}
			o.Late(x.Now)
			return nil
		}
		return o.Succeed(x.Now) // it was appended before the deadline
	})
	check(t, err)
	if runs != 2 || done.Changes[0].Operations[0].State != command.Expired || f.command(id).Counts.Expired != 1 {
		t.Fatalf("%d runs, %+v", runs, done.Changes[0].Command.Counts)
	}
}

// What is known of an operation counts as long as it is so. Whatever others did to it meanwhile stays, and is judged.
func TestWhatIsKnownMayHavePassed(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2")
		id := f.issue(tenantA, "d1", "d2").Command.ID
		one, two := f.operation(key(id, "d1")), f.operation(key(id, "d2"))
		need := command.Need{Known: []*command.Operation{&one, &two}}
		f.change(f.own("w"), func(x *command.Tx, o *command.Operation) error { return o.Cancel(x.Now, "by another") }, key(id, "d2"))
		runs := 0
		done, err := db.Change(f.ctx, f.own("w"), need, func(x *command.Tx) error {
			runs++
			for _, o := range x.Operations {
				if o.Over(x.Now) {
					o.Late(x.Now)
				} else if err := o.Succeed(x.Now); err != nil {
					return err
				}
			}
			return nil
		})
		check(t, err)
		c := f.command(id)
		if runs != 2 || len(done.Changes) != 1 || c.Counts.Succeeded != 1 || c.Counts.Cancelled != 1 || c.Running() {
			t.Fatalf("%d runs, %+v", runs, c.Counts)
		}
		if o := f.operation(key(id, "d2")); o.State != command.Cancelled || o.LateResultAt.IsZero() || len(o.Moves) != 2 {
			t.Errorf("the one that was cancelled is %+v", o)
		}
		if need.Known[0].State != command.Queued || need.Known[1].LateResultAt != (time.Time{}) {
			t.Error("what is known was changed in place")
		}
	})
}

// The other way around: the result was first, so nobody is told that the operation expired.
func TestResultBeforeItIsShown(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2")
		id := f.issue(tenantA, "d1", "d2").Command.ID
		f.overdue(id)
		f.change(f.own("w"), succeed, key(id, "d1"))
		v, tenant, whole, err := db.Snapshot(f.ctx, id, 10)
		check(t, err)
		if tenant != tenantA || !whole || v.Status != command.StatusPartial || v.Counts.Succeeded != 1 || v.Counts.Expired != 1 ||
			v.Operations[0].State != command.Succeeded || v.Operations[1].State != command.Expired || v.FinishedAt == nil {
			t.Fatalf("shown %+v", v)
		}
		if o := f.operation(key(id, "d2")); !o.ShownExpired {
			t.Fatal("nobody noted that it was shown")
		}
	})
}

// An owner whose connection stands still in the middle of a transaction keeps its partitions until it is over, and the
// others are not held up by it.
func TestTakeOverPassesByAnUnfinishedTransaction(t *testing.T) {
	t.Parallel()
	db := openPostgres(t) // SQLite has one process
	f := fix(t, db)
	fence := f.own("w1")
	check(t, f.write(f.ctx, urgent, func(x *tx) error {
		_, err := x.exec(`UPDATE partitions SET lease_until = $1`, at(time.Now().Add(-time.Hour)))
		return err
	}))
	_, err := db.Change(f.ctx, command.Fence{4: fence[4]}, command.Need{}, func(*command.Tx) error {
		held, _, err := db.Hold(f.ctx, "w2", time.Minute, 0)
		if err != nil {
			return err
		}
		if _, ok := held[4]; ok {
			t.Error("the partition was taken over in the middle of a transaction of its owner")
		}
		if len(held) != 8 { // half, as there are two
			t.Errorf("took over %d", len(held))
		}
		return nil
	})
	check(t, err)
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Options{URL: "postgres://nobody:secret@127.0.0.1:1/x?sslmode=disable"})
	if !errors.Is(err, command.ErrUnavailable) {
		t.Fatalf("unreachable server: %v", err)
	}
	if _, err := Open(t.Context(), Options{URL: "mysql://x"}); err == nil {
		t.Fatal("a URL of another kind was accepted")
	}
	if _, err := Open(t.Context(), Options{URL: "sqlite:" + t.TempDir() + "/none.db"}); !errors.Is(err, ErrNotMigrated) {
		t.Fatalf("missing file: %v", err)
	}
}
