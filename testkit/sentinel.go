package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisGroup is a master with replicas, watched by three sentinels of which two must agree. All of it is the test's own.
type RedisGroup struct {
	Servers   []*RedisHandle // the first began as the master
	Sentinels []*Server
	Addrs     []string // of the sentinels
	URL       string   // redis+sentinel://…, without a database
	t         testing.TB
}

// MasterName is what sentinels call the master.
const MasterName = "meterline"

// RedisSentinel starts one, as durable as the uplink log needs it, with settings more for its servers. It returns when the
// sentinels know each other and the replicas are in step, after some seconds.
func RedisSentinel(t testing.TB, replicas int, settings ...string) *RedisGroup {
	t.Helper()
	settings = slices.Concat(asDurable, []string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, settings)
	g := &RedisGroup{t: t, Servers: []*RedisHandle{RedisConfigured(t, settings...)}}
	host, port, _ := net.SplitHostPort(g.Servers[0].Addr)
	for range replicas {
		g.Servers = append(g.Servers, RedisConfigured(t, append(slices.Clone(settings), "--replicaof", host+" "+port)...))
	}
	for range 3 {
		s, addr, err := startSentinel(g.Servers[0].Addr)
		need(t, err)
		closeAfter(t, s)
		g.Sentinels, g.Addrs = append(g.Sentinels, &Server{t: t, proc: s}), append(g.Addrs, addr)
	}
	g.URL = "redis+sentinel://" + strings.Join(g.Addrs, ",") + "/" + MasterName
	Eventually(t, failoverWithin, g.complete, "the sentinels to know each other and the replicas")
	return g
}

// complete says what the sentinels do not know yet.
func (g *RedisGroup) complete() error {
	for _, addr := range g.Addrs {
		master, err := g.ask(addr)
		if err != nil {
			return err
		}
		if master["num-other-sentinels"] != "2" || master["num-slaves"] != strconv.Itoa(len(g.Servers)-1) || master["flags"] != "master" {
			return fmt.Errorf("the sentinel at %s sees %s other sentinels, %s replicas, a %s", addr,
				master["num-other-sentinels"], master["num-slaves"], master["flags"])
		}
	}
	master := g.agreed() // not the first any more, when a busy machine kept that waiting for a second
	if master == nil {
		return errors.New("the sentinels do not agree on a master")
	}
	return withRedis(master.Addr, func(c *redis.Client) error {
		info, err := c.Info(g.t.Context(), "replication").Result()
		if n := strings.Count(info, "state=online"); err == nil && n != len(g.Servers)-1 {
			err = fmt.Errorf("%d replicas are in step", n)
		}
		return err
	})
}

// ask asks a sentinel for what it knows of the master.
func (g *RedisGroup) ask(sentinel string) (map[string]string, error) {
	c := redis.NewSentinelClient(&redis.Options{Addr: sentinel, DisableIdentity: true, PoolSize: 1, MaxRetries: -1, DialerRetries: 1})
	master, err := c.Master(g.t.Context(), MasterName).Result()
	return master, errors.Join(err, c.Close())
}

// failoverWithin is how long another master may take. A sentinel that was itself kept waiting for two seconds trusts nothing and
// does nothing for half a minute (its TILT mode), and an election that failed is held again after ten seconds.
const failoverWithin = 3 * time.Minute

// Master is the server that all sentinels take for the master. It waits until they agree: on a busy machine they may think for a
// moment that it is lost.
func (g *RedisGroup) Master() *RedisHandle {
	g.t.Helper()
	return masterBut(g.t, nil, g.agreed, "one master")
}

// agreed is Master, or nil while they do not agree.
func (g *RedisGroup) agreed() *RedisHandle {
	at := ""
	for _, addr := range g.Addrs {
		master, err := g.ask(addr)
		here := net.JoinHostPort(master["ip"], master["port"])
		if err != nil || at != "" && at != here {
			return nil
		}
		at = here
	}
	i := slices.IndexFunc(g.Servers, func(s *RedisHandle) bool { return s.Addr == at })
	if i < 0 {
		return nil
	}
	return g.Servers[i]
}

// Failover waits until the sentinels have agreed on another master than the one that was lost.
func (g *RedisGroup) Failover(lost *RedisHandle) *RedisHandle {
	g.t.Helper()
	return masterBut(g.t, lost, g.agreed, "another master")
}

// masterBut waits until there is agreement on a master, and on another one than the one that was lost, if any.
func masterBut(t testing.TB, lost *RedisHandle, agreed func() *RedisHandle, what string) (master *RedisHandle) {
	t.Helper()
	Eventually(t, failoverWithin, func() bool { master = agreed(); return master != nil && master != lost }, what)
	return master
}

func startSentinel(master string) (*process, string, error) {
	h, err := newHome("sentinel", nil)
	if err != nil {
		return nil, "", err
	}
	port, err := freePort()
	if err != nil {
		return nil, "", errors.Join(err, h.remove())
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	p := newSentinel(h, addr)
	err = os.WriteFile(p.argv[1], []byte(sentinelConf(h, port, master)), 0o600)
	if err == nil {
		err = p.start()
	}
	if err != nil {
		return nil, "", errors.Join(err, h.remove())
	}
	return p, addr, nil
}

func newSentinel(h *home, addr string) *process {
	return &process{
		name: "sentinel", home: h, dieWith: syscall.SIGKILL, stopWith: syscall.SIGTERM,
		argv: []string{"redis-server", filepath.Join(h.path, "sentinel.conf"), "--sentinel"},
		ready: func(ctx context.Context) error {
			return withRedis(addr, func(c *redis.Client) error { return c.Ping(ctx).Err() })
		},
	}
}

// sentinelConf makes a failover quick: a master is given up after a second.
func sentinelConf(h *home, port int, master string) string {
	host, masterPort, _ := net.SplitHostPort(master)
	return fmt.Sprintf(`port %d
bind 127.0.0.1
dir %s
sentinel monitor %s %s %s 2
sentinel down-after-milliseconds %[3]s %[6]d
sentinel failover-timeout %[3]s 5000
sentinel parallel-syncs %[3]s 1
`, port, h.path, MasterName, host, masterPort, time.Second.Milliseconds())
}
