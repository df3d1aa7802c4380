package uplink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/testkit"
	"meterline/uplink"
)

// bySentinel is a client that follows the master.
func bySentinel(t testing.TB, g *testkit.RedisGroup) *redis.Client {
	t.Helper()
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: testkit.MasterName, SentinelAddrs: g.Addrs,
		ContextTimeoutEnabled: true, MaxRetries: -1, DialTimeout: time.Second})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// replicate makes a replica of h and waits until it is in step.
func replicate(t *testing.T, h *testkit.RedisHandle) (*testkit.RedisHandle, *redis.Client) {
	t.Helper()
	replica := testkit.RedisPrivate(t)
	c, master := client(t, "redis://"+replica.Addr), client(t, "redis://"+h.Addr)
	host, port, _ := strings.Cut(h.Addr, ":")
	ok(t, c.Do(t.Context(), "REPLICAOF", host, port).Err())
	testkit.Eventually(t, waitMost, func() bool {
		info, err := master.Info(t.Context(), "replication").Result()
		ok(t, err)
		return strings.Contains(info, "state=online")
	}, "the replica to follow")
	return replica, c
}

// A new master has lost what was read last, and gives ids below it, since its clock is behind. By the time that the reader
// comes, ids are beyond its position again: by comparing them alone it would skip what lies between.
func TestRedisNewMasterBehindThePosition(t *testing.T) {
	ctx := t.Context()
	h, c, log := private(t, uplink.Options{})
	add(t, log, "a", "b")
	_, follower := replicate(t, h)
	r := newReader(t, log, 1)
	r.until(2)
	after := uplink.NewRedis(follower, uplink.Options{})
	if _, err := after.Read(ctx, r.at, 10); err == nil || !strings.Contains(err.Error(), "READONLY") {
		t.Fatalf("a replica, which may be behind, answers: %v", err)
	}
	ok(t, follower.Do(ctx, "REPLICAOF", "NO", "ONE").Err())
	ahead := fmt.Sprintf("%d-0", time.Now().Add(time.Hour).UnixMilli())
	ok(t, c.XAdd(ctx, &redis.XAddArgs{Stream: stream, ID: ahead, Values: []string{"e", "lost with the old master"}}).Err())
	r.until(3)

	add(t, after, "c")
	further := fmt.Sprintf("%d-0", time.Now().Add(2*time.Hour).UnixMilli())
	ok(t, follower.XAdd(ctx, &redis.XAddArgs{Stream: stream, ID: further, Values: []string{"p", "further"}}).Err())
	r.log, r.got = after, nil
	r.until(4)
	if payloads(r) != "a b c further" {
		t.Fatal(payloads(r))
	}
	add(t, after, "d")
	r.until(5)
}

// The end of the log is gone though the master is the same: the log is another one from then on.
func TestRedisPositionBehindTheEndOfTheLog(t *testing.T) {
	ctx := t.Context()
	_, c, log := private(t, uplink.Options{})
	add(t, log, "a")
	ahead := fmt.Sprintf("%d-7", time.Now().Add(time.Hour).UnixMilli())
	ok(t, c.XAdd(ctx, &redis.XAddArgs{Stream: stream, ID: ahead, Values: []string{"e", "x"}}).Err())
	r := newReader(t, log, 1)
	r.until(2)
	before := r.at[0]
	ok(t, c.Del(ctx, stream).Err())
	add(t, log, "b")
	r.got = nil
	r.until(1)
	if payloads(r) != "b" || r.at[0].Generation == before.Generation {
		t.Fatalf("%s in generation %s after %s", payloads(r), r.at[0].Generation, before.Generation)
	}
	add(t, log, "c")
	r.until(2)
	other := &reader{t: t, log: log, at: []command.LogPosition{before}} // one that was away meanwhile
	other.until(2)
	if other.at[0] != r.at[0] {
		t.Fatalf("at %+v and %+v", other.at[0], r.at[0])
	}
}

// What is trimmed up to the position is not the end of the log gone.
func TestRedisPositionAtTheEndOfATrimmedLog(t *testing.T) {
	_, c, log := private(t, uplink.Options{})
	add(t, log, "a", "b")
	r := newReader(t, log, 1)
	r.until(2)
	before := r.at[0]
	ok(t, c.XTrimMaxLen(t.Context(), stream, 0).Err())
	r.read(10)
	if r.at[0] != before {
		t.Fatalf("at %+v after %+v", r.at[0], before)
	}
}

// refused tries until Redis has said of an append that it was not acknowledged for want of replicas, and says how often. On a busy
// machine its time may be over before Redis has said so, and whether it is there is then not known.
func refused(t *testing.T, what string, try func() error) (tries int) {
	t.Helper()
	testkit.Eventually(t, waitMost, func() bool {
		tries++
		err := try()
		var timeout net.Error
		late := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
		if !late && !errors.Is(err, uplink.ErrNotReplicated) {
			t.Fatalf("%s: %v", what, err)
		}
		return !late
	}, "a refusal "+what)
	return tries
}

func TestRedisAppendWaitsForReplicas(t *testing.T) {
	h, c, _ := private(t, uplink.Options{})
	log := uplink.NewRedis(c, uplink.Options{Replicas: 1})
	try := func() error {
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
		defer stop()
		return log.Append(ctx, []command.Uplink{entry(0, "e-1", "a"), entry(1, "e-2", "b")})
	}
	refused(t, "without a replica", try)
	if err := log.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "needs 1 replicas and has 0") {
		t.Fatal(err)
	}
	replica, _ := replicate(t, h)
	testkit.Eventually(t, waitMost, try, "an append with a replica")
	ok(t, log.Ready(t.Context()))
	replica.Pause()
	pulse := testkit.StartPulse(t)
	refused(t, "with a replica that stands still", func() error {
		began := time.Now()
		err := try()
		if took := time.Since(began); took > pulse.Limit(5*time.Second) {
			t.Fatalf("took %s with 2 s to go", took)
		}
		return err
	})
	replica.Resume()
	testkit.Eventually(t, waitMost, try, "an append with the replica back")
	r := newReader(t, log, 2)
	if r.read(100); len(r.got) < 8 {
		t.Fatalf("%d entries: what was not acknowledged is to be there all the same", len(r.got))
	}
}

func TestRedisClusterAppendWaitsForReplicas(t *testing.T) {
	log := uplink.NewRedis(cluster(t), uplink.Options{Replicas: 1})
	var batch []command.Uplink
	for i := range 16 {
		batch = append(batch, entry(i, fmt.Sprintf("e-%d", i), "a"))
	}
	tries := refused(t, "without replicas", func() error {
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
		defer stop()
		return log.Append(ctx, batch)
	})
	r := newReader(t, log, 16)
	r.read(100)
	there := map[int]int{}
	for _, u := range r.got {
		there[u.Partition]++
	}
	for p := range 16 { // they are there, on all masters
		if there[p] < 1 || there[p] > tries {
			t.Errorf("partition %d has %d entries after %d tries", p, there[p], tries)
		}
	}
}

func TestRedisClusterDurabilityIsCheckedOnEachMaster(t *testing.T) {
	ctx := t.Context()
	c := cluster(t)
	log := uplink.NewRedis(c, uplink.Options{})
	ok(t, log.Ready(ctx))
	node, err := c.MasterForKey(ctx, stream)
	ok(t, err)
	ok(t, node.ConfigSet(ctx, "appendfsync", "everysec").Err())
	defer node.ConfigSet(ctx, "appendfsync", "always")
	if err := log.Ready(ctx); err == nil || !strings.Contains(err.Error(), node.Options().Addr) || !strings.Contains(err.Error(), "everysec") {
		t.Fatal(err)
	}
	if err := uplink.NewRedis(c, uplink.Options{AllowWeak: true}).Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// A master that takes over with a weak configuration is noticed.
func TestRedisWeakNewMaster(t *testing.T) {
	ctx := t.Context()
	g := testkit.RedisSentinel(t, 1)
	var said testkit.Journal
	registry := prometheus.NewRegistry()
	log := uplink.NewRedis(bySentinel(t, g), uplink.Options{CheckEvery: 20 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(&said, nil)), Registerer: registry})
	run(t, log)
	testkit.Eventually(t, waitMost, func() error { return log.Ready(ctx) }, "the log to be ready")
	lost := g.Master() // the first, unless the machine kept that waiting for a second
	replica := client(t, "redis://"+g.Servers[1-slices.Index(g.Servers, lost)].Addr)
	ok(t, replica.ConfigSet(ctx, "appendfsync", "everysec").Err())
	lost.Kill()
	g.Failover(lost)
	weak := func(want float64) func() error {
		return func() error {
			if got := gauge(t, registry, "meterline_uplink_log_weak"); got != want {
				return fmt.Errorf("the gauge is %v", got)
			}
			if err := log.Ready(ctx); (err == nil) != (want == 0) {
				return fmt.Errorf("ready: %w", err)
			}
			return nil
		}
	}
	testkit.Eventually(t, waitMost, weak(1), "the weakness to be noticed")
	testkit.Eventually(t, waitMost, func() bool { // not a connection that was broken, which is no weakness
		err := log.Ready(ctx)
		return err != nil && strings.Contains(err.Error(), `appendfsync is "everysec"`)
	}, "what is weak to be said")
	ok(t, replica.ConfigSet(ctx, "appendfsync", "always").Err())
	testkit.Eventually(t, waitMost, weak(0), "the mended configuration to be noticed")
	if n := strings.Count(said.Text(), "the uplink log is weak"); n != 1 {
		t.Errorf("said %d times: %s", n, said.Text())
	}
}

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := registry.Gather()
	ok(t, err)
	for _, family := range all {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}
