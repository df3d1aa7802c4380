package door

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// stub is a socket that only knows whether it was closed.
type stub struct {
	net.Conn
	closed bool
}

func (s *stub) Close() error { s.closed = true; return nil }

// gateRig is a gate with a clock of its own.
type gateRig struct {
	*gate
	clock time.Time
}

func newGateRig(most, each int) *gateRig {
	r := &gateRig{gate: newGate(most, each, newMetrics(nil)), clock: time.Unix(1e9, 0)}
	r.most, r.room = most, 0
	r.now = func() time.Time { return r.clock }
	return r
}

// come lets a connection in whose peer is waited for, or that waits for us.
func (r *gateRig) come(address string, theirTurn bool) *place {
	p := r.enter(&stub{}, netip.PrefixFrom(netip.MustParseAddr(address), 32))
	if p != nil {
		p.theirTurn.Store(theirTurn)
	}
	r.clock = r.clock.Add(time.Millisecond)
	return p
}

func TestGateTakesFromTheBiggestCrowd(t *testing.T) {
	r := newGateRig(10, 100)
	var flood []*place
	for range 8 {
		flood = append(flood, r.come("10.0.0.2", true))
	}
	other := r.come("10.0.0.3", true)
	for range 5 { // one more than there are places, again and again
		good := r.come("10.0.0.1", true)
		if good == nil {
			t.Fatal("the newcomer was refused")
		}
		second := r.come("10.0.0.1", true)
		if second == nil || good.evicted.Load() || other.evicted.Load() {
			t.Fatal("somebody else lost a place")
		}
		r.admitted(good)
		r.ended(second)
	}
	if !flood[0].evicted.Load() || flood[1].evicted.Load() {
		t.Error("it is the oldest that goes")
	}
	if !flood[0].conn.(*stub).closed {
		t.Error("its socket is open")
	}
}

func TestGateRefusesTheBiggestCrowdsOwnNewcomer(t *testing.T) {
	r := newGateRig(4, 100)
	for range 4 {
		r.come("10.0.0.2", true)
	}
	if r.come("10.0.0.2", true) != nil {
		t.Error("a newcomer pushes out its own, who have had no time yet")
	}
	r.clock = r.clock.Add(2 * crowdPatience)
	if r.come("10.0.0.2", true) == nil {
		t.Error("those who have had their time stay")
	}
}

func TestGateIsPatientWithACrowdThatWorks(t *testing.T) {
	r := newGateRig(1000, 10)
	var all []*place
	for range 50 { // all at once from one address: none is refused
		all = append(all, r.come("10.0.0.1", true))
	}
	r.clock = r.clock.Add(2 * crowdPatience)
	all[0].theirTurn.Store(false) // waits for us
	if r.come("10.0.0.1", true) == nil {
		t.Fatal("the newcomer was refused")
	}
	evicted := 0
	for i, p := range all {
		if p == nil {
			t.Fatalf("%d was refused", i)
		}
		if p.evicted.Load() {
			evicted++
		}
	}
	if evicted != 41 || all[0].evicted.Load() {
		t.Errorf("%d closed, the one that waits for us: %t", evicted, all[0].evicted.Load())
	}
}

func TestGateClosesTheYoungestOfACrowdThatWaitsForUs(t *testing.T) {
	r := newGateRig(3, 100)
	var flood []*place
	for range 3 {
		flood = append(flood, r.come("10.0.0.2", false))
	}
	if r.come("10.0.0.1", true) == nil {
		t.Fatal("the newcomer was refused")
	}
	if flood[0].evicted.Load() || flood[1].evicted.Load() || !flood[2].evicted.Load() {
		t.Error("it is the youngest that goes")
	}
}

func TestGateLeavesDescriptors(t *testing.T) {
	r := newGateRig(100, 100)
	r.room = 3
	for range 3 {
		r.admitted(r.come("10.0.0.1", false))
	}
	if r.come("10.0.0.1", false) != nil {
		t.Error("more connections than the process can have")
	}
	r.ended(nil)
	if r.come("10.0.0.1", false) == nil {
		t.Error("refused though there is room again")
	}
}

// A machine that does a lot beside may read late. That is not the client's fault.
func TestGateKeepsWhoHasSpoken(t *testing.T) {
	r := newGateRig(10, 2)
	socket := func() (*place, net.Conn) {
		c, far, _ := pair(t, 1<<10)
		p := r.enter(c.Conn, netip.MustParsePrefix("10.0.0.1/32"))
		p.theirTurn.Store(true)
		return p, far
	}
	spoke, far := socket()
	if _, err := far.Write([]byte{0x10}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has arrived", func() bool { return !spoke.silent() })
	silent, _ := socket()
	r.clock = r.clock.Add(2 * crowdPatience)
	if last, _ := socket(); last.evicted.Load() || spoke.evicted.Load() || !silent.evicted.Load() {
		t.Errorf("evicted: the newcomer %v, who has spoken %v, who is silent %v", last.evicted.Load(), spoke.evicted.Load(), silent.evicted.Load())
	}
}

func TestNeighbourhood(t *testing.T) {
	for address, want := range map[string]string{
		"10.1.2.3:4":            "10.1.2.3/32",
		"[::ffff:10.1.2.3]:4":   "10.1.2.3/32",
		"[2001:db8::1:2:3:4]:5": "2001:db8::/64",
		"[fe80::1%lo]:5":        "fe80::/64",
	} {
		tcp := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
		if got := Neighbourhood(ipOf(tcp)); got.String() != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// Whatever comes and goes, the books are right, and nobody loses a place whose crowd is not the biggest.
func TestGateKeepsItsBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newGateRig(rapid.IntRange(1, 12).Draw(t, "most"), rapid.IntRange(1, 6).Draw(t, "each"))
		addresses := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}
		var in []*place
		open := 0
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			sizes := map[*crowd]int{}
			largest := 0
			for _, c := range r.crowds {
				sizes[c] = c.size
				largest = max(largest, c.size)
			}
			before := map[*place]*crowd{}
			for _, p := range in {
				if p.crowd != nil {
					before[p] = p.crowd
				}
			}
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1, 2:
				if p := r.come(rapid.SampledFrom(addresses).Draw(t, "address"), rapid.Bool().Draw(t, "their turn")); p != nil {
					in, open = append(in, p), open+1
				}
				for p, c := range before {
					if p.evicted.Load() && c.size < sizes[c] && sizes[c] < largest && sizes[c] <= r.each {
						t.Fatalf("a crowd of %d loses one, the biggest has %d", sizes[c], largest)
					}
				}
			case 3:
				if len(in) > 0 {
					i := rapid.IntRange(0, len(in)-1).Draw(t, "who")
					r.ended(in[i])
					in, open = append(in[:i], in[i+1:]...), open-1
				}
			case 4:
				if len(in) > 0 {
					r.admitted(in[rapid.IntRange(0, len(in)-1).Draw(t, "who")])
				}
			}
			waiting := 0
			for _, p := range in {
				if p.crowd != nil {
					waiting++
				}
			}
			if r.places != waiting || r.places > r.most || r.open != open || len(r.biggest) != len(r.crowds) {
				t.Fatalf("places %d, %d known; open %d, %d known; crowds %d, %d", r.places, waiting, r.open, open, len(r.biggest), len(r.crowds))
			}
		}
	})
}
