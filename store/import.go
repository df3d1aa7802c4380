package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"meterline/fleet"
)

const (
	importRows = 2000 // per statement
	// aheadLimit is how many IPCs may be named before they are defined: all of them are kept in memory.
	aheadLimit = 200_000
)

// Import writes all rows or none. What next brings is put aside before the transaction begins, so a slow caller keeps
// nobody waiting. Rows are taken in order: a device that is named twice is created and then updated. The groups of a row
// are made where they are missing and the device is added to them; it leaves none. Complaints are *fleet.RowError, of
// which the first is answered.
func (db *DB) Import(ctx context.Context, by fleet.Actor, next func() ([]fleet.ImportRow, error)) (done fleet.Imported, err error) {
	s := &spool{}
	defer s.close()
	for {
		rows, err := next()
		if err != nil {
			return done, err
		}
		if rows == nil {
			break
		}
		if err := s.add(rows); err != nil {
			return done, err
		}
		if err := ctx.Err(); err != nil {
			return done, err
		}
	}
	err = db.write(ctx, bulk, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		im := &importing{tx: t, tenant: by.Tenant, now: now, ahead: map[fleet.DeviceID]int{}, groups: map[string]bool{}}
		if err := s.each(importRows, im.take); err != nil {
			return err
		}
		if err := im.finish(); err != nil {
			return err
		}
		done = im.done
		return t.record(now, by, fleet.Change{Action: fleet.DeviceImport, Kind: fleet.OnDevice, After: fleet.ImportChange{Created: done.Created, Updated: done.Updated}})
	})
	if err != nil {
		return fleet.Imported{}, err
	}
	return done, nil
}

// importing is one run of an import's transaction.
type importing struct {
	*tx
	tenant fleet.Tenant
	now    time.Time
	done   fleet.Imported
	ahead  map[fleet.DeviceID]int // endpoints that are no IPCs of the tenant so far → the line that named them first
	groups map[string]bool        // that are there
	gone   []goner                // devices whose operations are cancelled in the end
	moved  []fleet.DeviceID       // devices whose operations follow them in the end
}

// take writes rows. A statement cannot write a device twice, so they are cut before a device that is in the part already.
func (im *importing) take(rows []fleet.ImportRow) error {
	seen := make(map[fleet.DeviceID]bool, len(rows))
	start := 0
	for i, r := range rows {
		if seen[r.Device.ID] {
			if err := im.takePart(rows[start:i]); err != nil {
				return err
			}
			clear(seen)
			start = i
		}
		seen[r.Device.ID] = true
	}
	return im.takePart(rows[start:])
}

// takePart writes rows of different devices.
func (im *importing) takePart(rows []fleet.ImportRow) error {
	for i := range rows {
		rows[i].Device = normal(rows[i].Device)
	}
	existing, err := im.existing(rows)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := im.compare(r, existing); err != nil {
			return err
		}
	}
	if len(existing) > 0 {
		if err := im.revoke(rows); err != nil {
			return err
		}
	}
	if err := im.upsert(rows); err != nil {
		return err
	}
	im.done.Created += len(rows) - len(existing)
	im.done.Updated += len(existing)
	if err := im.checkEndpoints(rows); err != nil {
		return err
	}
	return im.join(rows)
}

// existing loads and locks the devices that are there already, of whatever tenant.
func (im *importing) existing(rows []fleet.ImportRow) (map[fleet.DeviceID]fleet.Device, error) {
	ids := make([]fleet.DeviceID, len(rows))
	for i, r := range rows {
		ids[i] = r.Device.ID
	}
	var found []deviceRow
	err := im.list(&found, `
		SELECT `+deviceColumns+`
		FROM devices
		WHERE `+im.among("id", 1)+`
		ORDER BY id`+im.lock("FOR NO KEY UPDATE"), texts(im.dialect, ids))
	if err != nil {
		return nil, fmt.Errorf("look for devices: %w", err)
	}
	existing := make(map[fleet.DeviceID]fleet.Device, len(found))
	for _, r := range found {
		d, err := r.device()
		if err != nil {
			return nil, err
		}
		existing[d.ID] = d
	}
	return existing, nil
}

// compare looks at what a row makes of the device that is there already, if one is.
func (im *importing) compare(r fleet.ImportRow, existing map[fleet.DeviceID]fleet.Device) error {
	before, exists := existing[r.Device.ID]
	switch {
	case !exists:
		return nil
	case before.Tenant != im.tenant:
		return &fleet.RowError{Line: r.Line, Field: "id", Detail: "is taken"}
	case before.Kind != r.Device.Kind:
		return &fleet.RowError{Line: r.Line, Field: "kind", Detail: "is " + string(before.Kind) + " and cannot be changed"}
	}
	var change fleetChange
	change.add(before, r.Device)
	im.gone = append(im.gone, change.gone...)
	if len(change.moved) > 0 {
		im.moved = append(im.moved, before.ID)
	}
	return nil
}

var revokeColumns = columns(`v_id text, v_enabled boolean, v_mac bytea`)

// revoke notes, before rows are written, whom they take something back from: for gateways.
func (im *importing) revoke(rows []fleet.ImportRow) error {
	in := newInput(revokeColumns, len(rows))
	for _, r := range rows {
		in.add(string(r.Device.ID), r.Device.Enabled, r.MAC)
	}
	_, err := im.exec(`
		INSERT INTO revocations (device_id, revoked_at)
		SELECT d.id, $1
		FROM `+im.relation(revokeColumns, 2)+`
		JOIN devices AS d ON d.id = v_id
		WHERE d.kind <> 'meter' AND d.enabled AND d.secret_mac IS NOT NULL
			AND (NOT v_enabled OR `+im.bytesOf("v_mac")+` <> d.secret_mac)`,
		in.args(im.dialect, at(im.now))...)
	if err != nil {
		return fmt.Errorf("note revocations: %w", err)
	}
	return nil
}

var importColumns = columns(`v_id text, v_name text, v_kind text, v_endpoint text, v_partition bigint, v_route text, v_tags text,
	v_enabled boolean, v_mac bytea`)

// upsert writes rows in one statement. A device that another tenant, or another kind, took since they were looked at is
// not written, and the transaction runs again to say so.
func (im *importing) upsert(rows []fleet.ImportRow) error {
	in := newInput(importColumns, len(rows))
	for _, r := range rows {
		d := r.Device
		in.add(string(d.ID), d.Name, string(d.Kind), string(d.EndpointID), im.partitionOf(d.EndpointID), string(d.Route),
			marshal(d.Tags), d.Enabled, r.MAC)
	}
	n, err := im.exec(`
		INSERT INTO devices (id, tenant, name, kind, endpoint_id, partition, route, tags, enabled, secret_mac, created_at, updated_at)
		SELECT v_id, $1, v_name, v_kind, v_endpoint, v_partition, v_route, `+im.jsonOf("v_tags")+`, v_enabled, `+im.bytesOf("v_mac")+`, $2, $2
		FROM `+im.relation(importColumns, 3)+`
		WHERE TRUE
		ORDER BY v_id
		ON CONFLICT (id) DO UPDATE
		SET name = excluded.name, endpoint_id = excluded.endpoint_id, partition = excluded.partition, route = excluded.route,
			tags = excluded.tags, enabled = excluded.enabled, secret_mac = COALESCE(excluded.secret_mac, devices.secret_mac),
			updated_at = excluded.updated_at
		WHERE devices.tenant = excluded.tenant AND devices.kind = excluded.kind`,
		in.args(im.dialect, string(im.tenant), at(im.now))...)
	if err != nil {
		return fmt.Errorf("write devices: %w", err)
	}
	if n != len(rows) {
		return errAgain
	}
	return nil
}

// checkEndpoints notes the endpoints of meters that are not IPCs of the tenant yet, and forgets those that have become so.
func (im *importing) checkEndpoints(rows []fleet.ImportRow) error {
	named := map[fleet.DeviceID]int{} // endpoint → the first line that names it
	for _, r := range rows {
		switch r.Device.Kind {
		case fleet.IPC:
			delete(im.ahead, r.Device.ID)
		case fleet.Meter:
			if _, twice := named[r.Device.EndpointID]; !twice {
				named[r.Device.EndpointID] = r.Line
			}
		}
	}
	if len(named) == 0 {
		return nil
	}
	found, err := im.ipcs(slices.Sorted(maps.Keys(named)))
	if err != nil {
		return err
	}
	for _, id := range found {
		delete(named, id)
	}
	for endpoint, line := range named {
		if _, noted := im.ahead[endpoint]; !noted {
			im.ahead[endpoint] = line
		}
	}
	if len(im.ahead) > aheadLimit {
		return &fleet.RowError{Line: rows[len(rows)-1].Line, Field: "endpoint_id",
			Detail: fmt.Sprintf("more than %d IPCs are named before they are given: put IPCs first", aheadLimit)}
	}
	return nil
}

// ipcs lists those of ids that are IPCs of the tenant, and keeps them from being deleted until the transaction ends.
func (im *importing) ipcs(ids []fleet.DeviceID) (found []fleet.DeviceID, err error) {
	err = im.list(&found, `
		SELECT id
		FROM devices
		WHERE `+im.among("id", 1)+` AND tenant = $2 AND kind = 'ipc'
		ORDER BY id`+im.lock("FOR KEY SHARE"), texts(im.dialect, ids), string(im.tenant))
	if err != nil {
		return nil, fmt.Errorf("look for IPCs: %w", err)
	}
	return found, nil
}

var nameColumns = columns("v_name text")

// join makes the groups that are missing and puts the devices into theirs.
func (im *importing) join(rows []fleet.ImportRow) error {
	made, members := newInput(nameColumns, 0), newInput(memberColumns, len(rows))
	var names []string
	for _, r := range rows {
		for _, g := range r.Device.Groups {
			if !im.groups[g] {
				im.groups[g] = true
				names = append(names, g)
				made.add(g)
			}
			members.add(g, string(r.Device.ID))
		}
	}
	if made.len() > 0 {
		_, err := im.exec(`
			INSERT INTO groups (tenant, name, description, created_at)
			SELECT $1, v_name, '', $2
			FROM `+im.relation(nameColumns, 3)+`
			WHERE TRUE
			ORDER BY v_name
			ON CONFLICT (tenant, name) DO NOTHING`, made.args(im.dialect, string(im.tenant), at(im.now))...)
		if err != nil {
			return fmt.Errorf("make groups: %w", err)
		}
		err = im.lockGroups(im.tenant, names)
		if _, gone := errors.AsType[*fleet.UnknownGroup](err); gone { // deleted between the two statements
			return errAgain
		}
		if err != nil {
			return err
		}
	}
	return im.insertMembers(im.tenant, members)
}

// finish checks what had to wait for the last row, and brings the open operations of devices that changed in line.
func (im *importing) finish() error {
	if len(im.ahead) > 0 {
		return &fleet.RowError{Line: slices.Min(slices.Collect(maps.Values(im.ahead))), Field: "endpoint_id",
			Detail: "must be an IPC of the same tenant, there already or in the import"}
	}
	if err := im.settle(fleetChange{gone: im.gone}); err != nil {
		return err
	}
	for part := range slices.Chunk(im.moved, followChunk) {
		devices, err := im.devicesByID(part)
		if err != nil {
			return err
		}
		if err := im.settle(fleetChange{moved: slices.Collect(maps.Values(devices))}); err != nil {
			return err
		}
	}
	return nil
}

// settle brings open operations in line with a change, and notes the commands it touched.
func (im *importing) settle(c fleetChange) error {
	touched, err := im.follow(im.now, im.tenant, c)
	im.done.Touched = append(im.done.Touched, touched...)
	return err
}
