package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"meterline/command"
)

// Several commands end in one transaction, each as a whole, with what was sent and what was not, and those that had ended
// already stay as they were.
func TestEndTogether(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.meters(tenantA, "ipc", "m", 40)
		fence := f.own("w")
		var list []command.ID
		for range 30 {
			id := f.issue(tenantA, "m00001", "m00002", "m00003").Command.ID
			f.change(fence, claim, key(id, "m00001"))
			f.change(fence, succeed, key(id, "m00002"))
			f.overdue(id)
			list = append(list, id)
		}
		later := f.issue(tenantA, "m00001").Command.ID
		done, _, more, err := db.End(f.ctx, fence, append(list, later), command.Expired, "", "", 1000)
		check(t, err)
		if len(done.Changes) != 30 || more {
			t.Fatalf("%d changes, more is %v", len(done.Changes), more)
		}
		for i, id := range list {
			c := f.command(id)
			change := done.Changes[i]
			if c.Counts.Expired != 2 || c.Counts.Succeeded != 1 || c.FinishedAt.IsZero() || change.Command.ID != id || change.Ended != 2 ||
				len(change.Operations) != 2 || change.Operations[0].State != command.Expired || change.Operations[0].Changed != c.Version {
				t.Fatalf("%+v\n%+v", c, change)
			}
			o := f.operation(key(id, "m00001"))
			if last := o.Moves[len(o.Moves)-1]; o.State != command.Expired || last.State != command.Expired || o.Version != int64(len(o.Moves)) {
				t.Fatalf("%+v", o)
			}
		}
		if c := f.command(later); c.Counts.Queued != 1 {
			t.Fatalf("its deadline lies ahead: %+v", c.Counts)
		}
		if done, _, _, err = db.End(f.ctx, fence, list, command.Expired, "", "", 1000); err != nil || len(done.Changes) != 0 {
			t.Fatalf("ended again: %+v, %v", done, err)
		}
	})
}

// Beyond some hundreds they are not listed one by one, and a limit cuts off without a hole.
func TestEndManyInChunks(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.meters(tenantA, "ipc", "m", 1500)
		fence := f.own("w")
		large := f.create(want(tenantA, command.Selector{All: true}), time.Hour).Command.ID
		f.overdue(large)
		done, last, more, err := db.End(f.ctx, fence, []command.ID{large}, command.Expired, "", "", 1200)
		check(t, err)
		if last != "m01199" || !more || len(done.Changes) != 1 || !done.Changes[0].Bulk || done.Changes[0].Ended != 1200 {
			t.Fatalf("up to %s, more is %v: %+v", last, more, done.Changes)
		}
		if c := f.command(large); c.Counts.Expired != 1200 || !c.Running() {
			t.Fatalf("%+v", c.Counts)
		}
		done, _, more, err = db.End(f.ctx, fence, []command.ID{large}, command.Expired, "", last, 1200)
		check(t, err)
		if more || len(done.Changes) != 1 || done.Changes[0].Bulk || len(done.Changes[0].Operations) != 300 {
			t.Fatalf("more is %v, %d changes", more, len(done.Changes))
		}
		if c := f.command(large); c.Counts.Status() != command.StatusExpired || c.FinishedAt.IsZero() {
			t.Fatalf("%+v", c)
		}
	})
}

// PostgreSQL has not analysed what has just come. It must not compare every operation there is with every command that ends:
// that took minutes for what takes a second.
func TestEndTogetherWithoutStatistics(t *testing.T) {
	t.Parallel()
	f := fix(t, openPostgres(t))
	f.heap("beside", 2, 2000, "1 day")
	f.heap("due", 4000, 1, "-1 second")
	var plans []string
	pages := 0
	check(t, f.write(f.ctx, bulk, func(x *tx) error {
		e := ending{tx: x, as: command.Expired, many: true}
		found, err := e.lockSome(nil, time.Now().Add(time.Minute), f.dueIDs(), "", 5000)
		if err != nil || len(found) != 4000 {
			t.Fatalf("%d found, %v", len(found), err)
		}
		by := map[command.ID]*command.Change{}
		for _, c := range found {
			by[c.ID] = &command.Change{}
		}
		text, args := e.endSQL(nil, time.Now(), found, by, "")
		rows, err := (explaining{x.run, t, &pages, &plans}).QueryxContext(f.ctx, text+" RETURNING 1", args...)
		if err != nil {
			return err
		}
		return errors.Join(rows.Err(), rows.Close())
	}))
	if !strings.Contains(plans[0], "Tid Scan on operations") {
		t.Errorf("it looks for the rows:\n%s", plans[0])
	}
}

func (f fixture) dueIDs() []command.ID {
	f.Helper()
	due, err := f.Due(f.ctx, nil, 5000)
	check(f, err)
	ids := make([]command.ID, len(due))
	for i, c := range due {
		ids[i] = c.ID
	}
	return ids
}

// After the deadline nothing is cancelled any more, and what is made then is born expired.
func TestExpandAfterTheDeadline(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.meters(tenantA, "ipc", "m", 30)
		made, err := db.Create(f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, 10, command.Born)
		check(t, err)
		id := made.Command.ID
		f.overdue(id)
		check(t, db.Cancel(f.ctx, by(tenantA), id))
		for found := true; found; {
			_, found, err = db.Expand(f.ctx, 7, command.Born)
			check(t, err)
		}
		if c := f.command(id); c.Counts.Expired != 20 || c.Counts.Queued != 10 || !c.CancelledAt.IsZero() {
			t.Fatalf("%+v", c)
		}
		_, _, _, err = db.End(f.ctx, nil, []command.ID{id}, command.Expired, "", "", 100)
		check(t, err)
		if c := f.command(id); c.Counts.Status() != command.StatusExpired || c.Running() {
			t.Fatalf("%+v", c)
		}
	})
}

// A command that can never be expanded is given up, and does not hold up others until then.
func TestExpandGivesUp(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		db.expansions.patience = 0
		f.meters(tenantA, "ipc", "m", 30)
		make10 := func() command.ID {
			made, err := db.Create(f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, 10, command.Born)
			check(t, err)
			return made.Command.ID
		}
		poison := make10()
		check(t, f.exec1(`UPDATE devices SET tags = '[1]' WHERE id = 'm00020'`))
		fine := make10()
		check(t, f.exec1(`UPDATE commands SET selector = '{"device_ids":["m00011","m00012"]}', total = 12 WHERE id = '`+string(fine)+`'`))
		failures := 0
		for n := 0; f.command1(poison).Expanding; n++ {
			if _, _, err := db.Expand(f.ctx, 100, command.Born); err != nil {
				failures++
			}
			if n == 0 && f.command1(fine).Expanding {
				t.Fatal("another command waits for it")
			}
			if n > 2*expandTries {
				t.Fatal("it is tried for ever")
			}
		}
		if failures < expandTries-3 {
			t.Errorf("it was given up after %d failures", failures)
		}
		c := f.command1(poison)
		if c.Counts.Cancelled != 20 || c.Counts.Queued != 10 || c.CancelledAt.IsZero() || !c.Running() {
			t.Fatalf("%+v", c)
		}
		_, _, _, err := db.End(f.ctx, nil, []command.ID{poison}, command.Cancelled, "", "", 100)
		check(t, err)
		if c = f.command1(poison); c.Counts.Status() != command.StatusCancelled || c.Running() {
			t.Fatalf("%+v", c)
		}
		events, err := db.Events(f.ctx, tenantA, command.EventFilter{Type: command.EventGivenUp}, command.Page{Limit: 10})
		check(t, err)
		if len(events.Items) != 1 || !strings.Contains(string(events.Items[0].Data), string(poison)) {
			t.Fatalf("%+v", events.Items)
		}
	})
}

// command1 loads a command whose operations need not add up to its total.
func (f fixture) command1(id command.ID) command.Command {
	f.Helper()
	known, err := f.Commands(f.ctx, []command.ID{id})
	check(f, err)
	return known[id]
}
