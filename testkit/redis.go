package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a Redis that was started here, as durable as the uplink log needs it: every write is synced before it
// is answered, and nothing is evicted.
type RedisServer struct {
	Process
	Addr string // host:port
}

// redisDatabases is how many tests can have a database of one server at the same time. Redis looks for expired keys in
// 16 databases per turn, ten turns a second: with many more, keys would outlive their time by seconds.
const redisDatabases = 64

// StartRedis starts a Redis with its files in a temporary directory. It takes some tens of milliseconds.
// Tests call [Redis], [RedisURL] or [RedisPrivate] instead.
func StartRedis() (*RedisServer, error) { return startRedis(asDurable...) }

// asDurable is how the uplink log needs its Redis.
var asDurable = []string{"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction",
	"--databases", strconv.Itoa(redisDatabases)}

// startRedis starts a Redis with settings of the caller's, a configuration file first if there is one.
func startRedis(settings ...string) (*RedisServer, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, &missing{server: "Redis", install: "redis-server"}
	}
	h, err := newHome("redis", nil)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, errors.Join(err, h.remove())
	}
	s := newRedis(bin, h, port, settings)
	if err := s.proc.start(); err != nil {
		return nil, errors.Join(err, h.remove())
	}
	return s, nil
}

// Close ends the server and removes its files.
func (s *RedisServer) Close() error { return s.proc.close() }

func newRedis(bin string, h *home, port int, settings []string) *RedisServer {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return &RedisServer{Addr: addr, Process: Process{&process{
		name: "redis",
		// A file that may not grow is to be an error of the write, as a full disk is, and not a signal (setrlimit(2)).
		argv: slices.Concat([]string{"/bin/sh", "-c", `trap "" XFSZ; exec "$@"`, "redis", bin}, settings,
			[]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", h.path, "--daemonize", "no"}),
		home:     h,
		dieWith:  syscall.SIGKILL,
		stopWith: syscall.SIGTERM,
		ready: func(ctx context.Context) error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr) // the client would log every refusal
			if err != nil {
				return err
			}
			_ = conn.Close()
			return withRedis(addr, func(c *redis.Client) error {
				dir, err := c.ConfigGet(ctx, "dir").Result()
				if err == nil && dir["dir"] != h.path {
					err = fmt.Errorf("another Redis listens on %s", addr)
				}
				return err
			})
		},
	}}}
}

// withRedis opens a client of database 0 for f. Nothing of it is left afterwards.
func withRedis(addr string, f func(*redis.Client) error) error {
	c := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true, PoolSize: 1,
		MaxRetries: -1, DialerRetries: 1})
	return errors.Join(f(c), c.Close())
}

// claimDatabase takes a database number of the server at addr, shared with whoever else tests there: the claims are
// keys in database 0. It returns the number and what gives it back, emptied.
func claimDatabase(ctx context.Context, addr string) (db int, release func() error, err error) {
	claim := func(c *redis.Client) error {
		n := redisDatabases
		if all, err := c.ConfigGet(ctx, "databases").Result(); err == nil {
			n, _ = strconv.Atoi(all["databases"]) // a Redis that was not started here
		}
		for db = 1; db < n; db++ {
			_, err := c.SetArgs(ctx, claimKey(db), "1", redis.SetArgs{Mode: "NX"}).Result()
			if err == nil {
				return nil
			}
			if !errors.Is(err, redis.Nil) {
				return err
			}
		}
		return fmt.Errorf("all %d databases are taken", n-1)
	}
	if err := withRedis(addr, claim); err != nil {
		return 0, nil, fmt.Errorf("claim a Redis database: %w", err)
	}
	return db, func() error {
		return withRedis(addr, func(c *redis.Client) error {
			ctx := context.Background() // the test's own is over by now
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Do(ctx, "SELECT", db)
				p.FlushDB(ctx)
				p.Do(ctx, "SELECT", 0)
				p.Del(ctx, claimKey(db))
				return nil
			})
			return err
		})
	}, nil
}

func claimKey(db int) string { return "testkit:database:" + strconv.Itoa(db) }

// FlushAll removes every key of every database.
func (s *RedisServer) FlushAll(ctx context.Context) error {
	return withRedis(s.Addr, func(c *redis.Client) error { return c.FlushAll(ctx).Err() })
}
