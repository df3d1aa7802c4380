package store

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// fleetChange is what a change of devices means for their operations.
type fleetChange struct {
	gone  []goner        // their open operations are cancelled
	moved []fleet.Device // what has not been sent follows them
}

// goner is a device whose open operations are cancelled, and why.
type goner struct {
	id     fleet.DeviceID
	reason string
}

// add notes what a device's becoming something else means for its operations.
func (c *fleetChange) add(was, is fleet.Device) {
	switch {
	case !is.Enabled:
		if was.Enabled {
			c.gone = append(c.gone, goner{is.ID, "device disabled"})
		}
	case was.EndpointID != is.EndpointID || !bytes.Equal(was.Route, is.Route):
		c.moved = append(c.moved, is)
	}
}

func (c *fleetChange) empty() bool { return len(c.gone) == 0 && len(c.moved) == 0 }

// shareFleet keeps the tenant's devices from being disabled, deleted or moved, as far as operations are concerned, until
// the transaction ends: those that make operations hold it, so that follow misses none.
func (t *tx) shareFleet(tenant fleet.Tenant) error {
	return t.lockFleet("pg_advisory_xact_lock_shared", tenant)
}

// shareFleetNow is shareFleet with the database's clock, read after the waiting.
func (t *tx) shareFleetNow(tenant fleet.Tenant) (time.Time, error) {
	if !t.postgres {
		return t.now()
	}
	var m moment
	err := t.get(&m, `
		WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($1, hashtext($2)))
		SELECT clock_timestamp()
		FROM turn`, t.fleetLock, string(tenant))
	if err != nil {
		return time.Time{}, fmt.Errorf("lock the fleet: %w", err)
	}
	return m.Time, nil
}

func (t *tx) lockFleet(function string, tenant fleet.Tenant) error {
	if !t.postgres {
		return nil
	}
	_, err := t.exec(`SELECT `+function+`($1, hashtext($2))`, t.fleetLock, string(tenant))
	if err != nil {
		return fmt.Errorf("lock the fleet: %w", err)
	}
	return nil
}

// follow brings the open operations of devices that changed in line, and says which commands it touched. The devices' rows
// have been written in this transaction already.
func (t *tx) follow(now time.Time, tenant fleet.Tenant, c fleetChange) ([]string, error) {
	if c.empty() {
		return nil, nil
	}
	if err := t.lockFleet("pg_advisory_xact_lock", tenant); err != nil {
		return nil, err
	}
	touched := map[command.ID]bool{}
	for _, reason := range reasons(c.gone) {
		var ids []fleet.DeviceID
		for _, g := range c.gone {
			if g.reason == reason {
				ids = append(ids, g.id)
			}
		}
		if err := t.cancelDevices(now, tenant, ids, reason, touched); err != nil {
			return nil, err
		}
	}
	for chunk := range slices.Chunk(c.moved, followChunk) {
		if err := t.moveDevices(now, tenant, chunk, touched); err != nil {
			return nil, err
		}
	}
	list := make([]string, 0, len(touched))
	for id := range touched {
		list = append(list, string(id))
	}
	slices.Sort(list)
	return list, nil
}

// followChunk is how many devices, or operations, go into one statement.
const followChunk = 5000

func reasons(gone []goner) []string {
	var list []string
	for _, g := range gone {
		if !slices.Contains(list, g.reason) {
			list = append(list, g.reason)
		}
	}
	return list
}

// cancelDevices cancels the open operations of devices and, where one of them is an IPC, of all that it speaks for.
func (t *tx) cancelDevices(now time.Time, tenant fleet.Tenant, ids []fleet.DeviceID, reason string, touched map[command.ID]bool) error {
	parts := make([]int, 0, len(ids))
	for _, id := range ids {
		parts = append(parts, t.partitionOf(id))
	}
	slices.Sort(parts)
	open, err := t.openOf(now, tenant, ids, slices.Compact(parts))
	if err != nil {
		return err
	}
	if len(open) == 0 {
		return nil
	}
	changes, err := t.endThese(now, open, command.Cancelled, reason)
	for _, c := range changes {
		touched[c.Command.ID] = true
	}
	return err
}

// openOf lists and locks the open operations of devices, and of those that the devices speak for, in order of their keys,
// but for those that have expired already.
func (t *tx) openOf(now time.Time, tenant fleet.Tenant, ids []fleet.DeviceID, parts []int) ([]held, error) {
	open, err := t.heldBy(`
		WHERE open AND tenant = $1 AND expires_at > $4
			AND (command_id, device_id) IN (
				SELECT command_id, device_id FROM operations WHERE open AND tenant = $1 AND `+t.among("device_id", 2)+`
				UNION
				SELECT command_id, device_id FROM operations WHERE outcome IS NULL AND `+t.among("endpoint_id", 2)+` AND `+t.amongInts("partition", 3)+`)
		`, string(tenant), texts(t.dialect, ids), ints(t.dialect, parts), timeText(now))
	if err != nil {
		return nil, fmt.Errorf("look for open operations: %w", err)
	}
	return open, nil
}

var followColumns = columns("v_device text, v_endpoint text, v_partition bigint, v_info text")

// moveDevices lets what is queued for devices follow them.
func (t *tx) moveDevices(now time.Time, tenant fleet.Tenant, devices []fleet.Device, touched map[command.ID]bool) error {
	in := newInput(followColumns, len(devices))
	ids := make([]meterread.DeviceID, len(devices))
	for i, d := range devices {
		ids[i] = d.ID
		in.add(string(d.ID), string(d.EndpointID), t.partitionOf(d.EndpointID), marshal(d.Info()))
	}
	queued, err := t.heldBy(`
		WHERE open AND tenant = $1 AND `+t.among("device_id", 2)+` AND state = 'queued'`, string(tenant), texts(t.dialect, ids))
	if err != nil {
		return fmt.Errorf("look for queued operations: %w", err)
	}
	if len(queued) == 0 {
		return nil
	}
	d := deltas{}
	for _, h := range queued {
		d.of(h.CommandID)
		touched[h.CommandID] = true
	}
	cs, err := t.count(now, d)
	if err != nil {
		return err
	}
	for _, c := range cs {
		_, err := t.exec(`
			UPDATE operations
			SET endpoint_id = v_endpoint, partition = v_partition, device = v_info, version = version + 1, changed = $2
			FROM `+t.relation(in.columns, 3)+`
			WHERE command_id = $1 AND device_id = v_device AND open AND state = 'queued'`, in.args(t.dialect, string(c.ID), c.Version)...)
		if err != nil {
			return fmt.Errorf("move operations: %w", err)
		}
	}
	return nil
}
