package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meterline/command"
)

// errPassed ends a turn in which another expands the same command.
var errPassed = errors.New("another expands it")

// Expand implements command.Book. The command's row is locked only while its new operations are written, so that those
// that are under way already can move between chunks. A command that can never be expanded is given up in the end.
func (db *DB) Expand(ctx context.Context, limit int, f command.BornFunc) (command.Created, bool, error) {
	waiting, err := db.expanding(ctx)
	if err != nil {
		return command.Created{}, false, fmt.Errorf("look for commands to expand: %w", err)
	}
	var failure error
	for _, id := range waiting {
		var made command.Created
		err := db.write(ctx, bulk, func(t *tx) error {
			var err error
			made, err = t.expand(id, limit, f)
			return err
		})
		switch {
		case errors.Is(err, errPassed):
			continue
		case err != nil && (ctx.Err() != nil || errors.Is(err, command.ErrUnavailable)):
			return command.Created{}, false, fmt.Errorf("expand command: %w", err)
		case err != nil: // its own fault, which the others need not suffer from
			if failure = fmt.Errorf("expand command %s: %w", id, err); !db.expansions.hopeless(id) {
				continue
			}
			if made.Command, err = db.giveUp(ctx, id, err); err != nil {
				return command.Created{}, false, err
			}
		}
		db.expansions.success(id)
		return made, true, nil
	}
	return command.Created{}, false, failure
}

// expanding lists some of the commands that wait for being expanded: those of high priority first, then the oldest.
func (db *DB) expanding(ctx context.Context) (ids []command.ID, err error) {
	err = db.single(ctx, func(t *tx) error {
		ids = nil
		return t.list(&ids, `SELECT id FROM commands WHERE expanding ORDER BY priority DESC, seq LIMIT 16`)
	})
	return ids, err
}

func (t *tx) expand(id command.ID, limit int, f command.BornFunc) (command.Created, error) {
	if t.postgres {
		var mine bool
		if err := t.get(&mine, `SELECT pg_try_advisory_xact_lock($1, hashtext($2))`, t.expandLock, string(id)); err != nil {
			return command.Created{}, fmt.Errorf("take the command: %w", err)
		}
		if !mine {
			return command.Created{}, errPassed
		}
	}
	c, err := t.commandByID(id)
	if err != nil {
		return command.Created{}, err
	}
	if !c.Expanding {
		return command.Created{}, errPassed
	}
	now, err := t.shareFleetNow(c.Tenant)
	if err != nil {
		return command.Created{}, err
	}
	found, err := t.candidates(c, c.Expanded, limit)
	if err != nil {
		return command.Created{}, err
	}
	ops, added := born(c, found, now, f)
	if c, err = t.advance(c, ops, *added, len(ops) < limit, now); err != nil {
		return command.Created{}, err
	}
	for _, o := range ops {
		o.Changed = c.Version
	}
	return command.Created{Command: c, Operations: ops}, t.addOperations(ops)
}

// advance moves the command past the operations' devices, counts them and, with done, ends the expansion: its total
// becomes what there really is, since devices may have left or come meanwhile. If the command was cancelled since it was
// loaded, or somebody else has moved it on, the transaction runs again.
func (t *tx) advance(c command.Command, ops []*command.Operation, added command.Counts, done bool, now time.Time) (command.Command, error) {
	to := c.Expanded
	if len(ops) > 0 {
		to = ops[len(ops)-1].DeviceID
	}
	var rows []commandRow
	err := t.list(&rows, `
		UPDATE commands
		SET expanding = NOT $3,
			expanded_to = $4,
			made = made + $5,
			version = version + 1,
			total = CASE WHEN $3 OR total < made + $5 THEN made + $5 ELSE total END,
			succeeded = succeeded + $6,
			cancelled = cancelled + $7,
			expired = expired + $10,
			running = NOT ($3 AND made + $5 <= succeeded + failed + expired + cancelled + dead + $6 + $7 + $10),
			finished_at = CASE
				WHEN $3 AND made + $5 <= succeeded + failed + expired + cancelled + dead + $6 + $7 + $10 THEN $8
				ELSE finished_at END
		WHERE id = $1 AND expanding AND expanded_to = $2 AND (cancelled_at IS NOT NULL) = $9
		RETURNING `+commandColumns,
		string(c.ID), string(c.Expanded), done, string(to), len(ops), added.Succeeded, added.Cancelled, at(now), !c.CancelledAt.IsZero(), added.Expired)
	if err != nil {
		return c, fmt.Errorf("count new operations: %w", err)
	}
	if len(rows) == 0 {
		return c, errAgain
	}
	cs, err := t.domain(rows)
	if err != nil {
		return c, err
	}
	return cs[0], nil
}
