package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meterline/command"
	"meterline/meterread"
)

// Whatever is done in whatever order, the counts of every command are what its operations add up to, versions have no
// holes, and what has ended stays as it ended.
func TestCountsAreAlwaysRight(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		fix(t, db).ipc(tenantA, "ipc", "m0", "m1", "m2", "m3", "m4", "m5")
		rapid.Check(t, func(rt *rapid.T) { newWalk(rt, t, db).run() })
	})
}

// walk is one random walk over some commands of its own.
type walk struct {
	rt    *rapid.T
	f     fixture
	fence command.Fence
	ids   []command.ID
	ended map[command.Key]command.State
}

func newWalk(rt *rapid.T, t *testing.T, db *DB) *walk {
	f := fixture{t, db, context.WithoutCancel(t.Context())}
	return &walk{rt: rt, f: f, fence: f.own("w"), ended: map[command.Key]command.State{}}
}

func (w *walk) run() {
	w.create()
	for range rapid.IntRange(8, 24).Draw(w.rt, "steps") {
		switch rapid.SampledFrom([]string{"create", "move", "move", "move", "end", "cancel", "expand", "shown"}).Draw(w.rt, "step") {
		case "create":
			if len(w.ids) < 3 {
				w.create()
			}
		case "move":
			w.move()
		case "end":
			w.end()
		case "cancel":
			if len(w.ids) > 0 {
				check(w.f, w.f.Cancel(w.f.ctx, by(tenantA), w.pick()))
			}
		case "expand":
			_, _, err := w.f.Expand(w.f.ctx, rapid.IntRange(1, 4).Draw(w.rt, "chunk"), command.Born)
			check(w.f, err)
		case "shown":
			check(w.f, w.f.Shown(w.f.ctx, w.ids))
		}
		w.verify()
	}
}

func (w *walk) pick() command.ID { return rapid.SampledFrom(w.ids).Draw(w.rt, "command") }

func (w *walk) create() {
	first := rapid.IntRange(0, 7).Draw(w.rt, "first")
	made, err := w.f.Create(w.f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, first, command.Born)
	check(w.f, err)
	w.ids = append(w.ids, made.Command.ID)
}

// move takes some operations a random, allowed step on.
func (w *walk) move() {
	if len(w.ids) == 0 {
		return
	}
	var need command.Need
	for range rapid.IntRange(1, 5).Draw(w.rt, "operations") {
		need.Operations = append(need.Operations, key(w.pick(), fmt.Sprint("m", rapid.IntRange(0, 5).Draw(w.rt, "device"))))
	}
	steps := rapid.SliceOfN(rapid.SampledFrom(command.States), len(need.Operations), -1).Draw(w.rt, "to")
	_, err := w.f.Change(w.f.ctx, w.fence, need, func(x *command.Tx) error {
		for i, k := range need.Operations {
			if o := x.Operations[k]; o != nil && o.State.Open() {
				step(x, o, steps[i])
			} else if o != nil {
				o.Late(x.Now)
			}
		}
		return nil
	})
	check(w.f, err)
}

// step tries to move an operation; what the state machine does not allow leaves it alone.
func step(x *command.Tx, o *command.Operation, to command.State) {
	switch to {
	case command.Queued:
		_ = o.Requeue(x.Now, x.Now, true, "no answer")
	case command.Sent:
		_ = claim(x, o)
	case command.Delivered:
		_ = o.Deliver(x.Now, time.Minute)
	case command.Accepted:
		_ = o.Accept(x.Now, time.Minute)
	case command.Succeeded:
		o.Readings = append(o.Readings, meterread.Reading{DeviceID: o.DeviceID, Item: "1-0:1.8.0", Value: "1", ReadAt: x.Now})
		_ = o.Succeed(x.Now)
	case command.Failed:
		_ = o.Fail(x.Now, command.Failure{Code: "X"})
	case command.Expired:
		_ = o.Expire(x.Now)
	case command.Cancelled:
		_ = o.Cancel(x.Now, "user")
	case command.Dead:
		_ = o.Die(x.Now)
	}
}

func (w *walk) end() {
	if len(w.ids) == 0 {
		return
	}
	after := meterread.DeviceID(fmt.Sprint("m", rapid.IntRange(0, 5).Draw(w.rt, "after")))
	_, _, _, err := w.f.End(w.f.ctx, nil, []command.ID{w.pick()}, command.Cancelled, "user", after, rapid.IntRange(1, 4).Draw(w.rt, "limit"))
	check(w.f, err)
}

func (w *walk) verify() {
	for _, id := range w.ids {
		c := w.f.command(id) // compares the counts
		failed := 0
		for _, o := range w.f.pages(tenantA, command.OperationFilter{CommandID: id}, 100) {
			k := command.Key{CommandID: id, DeviceID: o.DeviceID}
			was, had := w.ended[k]
			if had && was != o.State {
				w.rt.Fatalf("%v ended as %s and is %s", k, was, o.State)
			}
			if !o.State.Open() {
				w.ended[k] = o.State
			}
			if o.Error != nil {
				failed++
			}
			moves := int64(len(o.Moves))
			if o.LateResultAt != nil {
				moves++
			}
			if o.Version < moves || o.Moves[len(o.Moves)-1].State != o.State || o.Changed > c.Version {
				w.rt.Fatalf("version %d after %d moves %v, changed %d of %d", o.Version, len(o.Moves), o.Moves, o.Changed, c.Version)
			}
		}
		counted := 0
		for _, n := range c.Errors {
			counted += n
		}
		if counted != failed {
			w.rt.Fatalf("%d errors are counted, %d operations have one", counted, failed)
		}
	}
}

// What moves while an operation is open must stay out of every index: PostgreSQL then updates it in place (HOT), which is
// what makes a step cheap.
func TestMovesAreHOT(t *testing.T) {
	t.Parallel()
	db := openPostgres(t)
	f := fix(t, db)
	f.direct(tenantA, "d1")
	id := f.issue(tenantA, "d1").Command.ID
	fence := f.own("w")
	stats := func() (updated, hot int) {
		t.Helper()
		check(t, f.single(f.ctx, func(x *tx) error {
			return x.each(func(row scanner) error { return row.Scan(&updated, &hot) }, `
				SELECT sum(n_tup_upd), sum(n_tup_hot_upd) FROM pg_stat_user_tables WHERE relname IN ('operations', 'commands')`)
		}))
		return updated, hot
	}
	beforeAll, beforeHot := stats()
	f.change(fence, claim, key(id, "d1"))
	f.change(fence, func(x *command.Tx, o *command.Operation) error { return o.Deliver(x.Now, time.Minute) }, key(id, "d1"))
	f.change(fence, func(x *command.Tx, o *command.Operation) error { return o.Accept(x.Now, time.Minute) }, key(id, "d1"))
	f.change(fence, func(x *command.Tx, o *command.Operation) error { return o.Requeue(x.Now, x.Now, true, "") }, key(id, "d1"))
	deadline := time.Now().Add(time.Minute)
	for { // statistics follow within a second or so
		all, hot := stats()
		all, hot = all-beforeAll, hot-beforeHot
		if all >= 8 {
			if hot != all {
				t.Fatalf("%d of %d updates were HOT", hot, all)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d updates are known of, want 8", all)
		}
		check(t, f.exec1(`SELECT pg_stat_force_next_flush()`))
	}
}
