package state_test

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
	"meterline/testkit"
)

// heard collects what a listener is called with. Channels are shared by all tests on one Redis, so it keeps what mine
// says is this test's.
type heard[T any] struct {
	mu  sync.Mutex
	all []T
}

func listen[T any](t *testing.T, on func(context.Context, func(T)) error, mine func(T) bool) *heard[T] {
	t.Helper()
	h := &heard[T]{}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- on(ctx, func(v T) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if mine(v) {
				h.all = append(h.all, v)
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("a listener that is told to stop returns nil, not %v", err)
		}
	})
	return h
}

func (h *heard[T]) list() []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

func TestNotices(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		me := command.ID(t.Name())
		mine := func(n command.Notice) bool { return slices.Contains(n.Moved, me) }
		a := listen(t, s.Listen, mine)
		b := listen(t, s.Listen, mine)
		testkit.Eventually(t, time.Minute, func() bool {
			ok(t, s.Notify(t.Context(), command.Notice{Moved: []command.ID{me}}))
			return len(a.list()) > 0 && len(b.list()) > 0
		}, "both to listen")
		want := command.Notice{Moved: []command.ID{me, "c-2"}, Ended: []command.ID{"c-3"}, Arrived: []command.Arrived{
			{CommandID: "c-4", Seq: 7, Endpoints: []meterread.DeviceID{"e-1"}}}}
		ok(t, s.Notify(t.Context(), want))
		for _, h := range []*heard[command.Notice]{a, b} {
			testkit.Eventually(t, time.Minute, func() bool {
				all := h.list()
				return len(all) > 0 && reflect.DeepEqual(all[len(all)-1], want)
			}, "the whole notice")
		}
	})
}

func TestSessions(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		ctx := t.Context()
		find := func(want ...command.Session) {
			t.Helper()
			got, err := s.Sessions(ctx, []meterread.DeviceID{"e-1", "e-2", "e-3"})
			ok(t, err)
			all := map[meterread.DeviceID]command.Session{}
			for _, w := range want {
				all[w.Endpoint] = w
			}
			if !reflect.DeepEqual(got, all) {
				t.Fatalf("got %+v, want %+v", got, all)
			}
		}
		open := func(c command.Session) command.Session {
			t.Helper()
			before := time.Now().Add(-time.Minute).UnixMicro()
			var err error
			c.Epoch, err = s.Open(ctx, c)
			ok(t, err)
			if c.Epoch < before {
				t.Fatalf("epoch %d is not of this time", c.Epoch)
			}
			return c
		}
		find()
		one := open(command.Session{Endpoint: "e-1", Gateway: "g-1", Incarnation: "a", Since: epoch, RemoteAddr: "192.0.2.1:5", Epoch: 1 << 62})
		other := open(command.Session{Endpoint: "e-2", Gateway: "g-1", Incarnation: "a", Since: epoch})
		find(one, other)

		two := open(command.Session{Endpoint: "e-1", Gateway: "g-2", Incarnation: "b", Since: epoch.Add(time.Second)})
		if two.Epoch <= one.Epoch {
			t.Fatalf("epoch %d after %d", two.Epoch, one.Epoch)
		}
		ok(t, s.Close(ctx, one)) // not the newest any more
		find(two, other)
		ok(t, s.Restore(ctx, []command.Session{one})) // nor by being restored
		find(two, other)
		ok(t, s.Close(ctx, two))
		ok(t, s.Close(ctx, two))
		find(other)

		third := command.Session{Endpoint: "e-3", Gateway: "g-1", Incarnation: "a", Since: epoch, Epoch: 7}
		newer := other
		newer.Gateway, newer.Epoch = "g-3", other.Epoch+3_600_000_000
		ok(t, s.Restore(ctx, []command.Session{third, newer}))
		find(third, newer)
		if next := open(command.Session{Endpoint: "e-2", Since: epoch}); next.Epoch != newer.Epoch+1 {
			t.Fatalf("epoch %d after one of the future, %d", next.Epoch, newer.Epoch)
		}
	})
}

func TestManySessions(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		var all []command.Session
		var ids []meterread.DeviceID
		for i := range 1203 {
			id := meterread.DeviceID("e-" + string(rune('a'+i%26)) + time.Duration(i).String())
			all = append(all, command.Session{Endpoint: id, Gateway: "g", Incarnation: "i", Epoch: int64(i + 1), Since: epoch})
			ids = append(ids, id)
		}
		ok(t, s.Restore(t.Context(), all))
		got, err := s.Sessions(t.Context(), ids)
		ok(t, err)
		for _, want := range all {
			if got[want.Endpoint] != want {
				t.Fatalf("got %+v, want %+v", got[want.Endpoint], want)
			}
		}
	})
}

func TestWatchHearsOfSessionsOpenedAnywhere(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		me := t.Name()
		h := listen(t, s.Watch, func(c command.Session) bool { return c.Gateway == me })
		want := command.Session{Endpoint: "e-1", Gateway: me, Incarnation: `a"b`, Since: epoch, RemoteAddr: "[2001:db8::1]:5"}
		testkit.Eventually(t, time.Minute, func() bool {
			var err error
			want.Epoch, err = s.Open(t.Context(), want)
			ok(t, err)
			return len(h.list()) > 0
		}, "a session to be heard of")
		testkit.Eventually(t, time.Minute, func() bool { return slices.Contains(h.list(), want) }, "the session as it is")
	})
}

func TestGateways(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		ctx := t.Context()
		lost := func(incarnation string, want bool) {
			t.Helper()
			got, err := s.Lost(ctx, "g-1", incarnation)
			ok(t, err)
			if got != want {
				t.Fatalf("lost is %v for incarnation %s", got, incarnation)
			}
		}
		list := func(want map[command.Gateway]int64) {
			t.Helper()
			got, err := s.Gateways(ctx)
			ok(t, err)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		a := command.Gateway{ID: "g-1", Incarnation: "a", Address: "192.0.2.1:1883"}
		b := command.Gateway{ID: "g-1", Incarnation: "b", Address: "192.0.2.1:1884"}
		other := command.Gateway{ID: "g-2", Incarnation: "a", Address: "192.0.2.2:1883"}
		list(map[command.Gateway]int64{})
		lost("a", true)
		ok(t, s.Announce(ctx, a, 1))
		ok(t, s.Announce(ctx, a, 2))
		ok(t, s.Announce(ctx, other, 9))
		lost("a", false)
		lost("b", true)
		list(map[command.Gateway]int64{a: 2, other: 9})

		ok(t, s.Announce(ctx, b, 1))
		lost("a", true)
		ok(t, s.Withdraw(ctx, a)) // another has its place
		list(map[command.Gateway]int64{b: 1, other: 9})
		ok(t, s.Withdraw(ctx, b))
		ok(t, s.Withdraw(ctx, b))
		list(map[command.Gateway]int64{other: 9})
	})
}
