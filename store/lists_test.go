package store

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

func TestSnapshot(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2", "d3")
		id := f.issue(tenantA, "d1", "d2", "d3").Command.ID
		fence := f.own("w")
		f.change(fence, failWith("BUSY"), key(id, "d2"))
		v, tenant, whole, err := db.Snapshot(f.ctx, id, 2)
		check(t, err)
		if tenant != tenantA || whole || v.Status != command.StatusRunning || len(v.Operations) != 2 || v.Errors["BUSY"] != 1 || v.Version != 2 ||
			v.Operations[1].Error.Code != "BUSY" || v.Operations[1].Changed != 2 || v.Operations[0].Changed != 1 {
			t.Fatalf("snapshot %+v", v)
		}
		if _, _, whole, err := db.Snapshot(f.ctx, id, 3); err != nil || !whole {
			t.Fatalf("whole %v: %v", whole, err)
		}
		if _, _, _, err := db.Snapshot(f.ctx, "nobody", 3); !isNotFound(err) {
			t.Fatalf("unknown command: %v", err)
		}
		changed, err := db.ChangedSince(f.ctx, id, 1, 10)
		check(t, err)
		if len(changed) != 1 || changed[0].DeviceID != "d2" {
			t.Fatalf("changed %+v", changed)
		}
		if all, err := db.ChangedSince(f.ctx, id, 0, 1); err != nil || len(all) != 2 { // those of one transaction stay together
			t.Fatalf("changed since the beginning: %+v %v", all, err)
		}
		if got, err := db.Unsuccessful(f.ctx, tenantA, id); err != nil || !slices.Equal(got, []meterread.DeviceID{"d2"}) {
			t.Fatalf("unsuccessful %v %v", got, err)
		}
		f.overdue(id)
		if got, err := db.Unsuccessful(f.ctx, tenantA, id); err != nil || len(got) != 3 {
			t.Fatalf("unsuccessful after the deadline %v %v", got, err)
		}
		if c := f.command(id); !c.ShownExpired {
			t.Fatal("shown, and nobody noted it")
		}
		if _, err := db.Unsuccessful(f.ctx, tenantB, id); !isNotFound(err) {
			t.Fatalf("another tenant's: %v", err)
		}
	})
}

func TestShown(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		fence := f.own("w")
		early, late, over := f.issue(tenantA, "d1").Command.ID, f.issue(tenantA, "d1").Command.ID, f.issue(tenantA, "d1").Command.ID
		f.overdue(late)
		f.overdue(over)
		f.change(fence, succeed, key(over, "d1"))
		check(t, db.Shown(f.ctx, []command.ID{over, late, early, "nobody"}))
		for id, want := range map[command.ID]bool{early: false, late: true, over: false} {
			if c := f.command(id); c.ShownExpired != want {
				t.Errorf("shown is %v: %+v", c.ShownExpired, c)
			}
		}
	})
}

func TestOpenOperations(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2", "d3")
		f.direct(tenantB, "b1")
		id := f.issue(tenantA, "d1", "d2", "d3").Command.ID
		over := f.issue(tenantA, "d1").Command.ID
		f.issue(tenantB, "b1")
		f.overdue(over)
		f.change(f.own("w"), succeed, key(id, "d1"))
		if n, err := db.OpenOperations(f.ctx, tenantA); err != nil || n != 2 {
			t.Fatalf("%d open: %v", n, err)
		}
		if n, err := db.OpenOperations(f.ctx, "nobody"); err != nil || n != 0 {
			t.Fatalf("%d open of nobody: %v", n, err)
		}
		if err := db.Cancel(f.ctx, by(tenantB), id); !isNotFound(err) {
			t.Fatalf("another tenant cancelled: %v", err)
		}
	})
}

// manyStates makes operations in every state, over several commands, and says which device ended how in which command.
func (f fixture) manyStates() {
	f.Helper()
	f.ipc(tenantA, "ipc1", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9")
	f.direct(tenantB, "b1")
	fence := f.own("w")
	for range 3 {
		id := f.issue(tenantA, "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9").Command.ID
		f.change(fence, claim, key(id, "m2"), key(id, "m3"), key(id, "m4"))
		f.change(fence, func(x *command.Tx, o *command.Operation) error { return o.Deliver(x.Now, time.Minute) }, key(id, "m3"))
		f.change(fence, func(x *command.Tx, o *command.Operation) error { return o.Accept(x.Now, time.Minute) }, key(id, "m4"))
		f.change(fence, succeed, key(id, "m5"))
		f.change(fence, failWith("BUSY"), key(id, "m6"))
		f.change(fence, func(x *command.Tx, o *command.Operation) error { return o.Expire(x.Now) }, key(id, "m7"))
		f.change(fence, func(x *command.Tx, o *command.Operation) error { return o.Cancel(x.Now, "user") }, key(id, "m8"))
		f.change(fence, func(x *command.Tx, o *command.Operation) error { return o.Die(x.Now) }, key(id, "m9"))
	}
	f.issue(tenantB, "b1")
}

// pages reads a list to its end.
func (f fixture) pages(tenant fleet.Tenant, filter command.OperationFilter, limit int) []command.OperationView {
	f.Helper()
	var all []command.OperationView
	p := command.Page{Limit: limit}
	for {
		list, err := f.FindOperations(f.ctx, tenant, filter, p)
		check(f, err)
		if len(list.Items) > limit {
			f.Fatalf("%d items on a page of %d", len(list.Items), limit)
		}
		all = append(all, list.Items...)
		if p.Cursor = list.NextCursor; p.Cursor == "" {
			return all
		}
	}
}

func TestFindOperations(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.manyStates()
		all := f.pages(tenantA, command.OperationFilter{}, 4)
		if len(all) != 27 {
			t.Fatalf("%d operations", len(all))
		}
		seen := map[command.Key]bool{}
		for i, o := range all {
			k := command.Key{CommandID: o.CommandID, DeviceID: o.DeviceID}
			if seen[k] || o.DeviceID == "b1" || len(o.Moves) == 0 {
				t.Fatalf("operation %+v", o)
			}
			seen[k] = true
			if i > 0 && all[i].Moves[0].At.After(all[i-1].Moves[0].At) {
				t.Fatalf("not newest first at %d", i)
			}
		}
		device := map[command.State]string{command.Queued: "m1", command.Sent: "m2", command.Delivered: "m3", command.Accepted: "m4",
			command.Succeeded: "m5", command.Failed: "m6", command.Expired: "m7", command.Cancelled: "m8", command.Dead: "m9"}
		for _, s := range command.States {
			got := f.pages(tenantA, command.OperationFilter{State: s}, 2)
			if len(got) != 3 || string(got[0].DeviceID) != device[s] || got[0].State != s {
				t.Fatalf("%s: %+v", s, got)
			}
		}
		last := all[0].CommandID
		for name, test := range map[string]struct {
			f    command.OperationFilter
			want int
		}{
			"device":             {command.OperationFilter{DeviceID: "m1"}, 3},
			"device and state":   {command.OperationFilter{DeviceID: "m6", State: command.Failed}, 3},
			"not in that state":  {command.OperationFilter{DeviceID: "m6", State: command.Sent}, 0},
			"endpoint":           {command.OperationFilter{EndpointID: "ipc1"}, 27},
			"another endpoint":   {command.OperationFilter{EndpointID: "ipc2"}, 0},
			"code":               {command.OperationFilter{Code: "BUSY"}, 3},
			"another code":       {command.OperationFilter{Code: "BUSYBODY"}, 0},
			"kind":               {command.OperationFilter{Kind: command.MeterRead}, 27},
			"another kind":       {command.OperationFilter{Kind: command.DevicePing}, 0},
			"command":            {command.OperationFilter{CommandID: last}, 9},
			"command and state":  {command.OperationFilter{CommandID: last, State: command.Queued}, 1},
			"command and device": {command.OperationFilter{CommandID: last, DeviceID: "m3"}, 1},
			"no such state":      {command.OperationFilter{State: "dreaming"}, 0},
			"no such group":      {command.OperationFilter{Group: "north"}, 0},
			"time":               {command.OperationFilter{From: all[8].Moves[0].At, To: all[8].Moves[0].At.Add(time.Microsecond)}, 9},
			"nothing then":       {command.OperationFilter{To: all[26].Moves[0].At}, 0},
			"odd text":           {command.OperationFilter{DeviceID: "m1\x00", Code: "'; DROP TABLE operations; --\xff"}, 0},
		} {
			if got := f.pages(tenantA, test.f, 2); len(got) != test.want {
				t.Errorf("%s: %d operations, want %d", name, len(got), test.want)
			}
		}
		check(t, second(db.CreateGroup(f.ctx, by(tenantA), fleet.Group{Name: "north"})))
		check(t, db.AddMembers(f.ctx, by(tenantA), "north", []fleet.DeviceID{"m1", "m5"}))
		if got := f.pages(tenantA, command.OperationFilter{Group: "north", State: command.Succeeded}, 2); len(got) != 3 {
			t.Errorf("group: %+v", got)
		}
		if got := f.pages(tenantB, command.OperationFilter{}, 5); len(got) != 1 || got[0].DeviceID != "b1" {
			t.Errorf("another tenant sees %+v", got)
		}
		for _, id := range []command.ID{last, "nobody"} {
			if got := f.pages(tenantB, command.OperationFilter{CommandID: id}, 5); len(got) != 0 {
				t.Errorf("another tenant sees %+v", got)
			}
		}
	})
}

func second[A any](_ A, err error) error { return err }

// From its deadline on an operation is in the list of the expired and in no other.
func TestListsShowExpiryAsAFact(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.manyStates()
		id := f.pages(tenantA, command.OperationFilter{}, 1)[0].CommandID
		f.overdue(id)
		for s, want := range map[command.State]int{command.Queued: 2, command.Sent: 2, command.Delivered: 2, command.Accepted: 2, command.Succeeded: 3, command.Expired: 7} {
			got := f.pages(tenantA, command.OperationFilter{State: s}, 3)
			if len(got) != want {
				t.Errorf("%s: %d, want %d", s, len(got), want)
			}
			for _, o := range got {
				if o.State != s {
					t.Errorf("in the list of %s: %s", s, o.State)
				}
			}
		}
		if c := f.command(id); !c.ShownExpired {
			t.Error("shown, and nobody noted it")
		}
		list, err := db.FindCommands(f.ctx, tenantA, command.CommandFilter{Status: command.StatusRunning}, command.Page{Limit: 10})
		check(t, err)
		for _, v := range list.Items {
			if v.ID == id {
				t.Errorf("overdue command in the list of those that run: %+v", v)
			}
		}
		list, err = db.FindCommands(f.ctx, tenantA, command.CommandFilter{Status: command.StatusPartial}, command.Page{Limit: 10})
		check(t, err)
		if len(list.Items) != 1 || list.Items[0].ID != id || list.Items[0].Counts.Expired != 5 || list.Items[0].FinishedAt == nil {
			t.Errorf("partial: %+v", list.Items)
		}
	})
}

func TestFindCommands(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2")
		f.direct(tenantB, "b1")
		fence := f.own("w")
		made := map[command.Status]command.ID{}
		end := func(s command.Status, one, two func(*command.Tx, *command.Operation) error) {
			id := f.issue(tenantA, "d1", "d2").Command.ID
			f.change(fence, one, key(id, "d1"))
			f.change(fence, two, key(id, "d2"))
			made[s] = id
		}
		expire := func(x *command.Tx, o *command.Operation) error { return o.Expire(x.Now) }
		cancel := func(x *command.Tx, o *command.Operation) error { return o.Cancel(x.Now, "") }
		die := func(x *command.Tx, o *command.Operation) error { return o.Die(x.Now) }
		end(command.StatusSucceeded, succeed, succeed)
		end(command.StatusFailed, failWith("X"), die)
		end(command.StatusExpired, expire, expire)
		end(command.StatusCancelled, cancel, cancel)
		end(command.StatusPartial, succeed, cancel)
		end(command.StatusRunning, claim, succeed)
		f.issue(tenantB, "b1")
		c := want(tenantA, ids("d1"))
		c.Kind = command.DevicePing
		ping := f.create(c, time.Hour).Command

		for s, id := range made {
			list, err := db.FindCommands(f.ctx, tenantA, command.CommandFilter{Status: s, Kind: command.MeterRead}, command.Page{Limit: 10})
			check(t, err)
			if len(list.Items) != 1 || list.Items[0].ID != id || list.Items[0].Status != s {
				t.Errorf("%s: %+v", s, list.Items)
			}
		}
		var all []command.ID
		p := command.Page{Limit: 3}
		for {
			list, err := db.FindCommands(f.ctx, tenantA, command.CommandFilter{}, p)
			check(t, err)
			for _, v := range list.Items {
				all = append(all, v.ID)
			}
			if p.Cursor = list.NextCursor; p.Cursor == "" {
				break
			}
		}
		if len(all) != 7 || all[0] != ping.ID || all[6] != made[command.StatusSucceeded] {
			t.Fatalf("commands %v", all)
		}
		list, err := db.FindCommands(f.ctx, tenantA, command.CommandFilter{From: ping.CreatedAt, Kind: command.DevicePing}, command.Page{})
		check(t, err)
		if len(list.Items) != 1 {
			t.Fatalf("since then: %+v", list.Items)
		}
		if list, err := db.FindCommands(f.ctx, tenantA, command.CommandFilter{Status: "odd"}, command.Page{Limit: 5}); err != nil || len(list.Items) != 0 {
			t.Fatalf("odd status: %+v %v", list.Items, err)
		}
	})
}

func TestCursorsOfOthersAreRefused(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		for _, c := range []string{"x", "%%%", "bnVsbA==", "eyJ0Ijo1fQ", "eyJhIjoxfQ", "e30", "eyJpIjoiXHUwMDAwIn0", "eyJzIjoxfXsicyI6MX0", strings.Repeat("A", 9999)} {
			p := command.Page{Limit: 5, Cursor: c}
			_, err1 := db.FindOperations(ctx, tenantA, command.OperationFilter{}, p)
			_, err2 := db.FindCommands(ctx, tenantA, command.CommandFilter{}, p)
			_, err3 := db.Readings(ctx, tenantA, command.ReadingFilter{DeviceID: "d1"}, p)
			_, err4 := db.Events(ctx, tenantA, command.EventFilter{}, p)
			_, err5 := db.DeadLetters(ctx, tenantA, command.DeadLetterFilter{}, p)
			for i, err := range []error{err1, err2, err3, err4, err5} {
				var wrong *command.Invalid
				switch {
				case c == "e30": // {}: a cursor before everything
					check(t, err)
				case !errors.As(err, &wrong) || wrong.Fields[0].Pointer != "?cursor":
					t.Errorf("list %d, cursor %q: %v", i, c, err)
				}
			}
		}
	})
}
