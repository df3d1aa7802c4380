package broker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fleet"
)

// brittle panics where it is told to.
type brittle struct {
	*memCredentials
	*memSessions

	mu     sync.Mutex
	broken map[string]bool
	hits   map[string]int
}

func (b *brittle) hit(call string) {
	b.mu.Lock()
	broken := b.broken[call]
	b.hits[call]++
	b.mu.Unlock()
	if broken {
		panic("brittle: " + call)
	}
}

func (b *brittle) set(broken bool, calls ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range calls {
		b.broken[c], b.hits[c] = broken, 0
	}
}

func (b *brittle) count(call string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hits[call]
}

func (b *brittle) Credentials(ctx context.Context, ids []fleet.DeviceID) ([]fleet.Credential, error) {
	b.hit("credentials")
	return b.memCredentials.Credentials(ctx, ids)
}

func (b *brittle) Next(context.Context) ([]fleet.Revocation, error) {
	b.hit("revocations")
	return nil, nil
}

func (b *brittle) Open(ctx context.Context, s command.Session) (int64, error) {
	b.hit("open")
	return b.memSessions.Open(ctx, s)
}

func (b *brittle) Close(ctx context.Context, s command.Session) error {
	b.hit("close")
	return b.memSessions.Close(ctx, s)
}

func (b *brittle) Restore(ctx context.Context, s []command.Session) error {
	b.hit("restore")
	return b.memSessions.Restore(ctx, s)
}

func (b *brittle) Lost(ctx context.Context, gateway, incarnation string) (bool, error) {
	b.hit("lost")
	return b.memSessions.Lost(ctx, gateway, incarnation)
}

func (b *brittle) Announce(ctx context.Context, g command.Gateway, beat int64) error {
	b.hit("announce")
	return b.memSessions.Announce(ctx, g, beat)
}

func (b *brittle) Watch(ctx context.Context, f func(command.Session)) error {
	b.hit("watch")
	return b.memSessions.Watch(ctx, f)
}

// Sessions makes it a Newest.
func (b *brittle) Sessions(context.Context, []fleet.DeviceID) (map[fleet.DeviceID]command.Session, error) {
	b.hit("sessions")
	return map[fleet.DeviceID]command.Session{}, nil
}

// All that the gateway calls in goroutines of its own panics, for a while: it is as if it were away.
func TestPanicsOfWhatIsCalledAreErrors(t *testing.T) {
	b := &brittle{broken: map[string]bool{}, hits: map[string]int{}}
	r := start(t, func(o *Options) {
		b.memCredentials, b.memSessions = o.Credentials.(*memCredentials), o.Sessions.(*memSessions)
		o.Credentials, o.Sessions, o.Revocations = b, b, b
	})
	d := r.listening(t, dev("d1"))
	d.ping()
	all := []string{"credentials", "open", "close", "lost", "announce", "sessions", "revocations"}
	b.set(true, all...)
	for _, call := range []string{"lost", "sessions", "revocations"} {
		eventually(t, call+" is called again after it panicked", func() bool { return b.count(call) > 1 })
	}
	if c := r.dial(t, dev("d2")); c.connack.ReasonCode != 3 { // its credentials are not known
		t.Errorf("CONNACK %#x", c.connack.ReasonCode)
	}
	again := r.listening(t, dev("d1")) // they are cached; presence is done without
	d.closed()
	r.backend(t).command("d1", "m1", 1)
	again.puback(again.expect(packets.Publish).PacketID)
	b.set(true, "restore") // first: a heartbeat in between would restore what is to be restored again and again
	b.set(false, all...)
	eventually(t, "presence is written again", func() bool { return b.count("restore") > 1 })
	b.set(false, "restore")
	r.sessions.await(t, "d1", func() bool { return r.sessions.newest["d1"].Epoch != 0 })
	eventually(t, "d2 is let in", func() bool { return r.dial(t, dev("d2")).connack.ReasonCode == 0 })
	if n := r.metric(t, "panics_total"); n < 5 {
		t.Errorf("%v panics are counted", n)
	}
}

func TestAPanickingWatchIsTakenUpAgain(t *testing.T) {
	b := &brittle{broken: map[string]bool{"watch": true}, hits: map[string]int{}}
	r := start(t, func(o *Options) {
		b.memCredentials, b.memSessions = o.Credentials.(*memCredentials), o.Sessions.(*memSessions)
		o.Sessions = b
	})
	eventually(t, "it panicked", func() bool { return b.count("watch") > 0 })
	b.set(false, "watch")
	b.memSessions.await(t, "a watcher", func() bool { return len(b.memSessions.watchers) == 1 })
	if r.metric(t, "panics_total") == 0 {
		t.Error("not counted")
	}
}

// One entry that the log cannot bear is not acknowledged, and takes nobody with it.
func TestAnAppendThatPanics(t *testing.T) {
	r := start(t, func(o *Options) { o.Shards = 1 })
	hold := make(chan struct{})
	r.log.onAppend(func(_ context.Context, entries []command.Uplink) error {
		<-hold
		if slices.ContainsFunc(entries, func(u command.Uplink) bool { return string(u.Payload) == "poison" }) {
			panic("poison")
		}
		return nil
	})
	bad, good := r.connect(t, dev("d1")), r.connect(t, dev("d2"))
	good.publish("meterline/v1/d2/up/event", "first", 1, 1) // is held: the rest makes one batch
	for id := uint16(2); id < 40; id++ {
		good.publish("meterline/v1/d2/up/event", "fine", 1, id)
	}
	bad.publish("meterline/v1/d1/up/event", "before", 1, 1)
	bad.publish("meterline/v1/d1/up/event", "poison", 1, 2)
	bad.publish("meterline/v1/d1/up/event", "after", 1, 3)
	bad.ping()
	good.ping()
	close(hold)
	for id := uint16(1); id < 40; id++ {
		if ack := good.expect(packets.Puback); ack.PacketID != id {
			t.Fatalf("PUBACK %d for %d", ack.PacketID, id)
		}
	}
	for _, pk := range bad.closed() {
		if pk.FixedHeader.Type == packets.Puback && pk.PacketID > 1 {
			t.Errorf("PUBACK %d", pk.PacketID)
		}
	}
	for _, u := range r.log.all() {
		if string(u.Payload) == "after" {
			t.Error("what came after it was appended: its order is lost")
		}
	}
	if r.metric(t, "panics_total") == 0 {
		t.Error("not counted")
	}
	bad = r.connect(t, dev("d1"))
	bad.publish("meterline/v1/d1/up/event", "well", 1, 4)
	bad.expect(packets.Puback)
}

// A committer that panics beside the log gives back what it held: nobody's window leaks, and a drain comes to its end.
func TestABatchThatPanicsIsGivenBack(t *testing.T) {
	r := start(t)
	r.connect(t, dev("d1"))
	s := r.Broker.registry.all("d1")[0]
	if err := s.window.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	barrier := make(chan struct{})
	e := s.hint(command.UplinkEvent, nil)
	broken := &shard{queue: newQueue(), of: s.shard.of, durable: newMemLog()} // without a fanout: panics after the append
	err := broken.guarded(t.Context(), []entry{{barrier: barrier}, {from: s, units: 1, uplink: e.uplink}})
	if !errors.Is(err, errPanic) {
		t.Fatalf("error %v", err)
	}
	<-barrier
	if !s.window.TryAcquire(windowUnits) {
		t.Error("the window is not given back")
	}
}

func TestAPanickingLoopGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(slog.New(slog.DiscardHandler), newMetrics(nil))
		ctx, stop := context.WithCancel(t.Context())
		rounds, began := 0, time.Now()
		g.keep(ctx, "test", func(ctx context.Context) {
			if rounds++; rounds < 4 {
				panic("again")
			}
			stop()
		})
		if took := time.Since(began); rounds != 4 || took != 3*panicPause {
			t.Errorf("%d rounds, %v", rounds, took)
		}
		g.keep(ctx, "test", func(context.Context) { rounds++; panic("at the end") })
		if rounds != 5 {
			t.Errorf("%d rounds", rounds)
		}
	})
}
