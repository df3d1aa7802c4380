package broker

import (
	"crypto/sha256"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"meterline/mqtt/door"
)

const (
	banWindow   = time.Minute // wrong secrets count together that come within it
	banFirst    = 30 * time.Second
	banNames    = 3       // times as many user names as wrong secrets: then the whole address is banned
	strikesMost = 1 << 16 // pairs, and addresses, that are remembered for wrong secrets
	provenMost  = 1 << 18 // pairs that are remembered for a right one
	provenLasts = 7 * 24 * time.Hour
)

// bans keeps those from guessing who do. Wrong secrets are counted by user name and address together, so that nobody can
// ban a device but from the device's own address; and by address, for guessing over many user names. A ban begins at 30 s
// and doubles each time up to most. Keys are hashes under a seed of this process, and all tables are bounded.
type bans struct {
	after   int // wrong secrets in a minute; 0: nobody is banned
	most    time.Duration
	metrics *metrics
	now     func() time.Time
	seed    maphash.Seed

	mu        sync.Mutex
	pairs     *expiring[uint64, strikes]
	addresses *expiring[netip.Prefix, strikes]
	proven    *expiring[uint64, struct{}] // pairs that had the right secret
	said      *sparing
}

// strikes are the wrong secrets of a pair, or the user names that an address had wrong secrets for.
type strikes struct {
	wrong int
	since time.Time
	bans  int // one after the other
	until time.Time
}

// guest is who wants to come in, as bans sees it.
type guest struct {
	name    string
	address netip.Prefix
	pair    uint64
}

// verdict is what may be done for a guest.
type verdict uint8

const (
	welcome   verdict = iota
	knownOnly         // may come in by what is known already; nothing is looked up
	banned            // is answered like one with a wrong secret, and nothing is looked at
)

func newBans(o Options, m *metrics, said *sparing) *bans {
	return &bans{
		after: o.BanAfter, most: o.BanFor, metrics: m, now: time.Now, seed: maphash.MakeSeed(),
		pairs: newExpiring[uint64, strikes](strikesMost), addresses: newExpiring[netip.Prefix, strikes](strikesMost),
		proven: newExpiring[uint64, struct{}](provenMost), said: said,
	}
}

// guest makes out who says hello. A name that many share, such as service, is told apart by its secret: a wrong one must
// not keep the right ones out.
func (b *bans) guest(h hello) guest {
	g := guest{name: h.username, address: door.Neighbourhood(hostOf(h.remote))}
	var key maphash.Hash
	key.SetSeed(b.seed)
	address := g.address.Addr().As16()
	_, _ = key.Write(address[:])
	_, _ = key.WriteString(h.username)
	if h.username == userService || h.username == userBackend {
		secret := sha256.Sum256(h.password)
		_, _ = key.Write(secret[:])
	}
	g.pair = key.Sum64()
	return g
}

// hostOf is the address in host:port. What has none counts as one and the same.
func hostOf(remote string) netip.Addr {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.IPv6Unspecified()
	}
	return ip
}

// judge says what may be done for g.
func (b *bans) judge(g guest) verdict {
	if b.after == 0 {
		return welcome
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if s, ok := b.pairs.get(g.pair, now); ok && s.until.After(now) {
		return banned
	}
	if s, ok := b.addresses.get(g.address, now); ok && s.until.After(now) {
		if _, proven := b.proven.get(g.pair, now); proven {
			return knownOnly
		}
		return banned
	}
	return welcome
}

// right notes that g had the right secret.
func (b *bans) right(g guest) {
	if b.after == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pairs.drop(g.pair)
	b.proven.put(g.pair, struct{}{}, b.now().Add(provenLasts))
}

// wrong notes that g had not.
func (b *bans) wrong(g guest) {
	if b.after == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	s, _ := b.pairs.get(g.pair, now)
	s = s.another(now)
	first := s.wrong == 1
	if s.wrong >= b.after {
		s = b.ban(s, "device", g, now)
	}
	b.pairs.put(g.pair, s, s.forgotten(now, b.most))
	if !first { // it is counted for the address already
		return
	}
	s, _ = b.addresses.get(g.address, now)
	if s = s.another(now); s.wrong >= banNames*b.after {
		s = b.ban(s, "address", g, now)
	}
	b.addresses.put(g.address, s, s.forgotten(now, b.most))
}

// another is s with one more.
func (s strikes) another(now time.Time) strikes {
	if s.wrong == 0 || now.Sub(s.since) >= banWindow {
		s.wrong, s.since = 0, now
	}
	s.wrong++
	return s
}

// banLines are the lines of the log when a ban begins.
var banLines = map[string]string{
	"device":  "banned for wrong secrets: this user name is refused from this address for now, the right secret too",
	"address": "banned for wrong secrets: this address is refused for now, but for those that had the right secret from there",
}

// ban is s banned; b.mu is held.
func (b *bans) ban(s strikes, what string, g guest, now time.Time) strikes {
	lasts := min(banFirst<<min(s.bans, 16), b.most)
	s.bans++
	s.wrong, s.until = 0, now.Add(lasts)
	b.metrics.bans.WithLabelValues(what).Inc()
	b.said.say(slog.LevelWarn, what, banLines[what], "username", showName(g.name), "address", g.address.String(), "for", lasts)
	return s
}

// forgotten is when s is nothing any more: it behaved for as long as the longest ban.
func (s strikes) forgotten(now time.Time, most time.Duration) time.Time {
	if s.until.After(now) {
		now = s.until
	}
	if s.bans > 0 {
		now = now.Add(most)
	}
	return now.Add(banWindow)
}

// active is how many bans there are now.
func (b *bans) active() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	lasts := func(s strikes) bool { return s.until.After(now) }
	return float64(b.pairs.count(now, lasts) + b.addresses.count(now, lasts))
}
