package broker

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
)

var pepper = fleet.Pepper("pepper")

const waitMost = time.Minute

// memLog is a Log in memory. before, when set, runs before entries are kept and may fail or block.
type memLog struct {
	mu      sync.Mutex
	before  func(ctx context.Context, entries []command.Uplink) error
	entries []command.Uplink
	batches []int
	changed chan struct{}
}

func newMemLog() *memLog { return &memLog{changed: make(chan struct{})} }

func (l *memLog) Append(ctx context.Context, entries []command.Uplink) error {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		if err := before(ctx, entries); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entries...)
	l.batches = append(l.batches, len(entries))
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

func (l *memLog) onAppend(f func(ctx context.Context, entries []command.Uplink) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = f
}

func (l *memLog) all() []command.Uplink {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// eachOnce are entries without those that say again, by the roll call, that a session is connected.
func eachOnce(all []command.Uplink) []command.Uplink {
	type session struct {
		endpoint fleet.DeviceID
		epoch    int64
	}
	seen := map[session]bool{}
	return slices.DeleteFunc(slices.Clone(all), func(u command.Uplink) bool {
		s := session{u.Endpoint, u.Epoch}
		again := u.Kind == command.UplinkConnected && seen[s]
		seen[s] = seen[s] || u.Kind == command.UplinkConnected
		return again
	})
}

// of lists the entries of one kind.
func (l *memLog) of(kind command.UplinkKind) []command.Uplink {
	return slices.DeleteFunc(l.all(), func(u command.Uplink) bool { return u.Kind != kind })
}

// await waits until the log holds what ok wants, and returns the log.
func (l *memLog) await(t testing.TB, what string, ok func([]command.Uplink) bool) []command.Uplink {
	t.Helper()
	deadline := time.After(waitMost)
	for {
		l.mu.Lock()
		changed, entries := l.changed, slices.Clone(l.entries)
		l.mu.Unlock()
		if ok(entries) {
			return entries
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("the log never held %s; it holds %d entries: %v", what, len(entries), kinds(entries))
		}
	}
}

// awaitKind waits for n entries of a kind and returns them.
func (l *memLog) awaitKind(t testing.TB, kind command.UplinkKind, n int) []command.Uplink {
	t.Helper()
	l.await(t, string(kind), func(all []command.Uplink) bool { return count(all, kind) >= n })
	return l.of(kind)
}

func count(all []command.Uplink, kind command.UplinkKind) (n int) {
	for _, u := range all {
		if u.Kind == kind {
			n++
		}
	}
	return n
}

func kinds(all []command.Uplink) (ks []string) {
	for _, u := range all {
		ks = append(ks, string(u.Endpoint)+":"+string(u.Kind))
	}
	return ks
}

// memCredentials is a Credentials in memory.
type memCredentials struct {
	mu    sync.Mutex
	known map[fleet.DeviceID]fleet.Credential
	err   error
	calls int
}

func (c *memCredentials) Credentials(_ context.Context, ids []fleet.DeviceID) ([]fleet.Credential, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.err != nil {
		return nil, c.err
	}
	var found []fleet.Credential
	for _, id := range ids {
		if k, ok := c.known[id]; ok {
			found = append(found, k)
		}
	}
	return found, nil
}

func (c *memCredentials) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

func (c *memCredentials) set(k fleet.Credential) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[k.DeviceID] = k
}

func (c *memCredentials) unset(id fleet.DeviceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, id)
}

func (c *memCredentials) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// device is a credential whose secret is the id.
func device(id fleet.DeviceID, tenant fleet.Tenant, kind fleet.Kind) fleet.Credential {
	return fleet.Credential{DeviceID: id, Tenant: tenant, Kind: kind, Enabled: true, MAC: pepper.MAC(string(id))}
}

// memTokens is a Tokens in memory: the secret is the token's id.
type memTokens map[string]fleet.Token

func (m memTokens) TokenBySecret(_ context.Context, secret string) (fleet.Token, error) {
	if secret == "panic" {
		panic("a token that nobody bears")
	}
	token, ok := m[secret]
	if !ok {
		return fleet.Token{}, ErrUnknownToken
	}
	return token, nil
}

// memSessions is presence in memory, shared by the gateways of a test.
type memSessions struct {
	mu       sync.Mutex
	epoch    int64
	newest   map[fleet.DeviceID]command.Session
	watchers map[int]chan command.Session
	watched  int
	marks    map[string]bool // gateways that announced themselves since the last flush
	beats    map[string]int64
	err      error
	changed  chan struct{}
}

func newMemSessions() *memSessions {
	return &memSessions{
		epoch: time.Now().UnixMicro(), newest: map[fleet.DeviceID]command.Session{},
		watchers: map[int]chan command.Session{}, marks: map[string]bool{}, beats: map[string]int64{},
		changed: make(chan struct{}),
	}
}

func (m *memSessions) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memSessions) Open(_ context.Context, s command.Session) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, m.err
	}
	m.epoch++
	s.Epoch = m.epoch
	m.newest[s.Endpoint] = s
	for _, w := range m.watchers {
		w <- s
	}
	m.notify()
	return s.Epoch, nil
}

func (m *memSessions) Close(_ context.Context, s command.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.newest[s.Endpoint].Epoch == s.Epoch {
		delete(m.newest, s.Endpoint)
	}
	m.notify()
	return nil
}

func (m *memSessions) Restore(_ context.Context, sessions []command.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	for _, s := range sessions {
		if m.newest[s.Endpoint].Epoch < s.Epoch {
			m.newest[s.Endpoint] = s
		}
	}
	m.notify()
	return nil
}

func (m *memSessions) Lost(_ context.Context, gateway, incarnation string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.marks[gateway+"/"+incarnation], m.err
}

func (m *memSessions) Announce(_ context.Context, g command.Gateway, beat int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.marks[g.ID+"/"+g.Incarnation] = true
	m.beats[g.ID] = beat
	m.notify()
	return nil
}

func (m *memSessions) Watch(ctx context.Context, f func(command.Session)) error {
	m.mu.Lock()
	m.watched++
	id, events := m.watched, make(chan command.Session, 1000)
	m.watchers[id] = events
	m.notify()
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.watchers, id)
		m.mu.Unlock()
	}()
	for {
		select {
		case s := <-events:
			f(s)
		case <-ctx.Done():
			return nil
		}
	}
}

// deafSessions misses everything that other gateways tell, but can be asked.
type deafSessions struct{ *memSessions }

func (m deafSessions) Watch(ctx context.Context, _ func(command.Session)) error {
	<-ctx.Done()
	return nil
}

func (m deafSessions) Sessions(_ context.Context, endpoints []fleet.DeviceID) (map[fleet.DeviceID]command.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[fleet.DeviceID]command.Session{}
	for _, id := range endpoints {
		if s, ok := m.newest[id]; ok {
			found[id] = s
		}
	}
	return found, m.err
}

func (m *memSessions) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// flush forgets everything, as FLUSHALL does.
func (m *memSessions) flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
}

// forget is flush for who has the lock, as await's ok.
func (m *memSessions) forget() {
	m.newest, m.marks = map[fleet.DeviceID]command.Session{}, map[string]bool{}
}

// await waits until ok, which may look at everything.
func (m *memSessions) await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(waitMost)
	for {
		m.mu.Lock()
		changed, done := m.changed, ok()
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("presence never held: %s", what)
		}
	}
}
