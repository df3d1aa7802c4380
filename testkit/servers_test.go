package testkit_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/testkit"
)

const patience = time.Minute

func open(t *testing.T, databaseURL string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func text(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	var s string
	if err := db.QueryRow(query).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestPostgresIsFreshAndDurable(t *testing.T) {
	t.Parallel()
	a, b := open(t, testkit.Postgres(t)), open(t, testkit.Postgres(t))
	exec(t, a, `CREATE TABLE marks (n int)`)
	if got := text(t, b, `SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'`); got != "0" {
		t.Errorf("the second database has %s tables, want none", got)
	}
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "timezone": "UTC", "server_encoding": "UTF8",
	} {
		if got := text(t, a, `SHOW `+setting); got != want {
			t.Errorf("%s is %s, want %s", setting, got, want)
		}
	}
}

func TestPostgresDropsTheDatabase(t *testing.T) {
	t.Parallel()
	admin := open(t, testkit.Postgres(t))
	var name string
	t.Run("user", func(t *testing.T) {
		u, err := url.Parse(testkit.Postgres(t))
		if err != nil {
			t.Fatal(err)
		}
		name = u.Path[1:]
		db := open(t, u.String()) // closed only after the drop: the drop does not wait for it
		if got := text(t, db, `SELECT current_database()`); got != name {
			t.Fatalf("connected to %s, want %s", got, name)
		}
	})
	if got := text(t, admin, `SELECT count(*) FROM pg_database WHERE datname = '`+name+`'`); got != "0" {
		t.Errorf("database %s is still there", name)
	}
}

func TestPostgresPrivateStopsStartsAndIsKilled(t *testing.T) {
	t.Parallel()
	server := testkit.PostgresPrivate(t)
	db := open(t, server.URL)
	exec(t, db, `CREATE TABLE marks (n int)`)
	exec(t, db, `INSERT INTO marks VALUES (1)`)

	server.Stop()
	if err := db.Ping(); err == nil {
		t.Fatal("a stopped server answers")
	}
	server.Stop() // does nothing
	server.Start()
	exec(t, db, `INSERT INTO marks VALUES (2)`)

	server.Kill()
	if err := db.Ping(); err == nil {
		t.Fatal("a killed server answers")
	}
	server.Start()
	if got := text(t, db, `SELECT string_agg(n::text, ',' ORDER BY n) FROM marks`); got != "1,2" {
		t.Errorf("after the kill there is %s, want 1,2", got)
	}
}

func client(t *testing.T, o *redis.Options) *redis.Client {
	t.Helper()
	o.MaxRetries = -1
	o.ContextTimeoutEnabled = true
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedisIsDurable(t *testing.T) {
	t.Parallel()
	c := client(t, &redis.Options{Addr: testkit.Redis(t)})
	for setting, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": "",
	} {
		got, err := c.ConfigGet(t.Context(), setting).Result()
		if err != nil {
			t.Fatal(err)
		}
		if got[setting] != want {
			t.Errorf("%s is %q, want %q", setting, got[setting], want)
		}
	}
}

func TestRedisURLIsADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	_ = testkit.Redis(t) // without it all of this is skipped, not only the part below
	parse := func(u string) *redis.Options {
		o, err := redis.ParseURL(u)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	var first *redis.Options
	t.Run("user", func(t *testing.T) {
		first = parse(testkit.RedisURL(t))
		second := parse(testkit.RedisURL(t))
		if first.DB == 0 || first.DB == second.DB {
			t.Fatalf("databases %d and %d, want two different ones and not 0", first.DB, second.DB)
		}
		if err := client(t, first).Set(t.Context(), "mark", "1", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := client(t, second).Get(t.Context(), "mark").Result(); !errors.Is(err, redis.Nil) {
			t.Errorf("the other database sees the mark: %v", err)
		}
	})
	if _, err := client(t, first).Get(t.Context(), "mark").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("the mark outlives its test: %v", err)
	}
}

func TestRedisPrivateCanBeBroken(t *testing.T) {
	t.Parallel()
	server := testkit.RedisPrivate(t)
	c := client(t, &redis.Options{Addr: server.Addr})
	set := func(key string) error { return c.Set(t.Context(), key, "1", 0).Err() }
	if err := set("a"); err != nil {
		t.Fatal(err)
	}

	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Error("a paused server answers")
	}
	server.Resume()
	testkit.Eventually(t, patience, func() error { return set("b") }, "an answer after the pause")

	server.Kill()
	if err := set("c"); err == nil {
		t.Error("a killed server answers")
	}
	server.Start()
	if n, err := c.Exists(t.Context(), "a", "b").Result(); err != nil || n != 2 {
		t.Errorf("after the kill there are %d of 2 keys: %v", n, err)
	}

	server.FlushAll()
	if n, err := c.DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Errorf("after FlushAll there are %d keys: %v", n, err)
	}
	if err := set("d"); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	server.Start()
	if n, err := c.Exists(t.Context(), "d").Result(); err != nil || n != 1 {
		t.Errorf("after the stop there are %d of 1 keys: %v", n, err)
	}
}
