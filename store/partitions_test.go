package store

import (
	"fmt"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

func TestHoldFairShare(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		hold := func(owner string) (int, int) {
			t.Helper()
			held, excess, err := db.Hold(f.ctx, owner, time.Minute, 0)
			check(t, err)
			for n, epoch := range held {
				if epoch < 1 || n < 0 || n >= Partitions {
					t.Fatalf("%s holds %d at epoch %d", owner, n, epoch)
				}
			}
			return len(held), excess
		}
		give := func(owner string, n int) {
			t.Helper()
			held, _, err := db.Hold(f.ctx, owner, time.Minute, 0)
			check(t, err)
			var list []int
			for p := range held {
				if len(list) < n {
					list = append(list, p)
				}
			}
			check(t, db.Release(f.ctx, owner, list))
		}
		expect := func(owner string, held, excess int) {
			t.Helper()
			if h, e := hold(owner); h != held || e != excess {
				t.Fatalf("%s holds %d, %d too many; want %d, %d", owner, h, e, held, excess)
			}
		}
		expect("a", 16, 0)
		expect("b", 0, 0) // nothing is free yet
		expect("a", 16, 8)
		give("a", 8)
		expect("b", 8, 0)
		expect("c", 0, 0) // the share is 6 now
		expect("a", 8, 2)
		expect("b", 8, 2)
		give("a", 2)
		give("b", 2)
		expect("c", 4, 0)
		expect("a", 6, 0)

		// c dies: its lease is over, and it no longer counts.
		check(t, f.write(f.ctx, urgent, func(x *tx) error {
			past := at(time.Now().Add(-2 * time.Minute))
			if _, err := x.exec(`UPDATE partitions SET lease_until = $1 WHERE owner = 'c'`, past); err != nil {
				return err
			}
			_, err := x.exec(`UPDATE workers SET seen_at = $1 WHERE owner = 'c'`, past)
			return err
		}))
		expect("a", 8, 0)
		expect("b", 8, 0)
		// It was only asleep: what it had is gone.
		expect("c", 0, 0)

		// Those who leave in order make room at once.
		held, _, err := db.Hold(f.ctx, "b", time.Minute, 0)
		check(t, err)
		var list []int
		for p := range held {
			list = append(list, p)
		}
		check(t, db.Release(f.ctx, "b", list))
		check(t, db.Release(f.ctx, "c", nil))
		expect("a", 16, 0)
	})
}

// An owner whose lease is over but whose partitions nobody took still has them, with the same epochs.
func TestHoldRenewsAnOldLease(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		before := f.own("a")
		check(t, f.write(f.ctx, urgent, func(x *tx) error {
			_, err := x.exec(`UPDATE partitions SET lease_until = $1`, at(time.Now().Add(-time.Hour)))
			return err
		}))
		for n, epoch := range f.own("a") {
			if before[n] != epoch {
				t.Fatalf("partition %d: epoch %d became %d", n, before[n], epoch)
			}
		}
	})
}

func headOf(endpoint string, limit, priority int, busy ...meterread.DeviceID) command.Head {
	id := meterread.DeviceID(endpoint)
	return command.Head{Endpoint: id, Partition: fleet.Partition(id, Partitions), Limit: limit, MinPriority: priority, Busy: busy}
}

func (f fixture) ready(h ...command.Head) map[meterread.DeviceID][]command.Key {
	f.Helper()
	got, err := f.Ready(f.ctx, h)
	check(f, err)
	return keysOf(got)
}

func keysOf(ready map[meterread.DeviceID]command.Front) map[meterread.DeviceID][]command.Key {
	keys := make(map[meterread.DeviceID][]command.Key, len(ready))
	for endpoint, front := range ready {
		for _, o := range front.Operations {
			keys[endpoint] = append(keys[endpoint], o.Key())
		}
	}
	return keys
}

func TestReady(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc1", "m1", "m2", "m3")
		f.direct(tenantA, "d1")
		old := f.issue(tenantA, "m1", "m2", "d1").Command.ID
		young := f.issue(tenantA, "m1", "m3").Command.ID
		c := want(tenantA, ids("m2"))
		c.Priority = 8
		hurry := f.create(c, time.Hour).Command.ID
		c = want(tenantA, ids("m3"))
		c.Priority, c.NotBefore = 9, time.Now().Add(time.Hour)
		f.create(c, time.Hour) // not yet
		c.NotBefore = time.Time{}
		f.create(c, 1500*time.Millisecond) // too late to be sent

		got := f.ready(headOf("ipc1", 10, 0), headOf("d1", 1, 0), headOf("nobody", 5, 0))
		equal(t, "ipc1", got["ipc1"], []command.Key{key(hurry, "m2"), key(old, "m1"), key(young, "m3")})
		equal(t, "d1", got["d1"], []command.Key{key(old, "d1")})
		if len(got) != 2 {
			t.Fatalf("ready %v", got)
		}
		equal(t, "limit", f.ready(headOf("ipc1", 2, 0))["ipc1"], []command.Key{key(hurry, "m2"), key(old, "m1")})
		equal(t, "priority", f.ready(headOf("ipc1", 10, 8))["ipc1"], []command.Key{key(hurry, "m2")})
		equal(t, "busy", f.ready(headOf("ipc1", 10, 0, "m2", "m3"))["ipc1"], []command.Key{key(old, "m1")})
		if got := f.ready(headOf("ipc1", 0, 0)); len(got) != 0 {
			t.Fatalf("no room, ready %v", got)
		}

		// What waits for its retry does not hold others back.
		fence := f.own("w")
		f.change(fence, claim, key(old, "m1"))
		f.change(fence, func(x *command.Tx, o *command.Operation) error {
			return o.Requeue(x.Now, x.Now.Add(time.Minute), true, "no answer")
		}, key(old, "m1"))
		equal(t, "retry", f.ready(headOf("ipc1", 10, 0))["ipc1"], []command.Key{key(hurry, "m2"), key(young, "m1"), key(young, "m3")})
	})
}

// A meter with much to do does not hide the others behind it.
func TestReadyLooksPastAFullMeter(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc1", "m1", "m2", "m3", "m4")
		for range 30 {
			f.issue(tenantA, "m1")
		}
		for range 10 {
			f.issue(tenantA, "m2")
		}
		f.issue(tenantA, "m3", "m4")
		equal(t, "devices", deviceIDs(f.ready(headOf("ipc1", 4, 0))["ipc1"]), []string{"m1", "m2", "m3", "m4"})
		equal(t, "devices", deviceIDs(f.ready(headOf("ipc1", 2, 0, "m1"))["ipc1"]), []string{"m2", "m3"})
	})
}

// Commands of one priority are first sent in order, also while an older one is still being expanded.
func TestReadyKeepsTheOrderWhileExpanding(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc1", "m1", "m2", "m3")
		f.direct(tenantB, "b1")
		made, err := db.Create(f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, 1, command.Born)
		check(t, err)
		old := made.Command.ID // has got to m1
		young := f.issue(tenantA, "m1", "m2").Command.ID
		foreign := f.issue(tenantB, "b1").Command.ID
		c := want(tenantA, ids("m3"))
		c.Priority = 8
		hurry := f.create(c, time.Hour).Command.ID
		equal(t, "at first", f.ready(headOf("ipc1", 10, 0))["ipc1"], []command.Key{key(hurry, "m3"), key(old, "m1")})
		equal(t, "past m1", f.ready(headOf("ipc1", 10, 0, "m3"))["ipc1"], []command.Key{key(old, "m1")})
		equal(t, "another tenant", f.ready(headOf("b1", 10, 0))["b1"], []command.Key{key(foreign, "b1")})
		f.change(f.own("w"), claim, key(old, "m1"))
		equal(t, "m1 is past it", f.ready(headOf("ipc1", 10, 0))["ipc1"], []command.Key{key(hurry, "m3"), key(young, "m1")})
		_, _, err = db.Expand(f.ctx, 10, command.Born)
		check(t, err)
		equal(t, "then", f.ready(headOf("ipc1", 10, 0, "m1", "m3"))["ipc1"], []command.Key{key(old, "m2")})
	})
}

func TestRecover(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc1", "m1", "m2")
		f.direct(tenantA, "d1", "done")
		id := f.issue(tenantA, "m1", "m2", "d1", "done").Command.ID
		fence := f.own("w")
		f.change(fence, claim, key(id, "m1"), key(id, "d1"))
		f.change(fence, succeed, key(id, "done"))
		var next time.Time
		f.change(fence, func(x *command.Tx, o *command.Operation) error {
			next = x.Now.Add(time.Minute)
			return o.Requeue(x.Now, next, true, "no answer")
		}, key(id, "d1"))
		every := make([]int, 0, Partitions)
		for n := range fence {
			every = append(every, n)
		}
		exec(t, db, `UPDATE commands SET created_at = $1`, at(next)) // not settled, however long that took
		r, err := db.Recover(f.ctx, every)
		check(t, err)
		if len(r.InFlight) != 1 || r.InFlight[0].Key() != key(id, "m1") || r.InFlight[0].MessageID != "msg" {
			t.Fatalf("in flight %+v", r.InFlight)
		}
		if len(r.Endpoints) != 2 || len(r.Positions) != Partitions {
			t.Fatalf("endpoints %v, %d positions", r.Endpoints, len(r.Positions))
		}
		if len(r.Waiting) != 1 || r.Waiting[0].Endpoint != "d1" || !r.Waiting[0].At.Equal(next) {
			t.Fatalf("waiting %+v", r.Waiting)
		}
		equal(t, "commands", r.Commands, []command.ID{id})
		if r.Seq != 0 {
			t.Fatalf("settled up to %d at once", r.Seq)
		}
		check(t, f.write(f.ctx, urgent, func(x *tx) error {
			_, err := x.exec(`UPDATE commands SET created_at = $1`, at(next.Add(-2*time.Minute)))
			return err
		}))
		if r, err = db.Recover(f.ctx, []int{fleet.Partition("done", Partitions)}); err != nil {
			t.Fatal(err)
		}
		if r.Seq != f.command(id).Seq {
			t.Fatalf("settled up to %d", r.Seq)
		}
		for _, e := range r.Endpoints {
			if e == "done" {
				t.Fatal("an endpoint with nothing to do was recovered")
			}
		}
	})
}

func TestMigrateAtOnceAndAgain(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		errs := make(chan error)
		for range 4 {
			go func() { errs <- Migrate(t.Context(), Options{URL: url}) }()
		}
		for range 4 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		db := reopen(t, url)
		before, err := db.Settings(t.Context())
		check(t, err)
		check(t, Migrate(t.Context(), Options{URL: url}))
		after, err := reopen(t, url).Settings(t.Context())
		check(t, err)
		if before.Partitions != 16 || len(before.Pepper) != 32 || before.BackendSecret == "" || before.Installation == "" ||
			fmt.Sprint(before) != fmt.Sprint(after) {
			t.Fatalf("settings %+v became %+v", before, after)
		}
	})
}
