package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meterline/fleet"
)

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

// batch takes the ids to ask for next: those that somebody waits for first.
func (c *credentials) batch() []fleet.DeviceID {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]fleet.DeviceID, 0, min(credentialsBatch, len(c.next)+len(c.behind)))
	for _, queue := range []*[]fleet.DeviceID{&c.next, &c.behind} {
		for len(*queue) > 0 && len(ids) < credentialsBatch {
			id := (*queue)[0]
			*queue = (*queue)[1:]
			if l := c.loading[id]; l != nil && !l.sent { // else it was in both, and is over or on its way
				l.sent, l.again = true, false
				ids = append(ids, id)
			}
		}
		if len(*queue) == 0 {
			*queue = nil
		}
	}
	return ids
}

func (c *credentials) load(ctx context.Context, ids []fleet.DeviceID) {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	c.metrics.lookups.Inc()
	answer, err := c.fetch(ctx, ids)
	if errors.Is(err, errPanic) {
		c.abandon(ids, err)
		return
	}
	if err != nil {
		c.failed(err)
		return
	}
	found := make(map[fleet.DeviceID]*fleet.Credential, len(answer))
	for i := range answer {
		found[answer[i].DeviceID] = &answer[i]
	}
	for _, id := range c.settle(ids, found) {
		c.changed(id, found[id])
	}
}

var errPanic = errors.New("panic while credentials were looked up")

// abandon tells those who wait for ids that there is no answer. It says nothing about the source: others go on asking.
func (c *credentials) abandon(ids []fleet.DeviceID, err error) {
	c.metrics.lookupFailures.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trying = false
	for _, id := range ids {
		l := c.loading[id]
		delete(c.loading, id)
		l.err = err
		close(l.done)
	}
}

// fetch asks the source, and survives a panic in it: a client that causes one harms itself alone.
func (c *credentials) fetch(ctx context.Context, ids []fleet.DeviceID) (answer []fleet.Credential, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.metrics.panics.Inc()
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return c.source.Credentials(ctx, ids)
}

// settle gives those that wait what was found, and lists the ids of which something else was cached.
func (c *credentials) settle(ids []fleet.DeviceID, found map[fleet.DeviceID]*fleet.Credential) (changed []fleet.DeviceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retry, c.trying = time.Time{}, false
	for _, id := range ids {
		l := c.loading[id]
		if l.again {
			l.sent, l.waited = false, true
			c.next = append(c.next, id)
			continue
		}
		delete(c.loading, id)
		l.found = found[id]
		if before, ok := c.known[id]; ok && !sameCredential(&before.Credential, l.found) {
			changed = append(changed, id)
		}
		if l.found != nil {
			c.keep(id, *l.found)
		} else {
			delete(c.known, id)
		}
		close(l.done)
	}
	return changed
}

// failed tells everybody who waits that the source cannot say, those too who have not been asked for: it would be no
// different for them, only later.
func (c *credentials) failed(err error) {
	c.metrics.lookupFailures.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retry, c.trying = c.now().Add(credentialsPause), false
	c.next, c.behind = nil, nil
	for id, l := range c.loading {
		delete(c.loading, id)
		l.err = err
		close(l.done)
	}
}

// look asks the source past the cache; for rechecks.
func (c *credentials) look(ctx context.Context, ids []fleet.DeviceID) (map[fleet.DeviceID]fleet.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	c.metrics.lookups.Inc()
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
