package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// Counting reads all commands of a tenant that run. What took long holds for openHolds times as long, so that counting takes no more
// than a small share of the database, however many there are.
const (
	openSlow  = 50 * time.Millisecond
	openHolds = 10
	openMost  = 10 * time.Second
)

// openCounts are the open operations of tenants. Those who ask at the same time are answered by one count.
type openCounts struct {
	mu sync.Mutex
	of map[fleet.Tenant]*openCount
}

// openCount is guarded by the mutex of openCounts until it is over, and read only from then on, but for added.
type openCount struct {
	over  chan struct{} // closed when it is counted
	until time.Time     // it holds
	n     int
	added int // here, since it was begun
	err   error
}

// begin gives the count to wait for, and whether the caller has to make it.
func (o *openCounts) begin(tenant fleet.Tenant, now time.Time) (c *openCount, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c = o.of[tenant]
	if c != nil {
		select {
		case <-c.over:
			if c.err == nil && now.Before(c.until) {
				return c, false
			}
		default:
			return c, false
		}
	}
	c = &openCount{over: make(chan struct{})}
	if o.of == nil {
		o.of = map[fleet.Tenant]*openCount{}
	}
	o.of[tenant] = c
	return c, true
}

// end tells everybody what was counted.
func (o *openCounts) end(tenant fleet.Tenant, c *openCount, n int, err error, now time.Time, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.n, c.err = n, err
	if took >= openSlow {
		c.until = now.Add(min(openHolds*took, openMost))
	} else {
		delete(o.of, tenant)
	}
	close(c.over)
}

// add counts what was made here.
func (o *openCounts) add(made command.Created) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.of[made.Command.Tenant]; c != nil {
		c.added += made.Command.Counts.Open()
	}
}

func (o *openCounts) value(c *openCount) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return c.n + c.added, c.err
}

// OpenOperations implements command.Book. What is over by its deadline is not open.
func (db *DB) OpenOperations(ctx context.Context, tenant fleet.Tenant) (int, error) {
	c, mine := db.open.begin(tenant, time.Now())
	if mine {
		began := time.Now()
		n, err := db.countOpen(ctx, tenant)
		db.open.end(tenant, c, n, err, time.Now(), time.Since(began))
	}
	select {
	case <-c.over:
		return db.open.value(c)
	case <-ctx.Done():
		return 0, fmt.Errorf("count open operations: %w", ctx.Err())
	}
}

// countOpen counts for all who wait for it, whatever becomes of the one who is first.
func (db *DB) countOpen(ctx context.Context, tenant fleet.Tenant) (n int, err error) {
	limit, stop := context.WithTimeout(context.WithoutCancel(ctx), openMost)
	defer stop()
	err = db.single(limit, func(t *tx) error {
		return t.get(&n, `
			SELECT COALESCE(sum(total - succeeded - failed - expired - cancelled - dead), 0)
			FROM commands
			WHERE tenant = $1 AND running AND expires_at > `+t.clock(0), string(tenant))
	})
	if err != nil && limit.Err() != nil {
		err = fmt.Errorf("%w: %w", command.ErrUnavailable, err)
	}
	if err != nil {
		return 0, fmt.Errorf("count open operations: %w", err)
	}
	return n, nil
}
