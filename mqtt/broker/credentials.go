package broker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"meterline/fleet"
)

const (
	credentialsFresh   = 30 * time.Second // a cached credential younger than this is not asked for again
	credentialsDoubt   = time.Second      // ... or than this, when the secret did not match
	credentialsTimeout = 3 * time.Second  // for one look-up
	credentialsBatch   = 500              // ids in one look-up
	recheckEvery       = time.Minute      // live sessions' credentials are looked at again
)

// credentials caches what the source says, and gathers the look-ups of clients that connect at the same time into few:
// while one is on its way the next piles up. Ids that do not exist are not kept.
type credentials struct {
	source  Credentials
	metrics *metrics
	now     func() time.Time
	wake    chan struct{} // capacity 1

	mu      sync.Mutex
	known   map[fleet.DeviceID]known
	loading map[fleet.DeviceID]*lookup
	next    []fleet.DeviceID // of loading, not on their way yet
}

type known struct {
	fleet.Credential
	at time.Time
}

// lookup is one id being asked for. Everything below done is set before done is closed.
type lookup struct {
	again bool // Forget came in between: what is on its way may be old; guarded by credentials.mu

	done  chan struct{}
	found *fleet.Credential // nil: there is none
	err   error
}

func newCredentials(source Credentials, m *metrics) *credentials {
	return &credentials{
		source: source, metrics: m, now: time.Now, wake: make(chan struct{}, 1),
		known: map[fleet.DeviceID]known{}, loading: map[fleet.DeviceID]*lookup{},
	}
}

// get returns the credential of id, nil when there is none. One that is older than age is asked for again; it is used
// all the same while the source fails. An error means that nothing is known.
func (c *credentials) get(ctx context.Context, id fleet.DeviceID, age time.Duration) (*fleet.Credential, error) {
	c.mu.Lock()
	k, cached := c.known[id]
	if cached && c.now().Sub(k.at) < age {
		c.mu.Unlock()
		return &k.Credential, nil
	}
	l := c.loading[id]
	if l == nil {
		l = &lookup{done: make(chan struct{})}
		c.loading[id] = l
		c.next = append(c.next, id)
		c.signal()
	}
	c.mu.Unlock()
	var err error
	select {
	case <-l.done:
		err = l.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return l.found, nil
	}
	c.mu.Lock()
	k, cached = c.known[id] // Forget may have come in between
	c.mu.Unlock()
	if cached {
		return &k.Credential, nil
	}
	return nil, fmt.Errorf("look up credentials: %w", err)
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
		if l := c.loading[id]; l != nil {
			l.again = true
		}
	}
}

// run asks the source until ctx is done.
func (c *credentials) run(ctx context.Context) {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			ids := c.batch()
			if len(ids) == 0 {
				break
			}
			c.load(ctx, ids)
		}
	}
}

// batch takes the ids to ask for next.
func (c *credentials) batch() []fleet.DeviceID {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.next), credentialsBatch)
	ids := c.next[:n:n]
	c.next = c.next[n:]
	for _, id := range ids {
		c.loading[id].again = false
	}
	return ids
}

func (c *credentials) load(ctx context.Context, ids []fleet.DeviceID) {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	answer, err := c.source.Credentials(ctx, ids)
	if err != nil {
		c.metrics.lookupFailures.Inc()
	}
	found := make(map[fleet.DeviceID]*fleet.Credential, len(answer))
	for i := range answer {
		found[answer[i].DeviceID] = &answer[i]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		l := c.loading[id]
		if l.again && err == nil {
			c.next = append(c.next, id)
			continue
		}
		delete(c.loading, id)
		l.found, l.err = found[id], err
		switch {
		case err != nil:
		case l.found != nil:
			c.known[id] = known{Credential: *l.found, at: c.now()}
		default:
			delete(c.known, id)
		}
		close(l.done)
	}
}

// look asks the source past the cache, and refreshes it; for rechecks.
func (c *credentials) look(ctx context.Context, ids []fleet.DeviceID) (map[fleet.DeviceID]fleet.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	answer, err := c.source.Credentials(ctx, ids)
	if err != nil {
		c.metrics.lookupFailures.Inc()
		return nil, fmt.Errorf("look up credentials: %w", err)
	}
	found := make(map[fleet.DeviceID]fleet.Credential, len(answer))
	for _, a := range answer {
		found[a.DeviceID] = a
	}
	return found, nil
}
