package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"meterline/cmd/launch"
	"meterline/command"
	"meterline/testkit"
)

// The master of Redis is killed while meters are read: gateway and backend go on with the next one, without a restart,
// and nothing that was acknowledged is lost.
func TestRedisMasterIsKilled(t *testing.T) {
	g := testkit.RedisSentinel(t, 2, "--min-replicas-to-write", "1", "--min-replicas-max-lag", "5")
	e := newEstateOn(t, "redis", testkit.Postgres(t), testWriter{t}, "METERLINE_REDIS_URL="+g.URL+"/0", "METERLINE_UPLINK_REPLICAS=1")
	// It takes seconds until all are read: also on a busy machine the master is killed in the middle. Where polls take as long
	// as that, another command is its next chance.
	s := e.simulateAt(20, 50, 100*time.Millisecond, 300*time.Millisecond)
	var v command.View
	lost := g.Master()
	for range 10 {
		v = e.readAll("async")
		v = e.until(v.ID, func(v command.View) bool { return v.Counts.Succeeded > s.total/10 })
		if v.Counts.Open() >= s.total/4 {
			break
		}
	}
	lost.Kill()
	if v.Counts.Open() < s.total/4 {
		t.Fatalf("only %d operations were open: the test shows nothing", v.Counts.Open())
	}
	g.Failover(lost)
	v = e.until(v.ID, func(v command.View) bool { return v.Status != command.StatusRunning })
	if v.Status != command.StatusSucceeded {
		t.Fatalf("%+v", v.Counts)
	}
	e.verify(s, v.ID)
	lost.Start() // the old master comes back, and is told that it is a replica now
	v = e.readAll("realtime")
	v = e.until(v.ID, func(v command.View) bool { return v.Status != command.StatusRunning })
	if v.Status != command.StatusSucceeded {
		t.Fatalf("with the old master back: %+v", v.Counts)
	}
	testkit.Eventually(t, waitMost, func() bool { return e.call("GET", "/readyz", "").status == 200 }, "the backend to be ready")
}

// Log and live state in a Redis Cluster.
func TestRedisClusterOfProcesses(t *testing.T) {
	e := newEstateOn(t, "redis", testkit.Postgres(t), testWriter{t}, "METERLINE_REDIS_URL=redis+cluster://"+strings.Join(testkit.RedisCluster(t), ","))
	s := e.simulate(4, 20)
	for _, mode := range []string{"async", "realtime"} {
		v := e.readAll(mode)
		v = e.until(v.ID, func(v command.View) bool { return v.Status != command.StatusRunning })
		if v.Status != command.StatusSucceeded {
			t.Fatalf("%+v", v.Counts)
		}
		e.verify(s, v.ID)
	}
}

// deployed is a configuration file that we ship.
func deployed(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// With the files that we ship everything works, and the one for live state is refused for the log.
func TestDeployedRedis(t *testing.T) {
	log, live := testkit.RedisConfigured(t, deployed(t, "redis.conf")), testkit.RedisConfigured(t, deployed(t, "redis-live.conf"))
	e := newEstateOn(t, "redis", testkit.Postgres(t), testWriter{t},
		"METERLINE_REDIS_URL=redis://"+live.Addr, "METERLINE_UPLINK_REDIS_URL=redis://"+log.Addr)
	s := e.simulate(2, 5)
	v := e.readAll("realtime")
	e.until(v.ID, func(v command.View) bool { return v.Status == command.StatusSucceeded })
	e.verify(s, v.ID)

	testkit.Eventually(t, waitMost, func() error { // it may also end because a server did not answer within some seconds
		c := exec.Command(filepath.Join(e.bin, "gateway"), "--id", "g2", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0",
			"--uplink-redis-url", "redis://"+live.Addr)
		c.Env = e.env
		said, err := c.CombinedOutput()
		if c.ProcessState.ExitCode() != 1 || strings.Count(string(said), "\n") != 1 {
			t.Fatalf("%v: %s", err, said)
		}
		if !strings.Contains(string(said), `appendonly is "no"`) {
			return fmt.Errorf("%w: %s", err, said)
		}
		return nil
	}, "a gateway to refuse it")
}

// What a single URL turns out to name is said in one line.
func TestRedisThatIsNotWhatTheURLSays(t *testing.T) {
	g := testkit.RedisSentinel(t, 1)
	node := testkit.RedisCluster(t)[0]
	for name, address := range map[string]func() string{
		"is a Sentinel": func() string { return g.Addrs[0] },
		"is a replica": func() string { // another than before when the sentinels took a busy master for lost
			return g.Servers[slices.IndexFunc(g.Servers, func(s *testkit.RedisHandle) bool { return s != g.Master() })].Addr
		},
		"is a node of a Cluster": func() string { return node },
	} {
		// One that a busy machine keeps from answering within some seconds is not reached: that says nothing yet.
		testkit.Eventually(t, waitMost, func() error {
			client, err := launch.Redis(t.Context(), "redis://"+address())
			if err == nil {
				return errors.Join(errors.New("no error"), client.Close())
			}
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%s: %v", name, err)
			}
			if !strings.Contains(err.Error(), name) {
				return err
			}
			return nil
		}, "it to be said that it "+name)
	}
	for _, address := range []string{"redis+sentinel://" + strings.Join(g.Addrs, ",") + "/another", "redis+cluster://" + g.Servers[0].Addr} {
		if _, err := launch.Redis(t.Context(), address); err == nil {
			t.Errorf("%s: no error", address)
		}
	}
}
