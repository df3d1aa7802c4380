package broker

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"meterline/mqtt/door"
)

// clock is set by tests while the broker runs.
func setClock(mu *sync.Mutex, now *func() time.Time, to time.Time) {
	mu.Lock()
	defer mu.Unlock()
	*now = func() time.Time { return to }
}

// stopBans stops the clock of bans: a machine that takes its time neither ends one nor makes it begin later than the test knows.
func (r *rig) stopBans(at time.Time) {
	bans := r.front.admission.bans
	setClock(&bans.mu, &bans.now, at)
}

func (h hi) at(address string) hi { h.from = address; return h }

func (h hi) with(pass string) hi { h.pass = pass; return h }

// answered connects, and wants to be answered with the code of MQTT 3.1.1.
func (r *rig) answered(t testing.TB, want byte, h hi) {
	t.Helper()
	c := r.dial(t, h)
	if got := c.connack.ReasonCode; got != want {
		t.Errorf("%s from %s with %q is answered %d, want %d", h.user, h.from, h.pass, got, want)
	}
	_ = c.conn.Close()
}

const guesser, nat = "127.0.0.2", "127.0.0.3"

func TestAGuesserIsBannedAndNobodyElse(t *testing.T) {
	r := start(t, func(o *Options) { o.BanAfter = 5 })
	r.stopBans(time.Now())
	r.answered(t, 0, dev("d1").at(guesser))
	for i := range 5 {
		r.answered(t, 5, dev("d1").with(fmt.Sprint(i)).at(guesser))
	}
	asked := r.creds.count()
	for range 20 {
		r.answered(t, 5, dev("d1").with("x").at(guesser))
	}
	r.answered(t, 5, dev("d1").at(guesser)) // the right one now tells it nothing
	if again := r.creds.count(); again != asked {
		t.Errorf("%d look-ups for somebody who is banned", again-asked)
	}
	if n := r.metric(t, "clients_refused_total", "reason", "banned"); n != 21 {
		t.Errorf("%v refused as banned", n)
	}
	if now, all := r.metric(t, "bans"), r.metric(t, "bans_total", "what", "device"); now != 1 || all != 1 {
		t.Errorf("%v bans now, %v in all", now, all)
	}
	r.answered(t, 0, dev("d1"))             // from elsewhere
	r.answered(t, 0, dev("d2").at(guesser)) // another device behind the same address
}

func TestBansEndAndGrow(t *testing.T) {
	r := start(t, func(o *Options) { o.BanAfter, o.BanFor = 2, 100*time.Second })
	now := time.Now()
	r.stopBans(now)
	for _, lasts := range []time.Duration{30 * time.Second, 60 * time.Second, 100 * time.Second, 100 * time.Second} {
		r.answered(t, 5, dev("d1").with("x"))
		r.answered(t, 5, dev("d1").with("y"))
		now = now.Add(lasts - time.Second)
		r.stopBans(now)
		r.answered(t, 5, dev("d1"))
		now = now.Add(2 * time.Second)
		r.stopBans(now)
	}
	r.answered(t, 0, dev("d1"))
	r.answered(t, 5, dev("d1").with("x"))
	r.answered(t, 0, dev("d1")) // the right one wipes out the wrong ones
	r.answered(t, 5, dev("d1").with("x"))
	r.answered(t, 0, dev("d1"))
}

func TestAnAddressThatGuessesOverManyNamesIsBanned(t *testing.T) {
	r := start(t, func(o *Options) { o.BanAfter = 2 })
	r.stopBans(time.Now())
	r.answered(t, 0, dev("d1").at(nat))
	r.answered(t, 0, hi{id: "s", user: "service", pass: "reader", from: nat})
	for i := range 2 * banNames {
		name := fmt.Sprint("guess", i)
		r.answered(t, 5, dev(name).at(nat))
		r.answered(t, 5, dev(name).with("x").at(nat)) // the same name again is no other
	}
	if n := r.metric(t, "bans_total", "what", "address"); n != 1 {
		t.Fatalf("%v addresses are banned", n)
	}
	asked := r.creds.count()
	r.answered(t, 5, dev("d2").at(nat)) // has never been here
	r.answered(t, 0, dev("d1").at(nat)) // has, and is in the cache
	r.answered(t, 5, hi{id: "s", user: "service", pass: "root", from: nat})
	r.answered(t, 0, hi{id: "s", user: "service", pass: "reader", from: nat})
	r.answered(t, 0, hi{id: "b", user: "backend", pass: "backend secret", from: nat})
	r.answered(t, 5, dev("d1").with("x").at(nat))
	r.answered(t, 5, dev("d1").with("y").at(nat))
	r.answered(t, 5, dev("d1").at(nat)) // its pair is banned now, too
	if again := r.creds.count(); again != asked {
		t.Errorf("%d look-ups for an address that is banned", again-asked)
	}
	r.answered(t, 0, dev("d2"))
	r.answered(t, 0, dev("d1"))
}

func TestAWrongTokenBansNoOther(t *testing.T) {
	r := start(t, func(o *Options) { o.BanAfter = 3 })
	r.stopBans(time.Now())
	for range 3 {
		r.answered(t, 5, hi{id: "s", user: "service", pass: "mtl_wrong"})
	}
	if n := r.metric(t, "bans_total", "what", "device"); n != 1 {
		t.Fatalf("%v bans", n)
	}
	r.answered(t, 0, hi{id: "s", user: "service", pass: "reader"})
}

func TestADisabledDeviceIsNoGuesser(t *testing.T) {
	r := start(t, func(o *Options) { o.BanAfter = 2 })
	for range 5 {
		r.answered(t, 5, dev("off1"))
	}
	r.creds.set(device("off1", "t1", "direct"))
	r.Forget("off1")
	r.answered(t, 0, dev("off1"))
}

func TestBansAreOffByDefault(t *testing.T) {
	r := start(t)
	for range 50 {
		r.answered(t, 5, dev("d1").with("x"))
	}
	r.answered(t, 0, dev("d1"))
}

func TestSubnet(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:5000":              "192.0.2.1/32",
		"[::ffff:192.0.2.1]:5000":     "192.0.2.1/32",
		"[2001:db8:1:2:3:4:5:6]:5000": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:5000":         "fe80::/64",
		"2001:db8::1":                 "2001:db8::/64",
		"pipe":                        "::/64",
		"":                            "::/64",
	} {
		if got := door.Neighbourhood(hostOf(remote)); got != netip.MustParsePrefix(want) {
			t.Errorf("%q is of %s, want %s", remote, got, want)
		}
	}
}

// Whoever makes up names and addresses cannot make the tables grow, nor end a ban by it soon.
func TestTablesOfBansAreBounded(t *testing.T) {
	b := newBans(Options{BanAfter: 2, BanFor: time.Minute, Logger: slog.New(slog.DiscardHandler)}, newMetrics(nil), newSparing(slog.New(slog.DiscardHandler)))
	b.pairs.most, b.addresses.most, b.proven.most = 100, 100, 100
	victim := b.guest(hello{username: "d1", remote: "192.0.2.1:1"})
	b.wrong(victim)
	b.wrong(victim)
	for i := range 1000 {
		g := b.guest(hello{username: fmt.Sprint(i), remote: fmt.Sprintf("[2001:db8:%x::1]:1", i)})
		b.wrong(g)
		b.right(g)
		b.wrong(b.guest(hello{username: fmt.Sprint("again", i), remote: fmt.Sprintf("[2001:db8:%x::1]:1", i)}))
	}
	for what, n := range map[string]int{"pairs": len(b.pairs.entries), "addresses": len(b.addresses.entries), "proven": len(b.proven.entries)} {
		if n > 100 {
			t.Errorf("%d %s", n, what)
		}
	}
	if b.judge(victim) != banned {
		t.Error("the ban was pushed out by names that were tried once")
	}
}

func TestExpiring(t *testing.T) {
	now := time.Now()
	e := newExpiring[int, string](3)
	e.put(1, "a", now.Add(time.Second))
	if v, ok := e.get(1, now); !ok || v != "a" {
		t.Error("is not there")
	}
	if _, ok := e.get(1, now.Add(time.Second)); ok || len(e.entries) != 0 {
		t.Error("has not ended")
	}
	for i := range 100 {
		e.put(i, "", now.Add(time.Duration(rand.IntN(1000))*time.Second))
	}
	e.put(1000, "last", now.Add(time.Hour)) // of so few, the one that ends first goes
	e.put(1001, "", now)
	if _, ok := e.get(1000, now); !ok || len(e.entries) != 3 {
		t.Errorf("%d entries", len(e.entries))
	}
}
