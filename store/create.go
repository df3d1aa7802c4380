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

// Create implements command.Book. Commands for a few devices each that come at the same time are committed together.
func (db *DB) Create(ctx context.Context, c command.Command, ttl time.Duration, key command.Idempotency, first int,
	f command.BornFunc) (command.Created, error) {
	if c.ID == "" {
		c.ID = command.ID(newID())
	}
	var made command.Created
	var err error
	if n := len(c.Selector.DeviceIDs); n > 0 && n <= togetherDevices {
		made, err = db.createTogether(ctx, c, ttl, key, first, f)
	} else {
		made, err = db.createApart(ctx, c, ttl, key, first, f)
	}
	if err != nil {
		return command.Created{}, fmt.Errorf("create command: %w", err)
	}
	if !made.Replayed {
		db.open.add(made)
	}
	return made, nil
}

func (db *DB) createApart(ctx context.Context, c command.Command, ttl time.Duration, key command.Idempotency, first int,
	f command.BornFunc) (made command.Created, err error) {
	err = db.write(ctx, urgent, func(t *tx) error {
		made, err = t.create(c, ttl, key, first, f)
		return err
	})
	return made, err
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
	now, err := t.shareFleetNow(c.Tenant)
	if err != nil {
		return command.Created{}, err
	}
	c = dated(c, now, ttl)
	made, err := t.targetedBy(c, first, now, f)
	if err != nil {
		return command.Created{}, err
	}
	return made, t.insert([]*command.Created{&made})
}

// targetedBy is a command on the first of the devices that its selector matches, which has yet to be written.
func (t *tx) targetedBy(c command.Command, first int, now time.Time, f command.BornFunc) (command.Created, error) {
	if len(c.Selector.DeviceIDs) > 0 {
		devices, err := t.devicesNamed(c.Tenant, c.Selector.DeviceIDs)
		if err != nil {
			return command.Created{}, err
		}
		return t.targeted(c, devices, first, now, f)
	}
	if err := t.checkGroup(c); err != nil {
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
	return begin(c, total, found, now, f), nil
}

// dated is a command with its times.
func dated(c command.Command, now time.Time, ttl time.Duration) command.Command {
	c.CreatedAt, c.ExpiresAt = now, now.Add(ttl)
	if !c.NotBefore.IsZero() {
		c.NotBefore = micro(c.NotBefore)
		c.ExpiresAt = c.NotBefore.Add(ttl)
	}
	c.ExpiresAt = micro(c.ExpiresAt)
	return c
}

// begin is a command with its first operations, which has yet to be written and numbered.
func begin(c command.Command, total int, found []command.Candidate, now time.Time, f command.BornFunc) command.Created {
	c.Version = 1
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
	for _, o := range ops {
		o.Changed = c.Version
	}
	return command.Created{Command: c, Operations: ops}
}

var createdColumns = columns(`v_id text, v_tenant text, v_parent text, v_kind text, v_mode text, v_priority bigint, v_selector text,
	v_items text, v_params text, v_age bigint, v_attempts bigint, v_by text, v_name text, v_request text, v_from text, v_trace text, v_created timestamptz, v_before timestamptz,
	v_expires timestamptz, v_expanding boolean, v_to text, v_made bigint, v_running boolean, v_finished timestamptz, v_version bigint,
	v_total bigint, v_sent bigint, v_delivered bigint, v_accepted bigint, v_succeeded bigint, v_failed bigint, v_expired bigint,
	v_cancelled bigint, v_dead bigint`)

// insert writes commands with their first operations, and gives them their numbers.
func (t *tx) insert(made []*command.Created) error {
	in := newInput(createdColumns, len(made))
	for _, m := range made {
		c, n := m.Command, m.Command.Counts
		var params any
		if len(c.Params) > 0 {
			params = string(c.Params)
		}
		in.add(string(c.ID), string(c.Tenant), orNull(c.ParentID), string(c.Kind), string(c.Mode), c.Priority, marshal(c.Selector),
			marshal(c.Items), params, c.MaxAge.Microseconds(), c.Attempts, c.IssuedBy, c.Asked.Name, c.Asked.RequestID,
			c.Asked.RemoteAddr, c.TraceParent, c.CreatedAt, c.NotBefore,
			c.ExpiresAt, c.Expanding, string(c.Expanded), len(m.Operations), c.Running(), c.FinishedAt, c.Version,
			n.Total, n.Sent, n.Delivered, n.Accepted, n.Succeeded, n.Failed, n.Expired, n.Cancelled, n.Dead)
	}
	numbers := make(map[command.ID]int64, len(made))
	err := t.each(func(row scanner) error {
		var id command.ID
		var seq int64
		err := row.Scan(&id, &seq)
		numbers[id] = seq
		return err
	}, `
		INSERT INTO commands (id, tenant, parent_id, kind, mode, priority, selector, items, params, max_age_us, max_attempts,
			issued_by, issued_name, issued_request, issued_from, traceparent, created_at, not_before, expires_at, expanding, expanded_to, made, running, finished_at, version,
			total, sent, delivered, accepted, succeeded, failed, expired, cancelled, dead)
		SELECT v_id, v_tenant, v_parent, v_kind, v_mode, v_priority, v_selector, v_items, v_params, v_age, v_attempts,
			v_by, v_name, v_request, v_from, v_trace, v_created, v_before, v_expires, v_expanding, v_to, v_made, v_running, v_finished, v_version,
			v_total, v_sent, v_delivered, v_accepted, v_succeeded, v_failed, v_expired, v_cancelled, v_dead
		FROM `+t.relation(in.columns, 1)+`
		RETURNING id, seq`, in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("add commands: %w", err)
	}
	var ops []*command.Operation
	for _, m := range made {
		m.Command.Seq = numbers[m.Command.ID]
		for _, o := range m.Operations {
			o.Seq = m.Command.Seq
		}
		ops = append(ops, m.Operations...)
	}
	return t.addOperations(ops)
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
