package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/testkit"
)

// line has all that come wait until it is opened.
func (f fixture) line(n int) []*creation {
	var batch []*creation
	for i := range n {
		batch = append(batch, &creation{
			command: want(tenantA, ids(fmt.Sprint("d", i%4))), ttl: time.Hour, first: 1000, born: command.Born,
			lead: make(chan []*creation, 1), done: make(chan struct{}),
		})
		batch[i].command.ID = command.ID(newID())
	}
	return batch
}

func TestCreatedTogetherEachGetsItsOwnAnswer(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d0", "d1", "d2", "d3")
		f.direct(tenantB, "foreign")
		taken := command.Idempotency{Key: "taken", BodyHash: []byte("a")}
		old, err := db.Create(f.ctx, want(tenantA, ids("d0")), time.Hour, taken, 1000, command.Born)
		check(t, err)

		batch := f.line(7)
		batch[1].command.Selector = ids("d1", "foreign")
		batch[2].key = taken
		batch[3].key = command.Idempotency{Key: "fresh", BodyHash: []byte("b")}
		batch[4].key = batch[3].key // the same, twice at once
		batch[5].key = command.Idempotency{Key: "refused", BodyHash: []byte("c")}
		batch[5].command.Selector = ids("nobody")
		db.createAll(f.ctx, batch)

		for i, one := range batch {
			switch {
			case i == 1 || i == 5:
				if !isInvalid(one.err) || one.apart {
					t.Errorf("%d: %v, apart %v", i, one.err, one.apart)
				}
				if _, _, _, err := db.Snapshot(f.ctx, one.command.ID, 1); !isNotFound(err) {
					t.Errorf("%d: refused, and there: %v", i, err)
				}
			case i == 2 || i == 4:
				if !one.apart {
					t.Errorf("%d: its key is taken, and it is not made apart", i)
				}
			default:
				check(t, one.err)
				c := f.command(one.command.ID)
				if got := one.made.Command; got.Seq != c.Seq || got.Counts != c.Counts || !got.ExpiresAt.Equal(c.ExpiresAt) || got.Version != c.Version {
					t.Errorf("%d: %+v, in the record %+v", i, got, c)
				}
				if len(one.made.Operations) != 1 || one.made.Operations[0].Seq != c.Seq {
					t.Errorf("%d: %+v of command %d", i, one.made.Operations, c.Seq)
				}
			}
		}
		for i, want := range map[int]command.ID{2: old.Command.ID, 4: batch[3].command.ID} {
			again, err := db.Create(f.ctx, batch[i].command, time.Hour, batch[i].key, 1000, command.Born)
			if err != nil || !again.Replayed || again.Command.ID != want {
				t.Errorf("%d: %+v %v", i, again, err)
			}
		}
		batch[5].command.Selector = ids("d2")
		made, err := db.Create(f.ctx, batch[5].command, time.Hour, batch[5].key, 1000, command.Born)
		if err != nil || made.Replayed {
			t.Errorf("the key of what was refused is not free: %+v %v", made, err)
		}
	})
}

// What no transaction can hold is the fault of one: the others go their own way.
func TestOneThatBreaksTheTransactionDoesNotBreakTheOthers(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d0", "d1", "d2", "d3")
		var wait sync.WaitGroup
		errs := make([]error, 40)
		for i := range errs {
			wait.Go(func() {
				c := want(tenantA, ids(fmt.Sprint("d", i%4)))
				if i%10 == 0 {
					c.Priority = 77 // the schema allows 9
				}
				_, errs[i] = db.Create(f.ctx, c, time.Hour, command.Idempotency{}, 1000, command.Born)
			})
		}
		wait.Wait()
		for i, err := range errs {
			if (i%10 == 0) == (err == nil) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if n, err := db.OpenOperations(f.ctx, tenantA); err != nil || n != 36 {
			t.Errorf("%d open: %v", n, err)
		}
	})
}

func TestCallersThatWentAwayHoldNobodyUp(t *testing.T) {
	q := creations{wait: time.Hour, of: map[fleet.Tenant]*creationQueue{}}
	make1 := func() *creation {
		return &creation{command: command.Command{Tenant: tenantA}, lead: make(chan []*creation, 1), done: make(chan struct{})}
	}
	started, hold := make(chan int, 10), make(chan struct{})
	create := func(_ context.Context, batch []*creation) {
		started <- len(batch)
		<-hold
		for _, one := range batch {
			one.err = nil
		}
	}
	var wait sync.WaitGroup
	wait.Go(func() { _ = q.join(t.Context(), make1(), create) })
	<-started
	gone, leave := context.WithCancel(t.Context())
	left := make1()
	leftWith := make(chan error, 1)
	wait.Go(func() { leftWith <- q.join(gone, left, create) })
	waits := func(n int) {
		testkit.Eventually(t, time.Minute, func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return len(q.of[tenantA].waiting) == n
		}, "callers to wait")
	}
	waits(1)
	leave()
	if err := <-leftWith; !errors.Is(err, context.Canceled) {
		t.Fatalf("who went away: %v", err)
	}
	for i := range togetherMost + 1 {
		wait.Go(func() {
			if err := q.join(t.Context(), make1(), create); err != nil {
				t.Error(err)
			}
		})
		waits(i + 1)
	}
	close(hold)
	if first, second := <-started, <-started; first+second != togetherMost+1 {
		t.Fatalf("%d and %d were created together", first, second)
	}
	wait.Wait()
	if len(q.of) != 0 {
		t.Fatalf("%d queues are left", len(q.of))
	}
}

func TestWhoHasWaitedForLongGoesAlone(t *testing.T) {
	q := creations{wait: time.Millisecond, of: map[fleet.Tenant]*creationQueue{}}
	make1 := func(key string) *creation {
		return &creation{command: command.Command{Tenant: tenantA}, key: command.Idempotency{Key: key},
			lead: make(chan []*creation, 1), done: make(chan struct{})}
	}
	started, hold := make(chan int, 10), make(chan struct{})
	create := func(_ context.Context, batch []*creation) { started <- len(batch); <-hold }
	var wait sync.WaitGroup
	wait.Go(func() { _ = q.join(t.Context(), make1("k"), create) })
	<-started
	for name, one := range map[string]*creation{"of a key that is being created": make1("k"), "behind one that stands still": make1("")} {
		if err := q.join(t.Context(), one, create); err != nil || !one.apart {
			t.Errorf("%s: %v, apart %v", name, err, one.apart)
		}
	}
	close(hold)
	wait.Wait()
	if len(started) != 0 || len(q.of) != 0 {
		t.Errorf("%d more transactions, %d queues left", len(started), len(q.of))
	}
}

func TestOpenCountsAreShared(t *testing.T) {
	var o openCounts
	now := time.Now()
	c, mine := o.begin(tenantA, now)
	if same, again := o.begin(tenantA, now); !mine || again || same != c {
		t.Fatal("two count at the same time")
	}
	if _, other := o.begin(tenantB, now); !other {
		t.Fatal("tenants share a count")
	}
	o.end(tenantA, c, 5, nil, now, openSlow/2)
	if _, mine = o.begin(tenantA, now); !mine {
		t.Fatal("a quick count is kept")
	}
	c = o.of[tenantA]
	o.add(command.Created{Command: command.Command{Tenant: tenantA, Counts: command.Counts{Total: 3, Queued: 3}}})
	o.end(tenantA, c, 5, nil, now, openSlow)
	held, mine := o.begin(tenantA, now.Add(openHolds*openSlow-1))
	if n, err := o.value(held); mine || n != 8 || err != nil {
		t.Fatalf("a slow count holds, with what was made since: %v %d %v", mine, n, err)
	}
	if _, mine = o.begin(tenantA, now.Add(openHolds*openSlow)); !mine {
		t.Fatal("a slow count holds for ever")
	}
}
