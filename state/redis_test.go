package state_test

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/meterread"
	"meterline/state"
	"meterline/testkit"
)

// private is a Redis that the test may break, with live state in it.
func private(t *testing.T) (*testkit.RedisHandle, *redis.Client, *state.Redis) {
	t.Helper()
	h := testkit.RedisPrivate(t)
	c := client(t, "redis://"+h.Addr)
	return h, c, state.NewRedis(c)
}

func TestRedisKeysAreThoseOfTheDesign(t *testing.T) {
	ctx := t.Context()
	c := client(t, testkit.RedisURL(t))
	s := state.NewRedis(c)
	m := newModel(t, "c-1", 1)
	m.fill(s)
	apply(t, s, m.fail(0))
	token, err := s.PrepareLatest(ctx, "m-1")
	ok(t, err)
	ok(t, s.FillLatest(ctx, "m-1", token, []meterread.Reading{reading("m-1", "1-0:1.8.0", "5", 0)}))
	_, err = s.Open(ctx, command.Session{Endpoint: "e-1", Gateway: "g-1", Incarnation: "a", Since: epoch, RemoteAddr: "192.0.2.1:5"})
	ok(t, err)
	ok(t, s.Announce(ctx, command.Gateway{ID: "g-1", Incarnation: "a", Address: "192.0.2.1:1883"}, 3))

	keys, err := c.Keys(ctx, "*").Result()
	ok(t, err)
	slices.Sort(keys)
	want := []string{"meterline:command:{c-1}", "meterline:command:{c-1}:meta", "meterline:gateways",
		"meterline:latest:{m-1}", "meterline:latest:{m-1}:meta", "meterline:presence:{e-1}"}
	if !slices.Equal(keys, want) {
		t.Fatalf("keys %q", keys)
	}
	for _, k := range keys {
		ttl, err := c.TTL(ctx, k).Result()
		ok(t, err)
		forever := strings.Contains(k, "gateways") || strings.Contains(k, "presence")
		if forever && ttl != -1 || !forever && (ttl > 24*time.Hour || ttl < 24*time.Hour-time.Minute) {
			t.Errorf("%s expires after %s", k, ttl)
		}
	}

	var op command.OperationView
	raw, err := c.HGet(ctx, "meterline:command:{c-1}", "m-00000").Bytes()
	ok(t, err)
	ok(t, json.Unmarshal(raw, &op))
	if op.State != command.Failed || op.Device.Name != "Meter m-00000" {
		t.Errorf("operation %+v", op)
	}
	meta, err := c.HGetAll(ctx, "meterline:command:{c-1}:meta").Result()
	ok(t, err)
	if meta["tenant"] != "acme" || meta["status"] != "failed" || meta["version"] != "2" || len(meta["complete"]) != 40 ||
		!strings.Contains(meta["counts"], `"failed":1`) {
		t.Errorf("meta %v", meta)
	}
	presence, err := c.HGetAll(ctx, "meterline:presence:{e-1}").Result()
	ok(t, err)
	if presence["gateway"] != "g-1" || presence["incarnation"] != "a" || presence["epoch"] == "" || presence["remote_addr"] != "192.0.2.1:5" {
		t.Errorf("presence %v", presence)
	}
	gateway, err := c.HGet(ctx, "meterline:gateways", "g-1").Result()
	ok(t, err)
	if gateway != `{"address":"192.0.2.1:1883","incarnation":"a","beat":3}` {
		t.Errorf("gateway %s", gateway)
	}
}

func TestRedisFlush(t *testing.T) {
	ctx := t.Context()
	_, c, s := private(t)
	m := newModel(t, "c-1", 3)
	m.fill(s)
	before, err := s.Open(ctx, command.Session{Endpoint: "e-1", Gateway: "g-1", Incarnation: "a"})
	ok(t, err)
	g := command.Gateway{ID: "g-1", Incarnation: "a"}
	ok(t, s.Announce(ctx, g, 1))
	token, err := s.Prepare(ctx, "c-2")
	ok(t, err)
	latest, err := s.PrepareLatest(ctx, "m-1")
	ok(t, err)
	ok(t, c.FlushAll(ctx).Err())

	missing(t, s, "c-1")
	apply(t, s, m.fail(0)) // must not begin a part
	missing(t, s, "c-1")
	ok(t, s.Fill(ctx, token, newModel(t, "c-2", 1).view()))
	missing(t, s, "c-2") // what changed between is not known any more
	ok(t, s.FillLatest(ctx, "m-1", latest, nil))
	if _, found, err := s.Latest(ctx, "m-1"); found || err != nil {
		t.Fatal("newest readings after a flush", found, err)
	}
	if lost, err := s.Lost(ctx, "g-1", "a"); err != nil || !lost {
		t.Fatal("the flush was not noticed", err)
	}
	after, err := s.Open(ctx, command.Session{Endpoint: "e-1", Gateway: "g-1", Incarnation: "a"})
	ok(t, err)
	if after <= before {
		t.Fatalf("epoch %d after %d", after, before)
	}
	m.fill(s)
	same(t, load(t, s, "c-1", 10), m.view())
}

// A flush between the look and the announcement, which writes the gateway's entry again, is noticed by the next look.
func TestRedisFlushedBeforeAnAnnouncement(t *testing.T) {
	_, c, s := private(t)
	ctx := t.Context()
	g := command.Gateway{ID: "g-1", Incarnation: "a", Address: "localhost:1"}
	for beat, want := range []bool{true, false, false, true, false} {
		lost, err := s.Lost(ctx, "g-1", "a")
		ok(t, err)
		if lost != want {
			t.Errorf("lost before beat %d: %v", beat, lost)
		}
		if beat == 2 {
			ok(t, c.FlushAll(ctx).Err())
		}
		ok(t, s.Announce(ctx, g, int64(beat)))
	}
}

func TestRedisForgetsScripts(t *testing.T) {
	_, c, s := private(t)
	a, b := newModel(t, "c-1", 2), newModel(t, "c-2", 2)
	a.fill(s)
	b.fill(s)
	ok(t, c.ScriptFlush(t.Context()).Err())
	apply(t, s, a.fail(0), b.fail(1), a.fail(1))
	same(t, load(t, s, "c-1", 10), a.view())
	same(t, load(t, s, "c-2", 10), b.view())
}

func TestRedisPartsThatAreGoneAreNeverShown(t *testing.T) {
	ctx := t.Context()
	_, c, s := private(t)
	for _, harm := range []func() error{
		func() error { return c.Del(ctx, "meterline:command:{c-1}").Err() },
		func() error { return c.Del(ctx, "meterline:command:{c-1}:meta").Err() },
		func() error { return c.HDel(ctx, "meterline:command:{c-1}", "m-00001").Err() },
	} {
		m := newModel(t, "c-1", 3)
		m.fill(s)
		ok(t, harm())
		missing(t, s, "c-1")
		apply(t, s, m.fail(1))
		missing(t, s, "c-1")
		m.fill(s)
		same(t, load(t, s, "c-1", 10), m.view())
		ok(t, s.Forget(ctx, []command.ID{"c-1"}))
	}
}

func TestRedisOutOfMemory(t *testing.T) {
	ctx := t.Context()
	_, c, s := private(t)
	m := newModel(t, "c-1", 2)
	m.fill(s)
	token, err := s.PrepareLatest(ctx, "m-1")
	ok(t, err)
	ok(t, s.FillLatest(ctx, "m-1", token, nil))
	ok(t, c.ConfigSet(ctx, "maxmemory", "1").Err())
	if err := s.Apply(ctx, []command.Change{m.fail(0)}); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Fatalf("Apply says %v", err)
	}
	if err := s.PutReadings(ctx, []meterread.Reading{reading("m-1", "1-0:1.8.0", "5", 0)}); err == nil {
		t.Fatal("PutReadings says nothing")
	}
	if err := s.Fill(ctx, "x", m.view()); err == nil {
		t.Fatal("Fill says nothing")
	}
	ok(t, c.ConfigSet(ctx, "maxmemory", "0").Err())
	missing(t, s, "c-1") // what could not be brought up to date is not shown
	if _, found, err := s.Latest(ctx, "m-1"); found || err != nil {
		t.Fatal("an old reading passes for the newest", err)
	}
}

func TestRedisAway(t *testing.T) {
	h, _, s := private(t)
	m, other := newModel(t, "c-1", 2), newModel(t, "c-2", 2)
	m.fill(s)
	other.fill(s)
	token, err := s.PrepareLatest(t.Context(), "m-1")
	ok(t, err)
	ok(t, s.FillLatest(t.Context(), "m-1", token, nil))
	h.Stop()
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	pulse, began := testkit.StartPulse(t), time.Now()
	if err := s.Apply(ctx, []command.Change{m.fail(0)}); err == nil {
		t.Fatal("Apply says nothing")
	}
	if err := s.PutReadings(ctx, []meterread.Reading{reading("m-1", "1-0:1.8.0", "5", 0)}); err == nil {
		t.Fatal("PutReadings says nothing")
	}
	if _, _, err := s.Load(ctx, "c-1", 10); err == nil {
		t.Fatal("Load says nothing")
	}
	if took := time.Since(began); took > pulse.Limit(3*time.Second) {
		t.Fatalf("took %s with 200 ms to go", took)
	}
	h.Start()
	testkit.Eventually(t, time.Minute, func() error { return s.Apply(t.Context(), []command.Change{other.fail()}) }, "Redis to be back")
	missing(t, s, "c-1") // missed a change, so the next call forgot it
	if _, found, err := s.Latest(t.Context(), "m-1"); found || err != nil {
		t.Fatal("an old reading passes for the newest", err)
	}
	missing(t, s, "c-2") // Redis was restarted: it may lack the last changes
}

func TestRedisPausedHoldsNobodyLongerThanTheContext(t *testing.T) {
	h, _, s := private(t)
	m := newModel(t, "c-1", 2)
	m.fill(s)
	h.Pause()
	defer h.Resume()
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	pulse, began := testkit.StartPulse(t), time.Now()
	if err := s.Apply(ctx, []command.Change{m.fail(0)}); err == nil {
		t.Fatal("Apply says nothing")
	}
	if took := time.Since(began); took > pulse.Limit(2*time.Second) {
		t.Fatalf("took %s with 100 ms to go", took)
	}
}

func TestRedisListensAgainAfterARestart(t *testing.T) {
	h, _, s := private(t)
	heard := listen(t, s.Listen, func(command.Notice) bool { return true })
	hear := func(id command.ID) {
		t.Helper()
		testkit.Eventually(t, time.Minute, func() bool {
			_ = s.Notify(t.Context(), command.Notice{Moved: []command.ID{id}}) // Redis may not be back yet
			return slices.ContainsFunc(heard.list(), func(n command.Notice) bool { return n.Moved[0] == id })
		}, "notice "+string(id))
	}
	hear("before")
	h.Kill()
	h.Start()
	hear("after")
}

func TestRedisLiveStateMakesRoom(t *testing.T) {
	ctx := t.Context()
	_, c, s := private(t)
	m := newModel(t, "c-1", 3)
	m.fill(s)
	token, err := s.PrepareLatest(ctx, "m-1")
	ok(t, err)
	ok(t, s.FillLatest(ctx, "m-1", token, []meterread.Reading{reading("m-1", "1-0:1.8.0", "5", 0)}))
	e, err := s.Open(ctx, command.Session{Endpoint: "e-1", Gateway: "g-1"})
	ok(t, err)
	ok(t, c.XAdd(ctx, &redis.XAddArgs{Stream: "meterline:uplink:{0}", Values: []string{"e", "e-1"}}).Err())

	if n, err := s.Relieve(ctx); n != 0 || err != nil {
		t.Fatalf("without maxmemory %d keys were dropped (%v)", n, err)
	}
	ok(t, c.ConfigSet(ctx, "maxmemory", "1gb").Err())
	if n, err := s.Relieve(ctx); n != 0 || err != nil {
		t.Fatalf("far below the mark %d keys were dropped (%v)", n, err)
	}
	used, err := c.InfoMap(ctx, "memory").Result()
	ok(t, err)
	bytes, err := strconv.Atoi(used["Memory"]["used_memory"])
	ok(t, err)
	ok(t, c.ConfigSet(ctx, "maxmemory", strconv.Itoa(bytes*3/2)).Err()) // 67 % of it is used
	if n, err := s.Relieve(ctx); n != 4 || err != nil {
		t.Fatalf("%d keys were dropped (%v)", n, err)
	}
	missing(t, s, "c-1")
	m.fill(s)
	missing(t, s, "c-1")
	sessions, err := s.Sessions(ctx, []meterread.DeviceID{"e-1"})
	ok(t, err)
	if n, err := c.XLen(ctx, "meterline:uplink:{0}").Result(); n != 1 || err != nil || sessions["e-1"].Epoch != e {
		t.Fatal("more than live state was dropped", n, err, sessions)
	}
	ok(t, c.ConfigSet(ctx, "maxmemory", "1gb").Err())
	if _, err := s.Relieve(ctx); err != nil {
		t.Fatal(err)
	}
	m.fill(s)
	same(t, load(t, s, "c-1", 10), m.view())
}
