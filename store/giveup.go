package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"meterline/command"
)

// How often in a row a command cannot be expanded, for a reason that is its own, and for how long, before it is given up.
const (
	expandTries    = 20
	expandPatience = 30 * time.Second
)

// expansions are the commands that could not be expanded by this process the last time.
type expansions struct {
	patience time.Duration // fixed after construction

	mu     sync.Mutex
	failed map[command.ID]failing
}

type failing struct {
	times int
	since time.Time
}

// hopeless notes a failure, and says whether it was the last.
func (e *expansions) hopeless(id command.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed == nil {
		e.failed = map[command.ID]failing{}
	}
	f := e.failed[id]
	if f.times++; f.times == 1 {
		f.since = time.Now()
	}
	e.failed[id] = f
	return f.times >= expandTries && time.Since(f.since) >= e.patience
}

func (e *expansions) success(id command.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.failed, id)
}

// giveUp ends the expansion of a command: the operations that were never made count as cancelled, the others are cancelled by
// its owners, and an event says why. Otherwise it would hold its tenant's later commands back until its deadline.
func (db *DB) giveUp(ctx context.Context, id command.ID, why error) (c command.Command, err error) {
	err = db.write(ctx, bulk, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		var rows []commandRow
		err = t.list(&rows, `
			UPDATE commands
			SET expanding = FALSE,
				version = version + 1,
				cancelled_at = COALESCE(cancelled_at, $2),
				cancelled = cancelled + total - made,
				running = total > succeeded + failed + expired + cancelled + dead + total - made,
				finished_at = CASE WHEN total > succeeded + failed + expired + cancelled + dead + total - made THEN NULL ELSE $2 END
			WHERE id = $1 AND expanding
			RETURNING `+leanCommandColumns, string(id), at(now))
		if err != nil || len(rows) == 0 { // another was faster
			return err
		}
		if c, err = rows[0].command(); err != nil {
			return err
		}
		return t.storeEvents(now, []command.Event{{
			Tenant: c.Tenant, Type: command.EventGivenUp, At: now, ReceivedAt: now, Key: "given-up/" + string(id),
			Data: []byte(marshal(map[string]any{"command_id": id, "detail": why.Error()})),
		}})
	})
	if err != nil {
		return c, fmt.Errorf("give up command: %w", err)
	}
	return c, nil
}
