package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/fleet"
	"meterline/testkit"
)

// memRevocations is a Revocations in memory.
type memRevocations struct {
	mu    sync.Mutex
	found []fleet.Revocation
	err   error
	asked int
}

func (m *memRevocations) Next(context.Context) ([]fleet.Revocation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.err != nil {
		return nil, m.err
	}
	found := m.found
	m.found = nil
	return found, nil
}

func (m *memRevocations) put(err error, found ...fleet.Revocation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.found, m.err = append(m.found, found...), err
}

// closedSoon wants the client to be closed in the time in which revocation is promised.
func (c *client) closedSoon() []packets.Packet {
	c.t.Helper()
	pulse, began := testkit.StartPulse(c.t), time.Now()
	before := c.closed()
	if took := time.Since(began); took > pulse.Limit(5*time.Second) {
		c.t.Errorf("closed after %v", took)
	}
	return before
}

func TestWhatIsTakenBackIsClosed(t *testing.T) {
	back := &memRevocations{}
	r := start(t, func(o *Options) { o.Revocations = back })
	disabled, deleted, rotated := r.listening(t, dev("d1").v5()), r.listening(t, dev("d2")), r.listening(t, dev("d3"))
	side := r.connect(t, hi{id: "d1:side", user: "d1", pass: "d1"})
	reader, other := r.connect(t, service("reader")), r.connect(t, service("root"))
	fresh, stays := r.listening(t, dev("d4")), r.listening(t, dev("d5"))

	off, moved := device("d1", "t1", fleet.Direct), device("d3", "t1", fleet.Direct)
	off.Enabled = false
	moved.MAC = pepper.MAC("new")
	same := device("d4", "t1", fleet.Direct) // taken back before it signed in again, with what is good now
	asked := r.creds.count()
	r.creds.set(off)
	r.creds.set(moved)
	r.creds.unset("d2")
	back.put(nil, fleet.Revocation{Device: "d1", Now: &off}, fleet.Revocation{Device: "d2"}, fleet.Revocation{Device: "d3", Now: &moved},
		fleet.Revocation{Device: "d4", Now: &same}, fleet.Revocation{Device: "unheard-of"}, fleet.Revocation{Token: "reader"})
	if before := disabled.closedSoon(); len(before) != 1 || before[0].ReasonCode != packets.ErrAdministrativeAction.Code {
		t.Errorf("told %+v", before)
	}
	for _, c := range []*client{side, deleted, rotated, reader} {
		c.closedSoon()
	}
	for _, c := range []*client{fresh, stays, other} {
		c.ping()
	}
	r.answered(t, 0, dev("d3").with("new")) // by what the revocation brought
	if n := r.creds.count() - asked; n != 0 {
		t.Errorf("%d look-ups", n)
	}
	r.answered(t, 5, dev("d1"))
	r.answered(t, 5, dev("d2"))
	r.answered(t, 5, dev("d3"))
	r.awaitMetric(t, 6, "revocations_total")
}

func TestRevocationsAreReadAgainWhenTheyCouldNotBe(t *testing.T) {
	back := &memRevocations{err: errors.New("away")}
	r := start(t, func(o *Options) { o.Revocations = back })
	d := r.listening(t, dev("d1"))
	r.awaitMetric(t, 1, "revocation_failures_total")
	d.ping()
	back.put(nil, fleet.Revocation{Device: "d1"})
	d.closedSoon()
}

// An import that disables a whole fleet makes a gateway look nothing up.
func TestABulkRevocationLooksNothingUp(t *testing.T) {
	back := &memRevocations{}
	r := start(t, func(o *Options) { o.Revocations = back })
	d := r.listening(t, dev("d1"))
	asked := r.creds.count()
	all := make([]fleet.Revocation, 100_000)
	for i := range all {
		off := device(fleet.DeviceID(fmt.Sprint("bulk", i)), "t1", fleet.Direct)
		off.Enabled = false
		all[i] = fleet.Revocation{Device: off.DeviceID, Now: &off}
	}
	back.put(nil, append(all, fleet.Revocation{Device: "d1"})...)
	d.closedSoon()
	if n := r.creds.count() - asked; n != 0 {
		t.Errorf("%d look-ups", n)
	}
	if n := r.metric(t, "credentials_cached"); n != 0 {
		t.Errorf("%v cached", n)
	}
}

// What is revoked while the look-up that admits it is on its way does not stay.
func TestRevokedWhileItIsAdmitted(t *testing.T) {
	source := &slowSource{entered: make(chan struct{}), release: make(chan []fleet.Credential)}
	r := start(t, func(o *Options) { o.Credentials = source })
	c := r.knock(t, dev("d1"))
	<-source.entered
	r.creds0().replace("d1", nil)
	source.release <- []fleet.Credential{device("d1", "t1", fleet.Direct)} // what it was before
	<-source.entered
	source.release <- nil
	if pk, err := c.read(waitMost); err != nil || pk.ReasonCode != 5 {
		t.Errorf("%v %#x", err, pk.ReasonCode)
	}
}

func TestATokenRevokedWhileItIsAdmitted(t *testing.T) {
	r := start(t)
	r.ForgetTokens("reader") // the fake source goes on admitting it, as one that was asked just before
	r.knock(t, service("reader")).closed()
	r.connect(t, service("root")).ping()
}

// kept connects a service client whose session stays when it goes, and subscribes it.
func (r *rig) kept(t *testing.T, id, token string) *client {
	t.Helper()
	h := service(token)
	h.id, h.persistent = id, true
	c := r.connect(t, h)
	if code := c.subscribe("plant/#", 1, 1); code != 1 {
		t.Fatalf("subscribe: %#x", code)
	}
	return c
}

// awaitSessions waits until service clients have so many sessions, away or not, and wants no more than that to be left.
func (r *rig) awaitSessions(t *testing.T, want float64) {
	t.Helper()
	eventually(t, fmt.Sprint(want, " sessions of service clients"), func() bool { return r.metric(t, "plain_sessions") == want })
}

func TestADeletedTokenLeavesNoSession(t *testing.T) {
	back := &memRevocations{}
	r := start(t, func(o *Options) { o.Revocations = back })
	away, here, other := r.kept(t, "away", "reader"), r.kept(t, "here", "reader"), r.kept(t, "other", "root")
	_ = away.conn.Close()
	r.awaitMetric(t, 1, "plain_sessions_away")
	for id := uint16(2); id < 5; id++ {
		other.publish("plant/boiler", "hot", 1, id)
	}
	r.awaitMetric(t, 3, "plain_queued")
	back.put(nil, fleet.Revocation{Token: "reader"})
	here.closedSoon()
	r.awaitSessions(t, 1)
	eventually(t, "nothing waits for anybody", func() bool { return r.metric(t, "plain_queued") == 0 })
	eventually(t, "one subscription is left", func() bool { return r.metric(t, "plain_subscriptions") == 1 }) // after its session
	if n := r.metric(t, "plain_sessions_ended_total", "reason", "forgotten"); n != 1 {
		t.Errorf("%v sessions of clients that were away are counted", n)
	}
	h := service("reader") // the fake source goes on admitting it, as one that was asked just before
	h.persistent = true
	r.knock(t, h).closed()
	r.awaitSessions(t, 1)
}

func TestASessionEndsWithItsToken(t *testing.T) {
	ends := time.Now().Add(time.Hour)
	r := start(t, func(o *Options) {
		o.Tokens.(memTokens)["brief"] = fleet.Token{ID: "brief", Tenant: "t1", Scopes: []fleet.Scope{fleet.MQTT}, ExpiresAt: &ends}
	})
	brief, other := r.connect(t, service("brief")), r.connect(t, service("reader"))
	setClock(&r.tokens.mu, &r.tokens.now, ends)
	brief.closedSoon()
	other.ping()
	r.tokens.mu.Lock()
	defer r.tokens.mu.Unlock()
	if len(r.tokens.sessions["reader"]) != 1 {
		t.Errorf("%v", r.tokens.sessions)
	}
}

func TestATokenThatIsOverLeavesNoSession(t *testing.T) {
	t.Parallel()
	known := memTokens{"reader": {ID: "reader", Tenant: "t1", Scopes: []fleet.Scope{fleet.MQTT}}}
	r := start(t, func(o *Options) { o.Tokens = known })
	other := r.kept(t, "other", "reader")
	ends := time.Now().Add(8 * time.Second) // two clients are in by then, also on a busy machine
	known["brief"] = fleet.Token{ID: "brief", Tenant: "t1", Scopes: []fleet.Scope{fleet.MQTT}, ExpiresAt: &ends}
	away, here := r.kept(t, "away", "brief"), r.kept(t, "here", "brief")
	_ = away.conn.Close()
	r.awaitMetric(t, 1, "plain_sessions_away")
	here.closed()
	r.awaitSessions(t, 1)
	other.ping()
}

// awayTokens is a Tokens that can be away.
type awayTokens struct {
	memTokens
	mu    sync.Mutex
	err   error
	calls int
}

func (a *awayTokens) TokenBySecret(ctx context.Context, secret string) (fleet.Token, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.err != nil {
		return fleet.Token{}, a.err
	}
	return a.memTokens.TokenBySecret(ctx, secret)
}

func TestTokensAreCached(t *testing.T) {
	source := &awayTokens{memTokens: memTokens{"reader": {ID: "reader", Tenant: "t1", Scopes: []fleet.Scope{fleet.MQTT}}}}
	r := start(t, func(o *Options) { o.Tokens = source })
	r.answered(t, 0, service("reader"))
	r.answered(t, 0, service("reader"))
	if source.calls != 1 {
		t.Errorf("%d look-ups", source.calls)
	}
	source.mu.Lock()
	source.err = errors.New("away")
	source.mu.Unlock()
	setClock(&r.tokens.mu, &r.tokens.now, time.Now().Add(tokensFresh))
	r.answered(t, 0, service("reader"))
	r.answered(t, 3, service("other"))
	setClock(&r.tokens.mu, &r.tokens.now, time.Now().Add(tokensKept+tokensFresh))
	r.answered(t, 3, service("reader"))
}
