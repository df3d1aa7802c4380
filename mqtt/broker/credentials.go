package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"meterline/fleet"
)

const (
	credentialsFresh   = 30 * time.Second // a cached credential older than this is used and asked for again behind
	credentialsDoubt   = time.Second      // an id is not asked for again so soon after a wrong secret
	credentialsTimeout = 3 * time.Second  // for one look-up
	credentialsPause   = time.Second      // after a look-up that failed, nobody waits for another
	credentialsBatch   = 500              // ids in one look-up
	credentialsMost    = 500_000          // are cached
	credentialsWaiting = 20_000           // ids that clients wait for; who comes then is told to try again
	doubtsMost         = 1 << 16          // ids that had a wrong secret
)

var (
	errAway = errors.New("the source of credentials did not answer a moment ago")
	errBusy = errors.New("too many credentials are being looked up")
)

// credentials caches what the source says, and gathers the look-ups of clients that connect at the same time into few:
// while one is on its way the next piles up, first come first served. Ids that do not exist are not cached.
type credentials struct {
	source  Credentials
	metrics *metrics
	now     func() time.Time
	wake    chan struct{} // capacity 1
	most    int           // ids that are cached
	timeout time.Duration // for one look-up
	// changed is told, by the goroutine of run, what a look-up found that is not what was cached; nil is for no credential.
	changed func(id fleet.DeviceID, now *fleet.Credential)

	mu      sync.Mutex
	known   map[fleet.DeviceID]known
	doubted *expiring[fleet.DeviceID, struct{}] // asked for because of a wrong secret, whether they exist or not
	loading map[fleet.DeviceID]*lookup
	next    []fleet.DeviceID // of loading, waited for, not on their way yet
	behind  []fleet.DeviceID // ... that nobody waits for
	retry   time.Time        // the last look-up failed: none is made before; zero: it did not
	trying  bool             // one is on its way after it
}

type known struct {
	fleet.Credential
	at time.Time
}

// lookup is one id being asked for. Everything below done is set before done is closed.
type lookup struct {
	// guarded by credentials.mu
	waited bool // it is in next
	sent   bool // on its way
	again  bool // forget came in between: what is on its way may be old

	done  chan struct{}
	found *fleet.Credential // nil: there is none
	err   error
}

func newCredentials(source Credentials, m *metrics) *credentials {
	return &credentials{
		source: source, metrics: m, now: time.Now, wake: make(chan struct{}, 1), most: credentialsMost, timeout: credentialsTimeout,
		changed: func(fleet.DeviceID, *fleet.Credential) {},
		known:   map[fleet.DeviceID]known{}, doubted: newExpiring[fleet.DeviceID, struct{}](doubtsMost),
		loading: map[fleet.DeviceID]*lookup{},
	}
}

// cached is what is known of id, however old. It does not wait.
func (c *credentials) cached(id fleet.DeviceID) (fleet.Credential, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.known[id]
	return k.Credential, ok
}

// used says that somebody was admitted by what is cached: when that is old it is asked for again, and nobody waits.
func (c *credentials) used(id fleet.DeviceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	k, ok := c.known[id]
	if !ok || now.Sub(k.at) < credentialsFresh {
		c.metrics.credentials.WithLabelValues("hit").Inc()
		return
	}
	c.metrics.credentials.WithLabelValues("stale").Inc()
	if c.loading[id] != nil || c.away(now) {
		return
	}
	c.loading[id] = &lookup{done: make(chan struct{})}
	c.trying = !c.retry.IsZero()
	c.behind = append(c.behind, id)
	c.signal()
}

// away says whether the source is known to fail and nobody is to ask now; c.mu is held.
func (c *credentials) away(now time.Time) bool {
	return !c.retry.IsZero() && (c.trying || now.Before(c.retry))
}

// ask returns what the source says of id now, nil when there is none. An id that was doubted a moment ago is answered from
// what was found then, whether it exists or not: so guessing costs the same for all ids. An error means that the source
// cannot say.
func (c *credentials) ask(ctx context.Context, id fleet.DeviceID) (*fleet.Credential, error) {
	l, cred, err := c.begin(id)
	if l == nil {
		return cred, err
	}
	select {
	case <-l.done:
		err = l.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("look up credentials: %w", err)
	}
	return l.found, nil
}

// begin is the part of ask that does not wait: without a lookup to wait for, the answer is there.
func (c *credentials) begin(id fleet.DeviceID) (*lookup, *fleet.Credential, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if _, doubted := c.doubted.get(id, now); doubted {
		c.metrics.credentials.WithLabelValues("doubted").Inc()
		if k, ok := c.known[id]; ok {
			return nil, &k.Credential, nil
		}
		return nil, nil, nil
	}
	c.metrics.credentials.WithLabelValues("miss").Inc()
	if c.away(now) {
		return nil, nil, errAway
	}
	l := c.loading[id]
	switch {
	case l == nil:
		if len(c.next) >= credentialsWaiting {
			return nil, nil, errBusy
		}
		l = &lookup{done: make(chan struct{}), waited: true}
		c.loading[id] = l
		c.next = append(c.next, id)
		c.trying = !c.retry.IsZero()
	case !l.waited && !l.sent:
		l.waited = true
		c.next = append(c.next, id)
	}
	c.signal()
	return l, nil, nil
}

// doubt notes that the secret for id was wrong by what the source says.
func (c *credentials) doubt(id fleet.DeviceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if _, already := c.doubted.get(id, now); !already {
		c.doubted.put(id, struct{}{}, now.Add(credentialsDoubt))
	}
}

// current is what is cached of id, however old, or else what the source says.
func (c *credentials) current(ctx context.Context, id fleet.DeviceID) (*fleet.Credential, error) {
	if k, ok := c.cached(id); ok {
		return &k, nil
	}
	return c.ask(ctx, id)
}

func (c *credentials) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// forget drops what is known of ids: they are asked for before anybody is admitted by them again.
func (c *credentials) forget(ids []fleet.DeviceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.known, id)
		c.doubted.drop(id)
		c.outdate(id)
	}
}

// replace puts what the source says now in the place of what is cached of id, if anything is.
func (c *credentials) replace(id fleet.DeviceID, now *fleet.Credential) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outdate(id)
	c.doubted.drop(id)
	if _, ok := c.known[id]; !ok {
		return
	}
	if now == nil {
		delete(c.known, id)
		return
	}
	c.known[id] = known{*now, c.now()}
}

// outdate makes what is on its way for id be asked for again; c.mu is held.
func (c *credentials) outdate(id fleet.DeviceID) {
	if l := c.loading[id]; l != nil {
		l.again = true
	}
}

// keep caches a credential; c.mu is held. When there are too many another one goes, whichever: it is asked for when needed.
func (c *credentials) keep(id fleet.DeviceID, cred fleet.Credential) {
	if _, there := c.known[id]; !there && len(c.known) >= c.most {
		for other := range c.known {
			delete(c.known, other)
			break
		}
	}
	c.known[id] = known{cred, c.now()}
}

// size is how many credentials are cached.
func (c *credentials) size() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(len(c.known))
}

func sameCredential(a, b *fleet.Credential) bool {
	return a != nil && b != nil && a.Tenant == b.Tenant && a.Kind == b.Kind && a.Enabled == b.Enabled && bytes.Equal(a.MAC, b.MAC)
}
