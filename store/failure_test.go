package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"meterline/command"
	"meterline/testkit"
)

func TestServerGoneAndBack(t *testing.T) {
	t.Parallel()
	server := testkit.PostgresPrivate(t)
	db := newRecord(t, server.URL)
	f := fix(t, db)
	f.direct(tenantA, "d1")
	id := f.issue(tenantA, "d1").Command.ID
	fence := f.own("w")
	need := command.Need{Operations: []command.Key{key(id, "d1")}}

	_, err := db.Change(f.ctx, fence, need, func(x *command.Tx) error {
		server.Kill() // in the middle of a transaction
		return succeed(x, x.Operations[key(id, "d1")])
	})
	if !errors.Is(err, command.ErrUnavailable) {
		t.Fatalf("change over a dying server: %v", err)
	}
	for what, try := range map[string]func() error{
		"change":   func() error { return second(db.Change(f.ctx, fence, need, func(*command.Tx) error { return nil })) },
		"snapshot": func() error { _, _, _, err := db.Snapshot(f.ctx, id, 1); return err },
		"list": func() error {
			return second(db.FindOperations(f.ctx, tenantA, command.OperationFilter{}, command.Page{Limit: 1}))
		},
		"now": func() error { return second(db.Now(f.ctx)) },
		"create": func() error {
			return second(db.Create(f.ctx, want(tenantA, ids("d1")), time.Hour, command.Idempotency{}, 1, command.Born))
		},
	} {
		if err := try(); !errors.Is(err, command.ErrUnavailable) {
			t.Errorf("%s without a server: %v", what, err)
		}
	}
	server.Start()
	testkit.Eventually(t, time.Minute, func() error { return second(db.Now(f.ctx)) }, "the server to be back")
	if o := f.operation(key(id, "d1")); o.State != command.Queued {
		t.Fatalf("the transaction that was cut off left %s", o.State)
	}
	f.change(fence, succeed, key(id, "d1"))
	if c := f.command(id); c.Running() {
		t.Fatalf("command %+v", c)
	}
}

func TestOpenNotMigrated(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		if path, ok := SQLitePath(url); ok { // a file that is there and empty
			pool, err := sql.Open("sqlite", path)
			check(t, err)
			_, err = pool.Exec(`CREATE TABLE other (x)`)
			check(t, errors.Join(err, pool.Close()))
		}
		_, err := Open(t.Context(), Options{URL: url})
		if !errors.Is(err, ErrNotMigrated) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("open: %v", err)
		}
	})
}

func TestErrorsDoNotTellThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://u:s3cret@127.0.0.1:1/x?sslmode=disable", "postgres://u:s3cret@[::bad/x", "postgres://u:s3cret@127.0.0.1:1/x?sslmode=odd"} {
		_, err := Open(t.Context(), Options{URL: url})
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("open %s: %v", url, err)
		}
	}
}

func TestACallerThatGoesAwayIsToldSo(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		id := f.issue(tenantA, "d1").Command.ID
		ctx, leave := context.WithCancel(f.ctx)
		_, err := db.Change(ctx, nil, command.Need{Operations: []command.Key{key(id, "d1")}}, func(x *command.Tx) error {
			leave()
			return succeed(x, x.Operations[key(id, "d1")])
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("change: %v", err)
		}
		if o := f.operation(key(id, "d1")); o.State != command.Queued {
			t.Fatalf("operation is %s", o.State)
		}
	})
}

// A panic in the caller's code must give the connection, and SQLite's only writer, back.
func TestAPanicLetsGo(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		func() {
			defer func() { _ = recover() }()
			_, _ = db.Change(t.Context(), nil, command.Need{}, func(*command.Tx) error { panic("poison") })
		}()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		_, err := db.Change(ctx, nil, command.Need{}, func(*command.Tx) error { return nil })
		check(t, err)
	})
}

func TestGateLetsUrgentOnesPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		ctx := t.Context()
		check(t, g.enter(ctx, urgent))
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		wait := func(name string, p priority) {
			all.Go(func() {
				if err := g.enter(ctx, p); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				g.leave()
			})
			synctest.Wait()
		}
		wait("chunk 1", bulk)
		wait("chunk 2", bulk)
		for i := range patience + 2 {
			wait(fmt.Sprint("urgent ", i), urgent)
		}
		gone, leave := context.WithCancel(ctx)
		all.Go(func() {
			if err := g.enter(gone, urgent); !errors.Is(err, context.Canceled) {
				t.Errorf("who left was let in: %v", err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		g.leave()
		all.Wait()
		if order[0] != "urgent 0" || order[patience] != "chunk 1" || order[len(order)-1] != "chunk 2" || len(order) != patience+4 {
			t.Fatalf("order %v", order)
		}
		check(t, g.enter(ctx, bulk)) // nobody is in
		g.leave()
	})
}
