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

// query asks the source for what there is of ids.
func (c *credentials) query(ctx context.Context, ids []fleet.DeviceID) (map[fleet.DeviceID]*fleet.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	c.metrics.lookups.Inc()
	answer, err := c.source.Credentials(ctx, ids)
	if err != nil {
		return nil, err
	}
	found := make(map[fleet.DeviceID]*fleet.Credential, len(answer))
	for i := range answer {
		found[answer[i].DeviceID] = &answer[i]
	}
	return found, nil
}

func (c *credentials) load(ctx context.Context, ids []fleet.DeviceID) {
	found, err := c.query(ctx, ids)
	switch {
	case errors.Is(err, errPanic) && len(ids) > 1: // whose id it is that the source cannot bear
		c.load(ctx, ids[:len(ids)/2])
		c.load(ctx, ids[len(ids)/2:])
		return
	case errors.Is(err, errPanic):
		c.unanswered(ids[0], err)
		return
	case err != nil:
		c.failed(err)
		return
	}
	for _, id := range c.settle(ids, found) {
		c.changed(id, found[id])
	}
}

// settle gives those that wait what was found, and lists the ids of which something else was cached.
func (c *credentials) settle(ids []fleet.DeviceID, found map[fleet.DeviceID]*fleet.Credential) (changed []fleet.DeviceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retry, c.trying = time.Time{}, false
	for _, id := range ids {
		l := c.loading[id]
		if l == nil {
			continue // failed meanwhile
		}
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

// unanswered tells those who wait for one id that the source cannot say. That is no reason not to ask it for others.
func (c *credentials) unanswered(id fleet.DeviceID, err error) {
	c.metrics.lookupFailures.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retry, c.trying = time.Time{}, false
	if l := c.loading[id]; l != nil {
		delete(c.loading, id)
		l.err = err
		close(l.done)
	}
}

// look asks the source past the cache; for rechecks.
func (c *credentials) look(ctx context.Context, ids []fleet.DeviceID) (map[fleet.DeviceID]*fleet.Credential, error) {
	found, err := c.query(ctx, ids)
	if err != nil {
		c.metrics.lookupFailures.Inc()
		return nil, fmt.Errorf("look up credentials: %w", err)
	}
	return found, nil
}
