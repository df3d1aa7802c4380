package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// The bounds of what is created together. A tenant has one such transaction at a time: of two each would be smaller, and all would
// cost half as much again.
const (
	togetherMost    = 64              // commands of one transaction
	togetherDevices = 16              // of one of them
	togetherWithin  = 5 * time.Second // then each goes on alone, for as long as its caller waits
	togetherWait    = time.Second     // for those before; who has waited so long goes on alone
)

// creation is a command on its way into the record, together with others of its tenant: what a transaction costs by itself is
// more than what one more command costs.
type creation struct {
	command command.Command
	ttl     time.Duration
	key     command.Idempotency
	first   int
	born    command.BornFunc

	lead chan []*creation // gets those to create, itself among them
	done chan struct{}    // closed when what follows is known
	made command.Created
	err  error
	// apart: it has to be created by itself. Its key is taken, which may mean to wait, or the transaction of all failed, which
	// may be the fault of one, or those before it do not come to an end.
	apart bool
}

// creations are the queues of tenants. One tenant's commands may have to wait for a change of its fleet, so tenants share nothing.
type creations struct {
	wait time.Duration // togetherWait

	mu sync.Mutex
	of map[fleet.Tenant]*creationQueue
}

// creationQueue is there as long as a transaction of its tenant is under way.
type creationQueue struct {
	waiting []*creation
	keys    map[string]bool // of those that wait or are being created
}

// errNotCreated is what became of a command whose transaction did not get so far as to say.
var errNotCreated = errors.New("the command was not created")

// join creates c with others, or waits until somebody has done so. create fills in what became of each. An error means that nobody
// waits for c any more.
func (q *creations) join(ctx context.Context, c *creation, create func(context.Context, []*creation)) error {
	tenant := c.command.Tenant
	batch, queued := q.enter(tenant, c)
	if !queued {
		c.apart = true
		return nil
	}
	over := time.NewTimer(q.wait)
	defer over.Stop()
	for batch == nil {
		select {
		case <-c.done:
			return nil
		case batch = <-c.lead:
		case <-over.C: // once
			var left bool
			if batch, left = q.quit(tenant, c); left {
				c.apart = true
				return nil
			}
		case <-ctx.Done():
			if batch, _ = q.quit(tenant, c); batch == nil {
				return ctx.Err()
			}
		}
	}
	defer q.pass(tenant, batch)
	for _, one := range batch {
		one.err = errNotCreated
	}
	defer func() {
		for _, one := range batch {
			close(one.done)
		}
	}()
	// The others wait for it, whatever becomes of its own caller.
	limit, stop := context.WithTimeout(context.WithoutCancel(ctx), togetherWithin)
	defer stop()
	create(limit, batch)
	return nil
}

// enter gives c to lead, alone, or has it wait. Where its key is in the queue already it does neither.
func (q *creations) enter(tenant fleet.Tenant, c *creation) (batch []*creation, queued bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	of, k := q.of[tenant], c.key.Key
	first := of == nil
	if first {
		of = &creationQueue{keys: map[string]bool{}}
		q.of[tenant] = of
	}
	if k != "" {
		if of.keys[k] {
			return nil, false
		}
		of.keys[k] = true
	}
	if first {
		return []*creation{c}, true
	}
	of.waiting = append(of.waiting, c)
	return nil, true
}

// quit takes c out of the queue; left is false when it is being created. Was it just given others to lead, it has to.
func (q *creations) quit(tenant fleet.Tenant, c *creation) (batch []*creation, left bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case batch := <-c.lead:
		return batch, false
	default:
	}
	of := q.of[tenant]
	if of == nil {
		return nil, false
	}
	i := slices.Index(of.waiting, c)
	if i < 0 {
		return nil, false
	}
	of.waiting = slices.Delete(of.waiting, i, i+1)
	delete(of.keys, c.key.Key)
	return nil, true
}

// pass ends a transaction. The first of those that wait leads the next.
func (q *creations) pass(tenant fleet.Tenant, created []*creation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	of := q.of[tenant]
	for _, one := range created {
		delete(of.keys, one.key.Key)
	}
	if len(of.waiting) == 0 {
		delete(q.of, tenant)
		return
	}
	n := min(len(of.waiting), togetherMost)
	batch := of.waiting[:n:n]
	of.waiting = slices.Clone(of.waiting[n:])
	batch[0].lead <- batch
}
