package store

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"meterline/command"
	"meterline/fault"
	"meterline/fleet"
)

// Create implements command.Book.
func (db *DB) Create(ctx context.Context, c command.Command, ttl time.Duration, key command.Idempotency, first int,
	f command.BornFunc) (command.Created, error) {
	if c.ID == "" {
		c.ID = command.ID(newID())
	}
	var made command.Created
	err := db.write(ctx, urgent, func(t *tx) error {
		var err error
		made, err = t.create(c, ttl, key, first, f)
		return err
	})
	if err != nil {
		return command.Created{}, fmt.Errorf("create command: %w", err)
	}
	return made, nil
}

func (t *tx) create(c command.Command, ttl time.Duration, key command.Idempotency, first int, f command.BornFunc) (command.Created, error) {
	if key.Key != "" {
		old, err := t.claimKey(c.Tenant, c.ID, key)
		if err != nil {
			return command.Created{}, err
		}
		if old != "" {
			was, err := t.commandByID(old)
			return command.Created{Command: was, Replayed: true}, err
		}
	}
	if err := t.shareFleet(c.Tenant); err != nil {
		return command.Created{}, err
	}
	now, err := t.now() // after the waiting
	if err != nil {
		return command.Created{}, err
	}
	c.CreatedAt, c.ExpiresAt = now, now.Add(ttl)
	if !c.NotBefore.IsZero() {
		c.NotBefore = micro(c.NotBefore)
		c.ExpiresAt = c.NotBefore.Add(ttl)
	}
	c.ExpiresAt = micro(c.ExpiresAt)
	if err := t.checkTargets(c); err != nil {
		return command.Created{}, err
	}
	total, err := t.countTargets(c)
	if err != nil {
		return command.Created{}, err
	}
	if total == 0 {
		return command.Created{}, invalid("/targets", "matches no device")
	}
	found, err := t.candidates(c, "", min(first, total))
	if err != nil {
		return command.Created{}, err
	}
	return t.begin(c, total, found, now, f)
}

// begin writes a command with its first operations.
func (t *tx) begin(c command.Command, total int, found []command.Candidate, now time.Time, f command.BornFunc) (command.Created, error) {
	seq, err := t.nextSeq()
	if err != nil {
		return command.Created{}, err
	}
	c.Seq, c.Version = seq, 1
	c.Expanding = total > len(found)
	if len(found) > 0 {
		c.Expanded = found[len(found)-1].DeviceID
	}
	ops, counts := born(c, found, now, f)
	counts.Total = total
	counts.Queued = total - moved(*counts)
	c.Counts, c.FinishedAt, c.ShownExpired = *counts, time.Time{}, false
	if !c.Expanding && counts.Open() == 0 {
		c.FinishedAt = now
	}
	if err := t.insertCommand(c, len(ops)); err != nil {
		return command.Created{}, err
	}
	for _, o := range ops {
		o.Changed = c.Version
	}
	return command.Created{Command: c, Operations: ops}, t.addOperations(ops)
}

// nextSeq takes the next number for a command. SQLite gives its own on insert.
func (t *tx) nextSeq() (seq int64, err error) {
	if t.postgres {
		err = t.get(&seq, `SELECT nextval('commands_seq_seq')`)
	} else {
		err = t.get(&seq, `SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'commands'), 0) + 1`)
	}
	if err != nil {
		return 0, fmt.Errorf("take a number: %w", err)
	}
	return seq, nil
}

func (t *tx) insertCommand(c command.Command, made int) error {
	var params any
	if len(c.Params) > 0 {
		params = string(c.Params)
	}
	n := c.Counts
	_, err := t.exec(`
		INSERT INTO commands (seq, id, tenant, parent_id, kind, mode, priority, selector, items, params, max_age_us, max_attempts,
			issued_by, traceparent, created_at, not_before, expires_at, expanding, expanded_to, made, running, finished_at, version,
			total, sent, delivered, accepted, succeeded, failed, expired, cancelled, dead)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
			$24, $25, $26, $27, $28, $29, $30, $31, $32)`,
		c.Seq, string(c.ID), string(c.Tenant), orNull(c.ParentID), string(c.Kind), string(c.Mode), c.Priority, marshal(c.Selector),
		marshal(c.Items), params, c.MaxAge.Microseconds(), c.Attempts, c.IssuedBy, c.TraceParent, at(c.CreatedAt), at(c.NotBefore),
		at(c.ExpiresAt), c.Expanding, string(c.Expanded), made, c.Running(), at(c.FinishedAt), c.Version,
		n.Total, n.Sent, n.Delivered, n.Accepted, n.Succeeded, n.Failed, n.Expired, n.Cancelled, n.Dead)
	if err != nil {
		return fmt.Errorf("add command: %w", err)
	}
	return nil
}

// The life of an idempotency key, and how long a request waits for another with the same.
const (
	keyLife = 7 * 24 * time.Hour
	keyWait = "2s"
)

// claimKey takes the key for a new command. Where it was used before, and not too long ago, old is the command of then.
func (t *tx) claimKey(tenant fleet.Tenant, id command.ID, key command.Idempotency) (old command.ID, err error) {
	if t.postgres { // whoever uses the key at this moment holds the row
		if _, err := t.exec(`SET LOCAL lock_timeout = '` + keyWait + `'`); err != nil {
			return "", fmt.Errorf("limit the wait: %w", err)
		}
	}
	now, err := t.now()
	if err != nil {
		return "", err
	}
	// Whoever finds the key taken waits for its taker, but locks nothing: then all who wait go on at once.
	n, err := t.exec(`
		INSERT INTO idempotency (tenant, key, body_hash, command_id, created_at)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (tenant, key) DO NOTHING`, string(tenant), key.Key, key.BodyHash, string(id), at(now))
	if err == nil && n == 0 {
		n, err = t.exec(`
			UPDATE idempotency
			SET body_hash = $3, command_id = $4, created_at = $5
			WHERE tenant = $1 AND key = $2 AND created_at < $6`,
			string(tenant), key.Key, key.BodyHash, string(id), at(now), at(now.Add(-keyLife)))
	}
	if sqlState(err) == lockNotAvailable {
		return "", command.ErrStillRunning
	}
	if err != nil {
		return "", fmt.Errorf("claim the idempotency key: %w", err)
	}
	if n == 0 && !fault.Bug(fault.BugKeyIgnored) {
		return t.usedKey(tenant, key)
	}
	if t.postgres {
		if _, err := t.exec(`SET LOCAL lock_timeout = 0`); err != nil {
			return "", fmt.Errorf("lift the limit: %w", err)
		}
	}
	return "", nil
}

// usedKey finds the command that a key was used for; command.ErrKeyReused when that was with another body.
func (t *tx) usedKey(tenant fleet.Tenant, key command.Idempotency) (command.ID, error) {
	var was struct {
		Hash []byte     `db:"body_hash"`
		ID   command.ID `db:"command_id"`
	}
	err := t.get(&was, `SELECT body_hash, command_id FROM idempotency WHERE tenant = $1 AND key = $2`, string(tenant), key.Key)
	if err != nil {
		return "", fmt.Errorf("look up the idempotency key: %w", err)
	}
	if !bytes.Equal(was.Hash, key.BodyHash) {
		return "", command.ErrKeyReused
	}
	return was.ID, nil
}
