package testkit

import (
	"database/sql"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// The servers that the tests of this process share. They live as long as the process does.
var (
	sharedPostgres = sync.OnceValues(StartPostgres)
	sharedRedis    = sync.OnceValues(StartRedis)
)

// Postgres returns the URL of a fresh, empty database of its own for the test, on a server that tests share. The
// database is dropped when the test ends, open connections included.
func Postgres(t testing.TB) (url string) {
	t.Helper()
	admin := os.Getenv(EnvPostgresURL)
	if admin == "" {
		s, err := sharedPostgres()
		need(t, err)
		admin = s.URL
	}
	url, name, err := createDatabase(admin, t.Name())
	need(t, err)
	t.Cleanup(func() {
		err := withDB(admin, func(db *sql.DB) error {
			_, err := db.Exec(`DROP DATABASE ` + name + ` WITH (FORCE)`)
			return err
		})
		if err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return url
}

// Redis returns the address (host:port) of a Redis that tests share, other packages' included: use keys of the test's
// own, and never flush it. See [RedisURL] for a database of the test's own and [RedisPrivate] for a server.
func Redis(t testing.TB) (addr string) {
	t.Helper()
	if addr := os.Getenv(EnvRedisAddr); addr != "" {
		return addr
	}
	s, err := sharedRedis()
	need(t, err)
	return s.Addr
}

// RedisURL returns the URL (redis://host:port/n) of a numbered database that the test has to itself, emptied and given
// back when it ends. Channels of PUBLISH and FLUSHALL are not separated by database.
func RedisURL(t testing.TB) (url string) {
	t.Helper()
	addr := Redis(t)
	db, release, err := claimDatabase(t.Context(), addr)
	need(t, err)
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Errorf("release Redis database: %v", err)
		}
	})
	return fmt.Sprintf("redis://%s/%d", addr, db)
}

// Server is a server that one test has to itself and may break. Its methods wait until what they say is so, and fail
// the test when it does not become so; call them from the test's goroutine. The address stays the same all the time.
type Server struct {
	t    testing.TB
	proc *process
}

// Stop ends the server in order: sessions are closed, everything is written. On a server that is down it does nothing.
func (s *Server) Stop() { s.t.Helper(); s.must(s.proc.stop()) }

// Kill ends all processes of the server by SIGKILL. What the kernel had taken is kept: only a power failure tests fsync.
func (s *Server) Kill() { s.t.Helper(); s.must(s.proc.kill()) }

// Start starts the server again, with the files it left, and returns when it answers.
func (s *Server) Start() { s.t.Helper(); s.must(s.proc.restart(nil)) }

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// PostgresHandle is a PostgreSQL for one test.
type PostgresHandle struct {
	Server
	URL string // of an empty database, as superuser
}

// PostgresPrivate starts a PostgreSQL for the test alone, which takes about two seconds, and removes it when the test
// ends.
func PostgresPrivate(t testing.TB) *PostgresHandle {
	t.Helper()
	s, err := StartPostgres()
	need(t, err)
	closeAfter(t, s.proc)
	url, _, err := createDatabase(s.URL, t.Name())
	need(t, err)
	return &PostgresHandle{Server: Server{t: t, proc: s.proc}, URL: url}
}

// Pause lets all processes of the server stand still: connections stay open, new ones are taken by the kernel, and nothing is
// answered.
func (p *PostgresHandle) Pause() { p.t.Helper(); p.must(p.proc.freeze()) }

// Resume ends Pause.
func (p *PostgresHandle) Resume() { p.t.Helper(); p.must(p.proc.thaw()) }

// RedisHandle is a Redis for one test.
type RedisHandle struct {
	Server
	Addr string // host:port
}

// RedisPrivate starts a Redis for the test alone and removes it when the test ends.
func RedisPrivate(t testing.TB) *RedisHandle {
	t.Helper()
	return RedisConfigured(t, asDurable...)
}

// RedisConfigured is RedisPrivate with settings of the test's own, as arguments of redis-server: a configuration file
// first, if there is one, then such as "--appendfsync", "always". Port, address and directory are given.
func RedisConfigured(t testing.TB, settings ...string) *RedisHandle {
	t.Helper()
	s, err := startRedis(settings...)
	need(t, err)
	closeAfter(t, s.proc)
	return &RedisHandle{Server: Server{t: t, proc: s.proc}, Addr: s.Addr}
}

// Pause lets the server stand still: connections stay open, new ones are taken by the kernel, and nothing is answered.
func (r *RedisHandle) Pause() { r.t.Helper(); r.must(r.proc.pause()) }

// Resume ends Pause.
func (r *RedisHandle) Resume() { r.t.Helper(); r.must(r.proc.resume()) }

// FlushAll removes every key of every database.
func (r *RedisHandle) FlushAll() {
	r.t.Helper()
	r.must(withRedis(r.Addr, func(c *redis.Client) error {
		return c.FlushAll(r.t.Context()).Err()
	}))
}

func closeAfter(t testing.TB, p *process) {
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Errorf("take down %s: %v", p.name, err)
		}
	})
}
