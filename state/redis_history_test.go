package state_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/meterread"
	"meterline/state"
	"meterline/testkit"
)

// follow makes h a replica of another server and waits until it has what that has.
func follow(t *testing.T, h, master *testkit.RedisHandle) *redis.Client {
	t.Helper()
	c := client(t, "redis://"+h.Addr)
	host, port, _ := strings.Cut(master.Addr, ":")
	ok(t, c.Do(t.Context(), "REPLICAOF", host, port).Err())
	m := client(t, "redis://"+master.Addr)
	testkit.Eventually(t, time.Minute, func() bool {
		info, err := m.Info(t.Context(), "replication").Result()
		ok(t, err)
		return strings.Contains(info, "state=online")
	}, "the replica to follow")
	return c
}

// inStep waits until the replica has everything.
func inStep(t *testing.T, master *redis.Client) {
	t.Helper()
	ok(t, master.Set(t.Context(), "step", time.Now().String(), time.Minute).Err())
	if n, err := master.Wait(t.Context(), 1, time.Minute).Result(); n != 1 || err != nil {
		t.Fatal("the replica is not in step", n, err)
	}
}

// A new master may lack the last changes: what it has counts as missing, and is filled anew. The loss is played: the last
// change reaches only the old master.
func TestRedisFailoverShowsNothingThatMayBeOld(t *testing.T) {
	ctx := t.Context()
	h, c, s := private(t)
	replica := testkit.RedisPrivate(t)
	follower := follow(t, replica, h)
	after := state.NewRedis(follower)
	m := newModel(t, "c-1", 2)
	m.fill(s)
	latest, err := s.PrepareLatest(ctx, "m-1")
	ok(t, err)
	ok(t, s.FillLatest(ctx, "m-1", latest, []meterread.Reading{reading("m-1", "1-0:1.8.0", "5", 0)}))
	other := newModel(t, "c-2", 1)
	token, err := s.Prepare(ctx, "c-2")
	ok(t, err)
	inStep(t, c)

	missing(t, after, "c-1") // a replica may be behind
	if _, found, err := after.Latest(ctx, "m-1"); found || err != nil {
		t.Fatal("a replica, which may be behind, answers", err)
	}
	ok(t, follower.Do(ctx, "REPLICAOF", "NO", "ONE").Err())
	apply(t, s, m.fail(0, 1)) // the last changes, which the new master does not have
	other.fail(0)

	missing(t, after, "c-1")
	if _, found, err := after.Latest(ctx, "m-1"); found || err != nil {
		t.Fatal("an old reading passes for the newest", err)
	}
	ok(t, after.Fill(ctx, token, other.view())) // begun at the old master, and it cannot be known what came since
	missing(t, after, "c-2")
	m.fill(after)
	same(t, load(t, after, "c-1", 10), m.view())
	other.fill(after)
	same(t, load(t, after, "c-2", 10), other.view())
}

func TestRedisRestartedShowsNothingThatMayBeOld(t *testing.T) {
	h, _, s := private(t)
	m := newModel(t, "c-1", 2)
	m.fill(s)
	h.Kill()
	h.Start()
	testkit.Eventually(t, time.Minute, func() error { _, _, err := s.Load(t.Context(), "c-1", 10); return err }, "Redis to be back")
	missing(t, s, "c-1")
	apply(t, s, m.fail(0)) // nothing to apply it to
	missing(t, s, "c-1")
	m.fill(s)
	apply(t, s, m.fail(1))
	same(t, load(t, s, "c-1", 10), m.view())
}

// The last sessions may be missing on a new master: gateways write all of theirs again.
func TestRedisPresenceIsLostWithTheHistory(t *testing.T) {
	h, _, s := private(t)
	g := command.Gateway{ID: "g-1", Incarnation: "a"}
	lost := func(want bool) {
		t.Helper()
		var got bool
		testkit.Eventually(t, time.Minute, func() (err error) { got, err = s.Lost(t.Context(), "g-1", "a"); return err }, "Redis to answer")
		if got != want {
			t.Fatalf("lost is %v", got)
		}
	}
	lost(true)
	ok(t, s.Announce(t.Context(), g, 1))
	lost(false)
	h.Kill()
	h.Start()
	lost(true)
	lost(true) // until it has announced itself
	ok(t, s.Announce(t.Context(), g, 2))
	lost(false)
}
