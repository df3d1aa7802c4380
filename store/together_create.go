package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"meterline/command"
	"meterline/fault"
	"meterline/fleet"
	"meterline/meterread"
)

// createTogether creates a command for a few devices, with those of the same tenant that come at the same moment.
func (db *DB) createTogether(ctx context.Context, c command.Command, ttl time.Duration, key command.Idempotency, first int,
	f command.BornFunc) (command.Created, error) {
	one := &creation{command: c, ttl: ttl, key: key, first: first, born: f,
		lead: make(chan []*creation, 1), done: make(chan struct{})}
	if err := db.creations.join(ctx, one, db.createAll); err != nil {
		return command.Created{}, err
	}
	if one.apart {
		return db.createApart(ctx, c, ttl, key, first, f)
	}
	return one.made, one.err
}

// createAll creates commands of one tenant in one transaction. When that fails before it is to be committed, one of them may be to
// blame: then each goes its own way.
func (db *DB) createAll(ctx context.Context, batch []*creation) {
	var refused error
	err := db.write(ctx, urgent, func(t *tx) error {
		refused = t.createAll(batch)
		return refused
	})
	if err == nil {
		return
	}
	apart := refused != nil && !errors.Is(err, command.ErrUnavailable)
	if ctx.Err() != nil { // of all, not of a caller
		err = fmt.Errorf("%w: %w", command.ErrUnavailable, err)
	}
	for _, one := range batch {
		one.made, one.err, one.apart = command.Created{}, err, apart
	}
}

func (t *tx) createAll(batch []*creation) error {
	tenant := batch[0].command.Tenant
	for _, one := range batch {
		one.made, one.err, one.apart = command.Created{}, nil, false
	}
	keyed, err := t.claimKeys(tenant, batch)
	if err != nil {
		return err
	}
	now, err := t.shareFleetNow(tenant)
	if err != nil {
		return err
	}
	devices, err := t.targetsOfAll(tenant, batch)
	if err != nil {
		return err
	}
	var made []*command.Created
	var free []string // keys of what is refused
	for _, one := range batch {
		if one.apart {
			continue
		}
		one.made, one.err = t.targeted(dated(one.command, now, one.ttl), devices, one.first, now, one.born)
		switch {
		case one.err == nil:
			made = append(made, &one.made)
		case !isInvalid(one.err):
			return one.err
		case keyed[clean(one.key.Key)]:
			free = append(free, clean(one.key.Key))
		}
	}
	if err := t.freeKeys(tenant, free); err != nil || len(made) == 0 {
		return err
	}
	return t.insert(made)
}

func isInvalid(err error) bool {
	var invalid *command.Invalid
	return errors.As(err, &invalid)
}

// targetsOfAll loads the devices that the commands name, as far as the tenant has them.
func (t *tx) targetsOfAll(tenant fleet.Tenant, batch []*creation) (map[meterread.DeviceID]deviceRow, error) {
	var ids []meterread.DeviceID
	for _, one := range batch {
		ids = append(ids, one.command.Selector.DeviceIDs...)
	}
	slices.Sort(ids)
	return t.devicesNamed(tenant, slices.Compact(ids))
}

// targeted is a command that names its devices, on those of them that are there, which has yet to be written.
func (t *tx) targeted(c command.Command, devices map[meterread.DeviceID]deviceRow, first int, now time.Time, f command.BornFunc) (command.Created, error) {
	if err := complaints(c, devices); err != nil {
		return command.Created{}, err
	}
	ids := slices.Clone(c.Selector.DeviceIDs)
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id meterread.DeviceID) bool { return devices[id].CreatedAt.After(now) })
	if len(ids) == 0 {
		return command.Created{}, invalid("/targets", "matches no device")
	}
	found := make([]command.Candidate, min(first, len(ids)))
	for i := range found {
		row := devices[ids[i]]
		d, err := row.device()
		if err != nil {
			return command.Created{}, err
		}
		found[i] = command.Candidate{DeviceID: row.ID, Partition: row.Partition, Info: d.Info()}
	}
	if err := t.stock(c, found); err != nil {
		return command.Created{}, err
	}
	return begin(c, len(ids), found, now, f), nil
}

var idempotencyColumns = columns("v_key text, v_hash bytea, v_command text")

// keyWaitTogether is how long all wait for somebody who takes one of their keys at this moment.
const keyWaitTogether = "100ms"

// claimKeys takes the keys that are free and says which these are. Commands whose keys are not go their own way.
func (t *tx) claimKeys(tenant fleet.Tenant, batch []*creation) (map[string]bool, error) {
	in := newInput(idempotencyColumns, len(batch))
	asked := map[string]bool{}
	var named []*creation
	for _, one := range batch {
		switch k := clean(one.key.Key); {
		case k == "":
		case asked[k]:
			one.apart = true
		default:
			asked[k] = true
			named = append(named, one)
		}
	}
	if len(named) == 0 {
		return nil, nil
	}
	// In order, so that two transactions that take the same ones wait for each other in one direction.
	slices.SortFunc(named, func(a, b *creation) int { return compare(a.key.Key, b.key.Key) })
	for _, one := range named {
		in.add(clean(one.key.Key), one.key.BodyHash, string(one.command.ID))
	}
	if t.postgres {
		if _, err := t.exec(`SET LOCAL lock_timeout = '` + keyWaitTogether + `'`); err != nil {
			return nil, fmt.Errorf("limit the wait: %w", err)
		}
	}
	claimed := map[string]bool{}
	err := t.each(func(row scanner) error {
		var k string
		err := row.Scan(&k)
		claimed[k] = true
		return err
	}, `
		INSERT INTO idempotency (tenant, key, body_hash, command_id, created_at)
		SELECT $1, v_key, `+t.bytesOf("v_hash")+`, v_command, `+t.clock(0)+`
		FROM `+t.relation(in.columns, 2)+`
		WHERE TRUE
		ON CONFLICT (tenant, key) DO NOTHING
		RETURNING key`, in.args(t.dialect, string(tenant))...)
	if err != nil {
		return nil, fmt.Errorf("claim idempotency keys: %w", err)
	}
	for _, one := range named {
		one.apart = !claimed[clean(one.key.Key)] && !fault.Bug(fault.BugKeyIgnored)
	}
	if t.postgres {
		if _, err := t.exec(`SET LOCAL lock_timeout = 0`); err != nil {
			return nil, fmt.Errorf("lift the limit: %w", err)
		}
	}
	return claimed, nil
}

// freeKeys gives keys back that were claimed in this transaction.
func (t *tx) freeKeys(tenant fleet.Tenant, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := t.exec(`DELETE FROM idempotency WHERE tenant = $1 AND `+t.among("key", 2), string(tenant), texts(t.dialect, keys))
	if err != nil {
		return fmt.Errorf("give idempotency keys back: %w", err)
	}
	return nil
}
