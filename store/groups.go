package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"meterline/fleet"
)

type groupRow struct {
	Name        string
	Description string
	CreatedAt   moment `db:"created_at"`
	Devices     int
}

func (r groupRow) group() fleet.Group {
	return fleet.Group{Name: r.Name, Description: r.Description, Devices: r.Devices, CreatedAt: r.CreatedAt.Time}
}

// groupColumns are what groupRow scans, of groups g.
const groupColumns = `
	g.name, g.description, g.created_at,
	(SELECT count(*) FROM group_members m WHERE m.tenant = g.tenant AND m.group_name = g.name) AS devices`

// CreateGroup adds an empty group; ErrTaken when the tenant has one of that name.
func (db *DB) CreateGroup(ctx context.Context, by fleet.Actor, g fleet.Group) (made fleet.Group, err error) {
	err = db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		n, err := t.exec(`
			INSERT INTO groups (tenant, name, description, created_at)
			VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant, name) DO NOTHING`, string(by.Tenant), g.Name, g.Description, at(now))
		if err != nil {
			return fmt.Errorf("insert group: %w", err)
		}
		if n == 0 {
			return fleet.ErrTaken
		}
		if made, err = t.group(by.Tenant, g.Name); err != nil {
			return err
		}
		return t.record(now, by, fleet.Change{Action: fleet.GroupCreate, Kind: fleet.OnGroup, ID: g.Name, After: made})
	})
	return made, err
}

// UpdateGroup changes the description of a group.
func (db *DB) UpdateGroup(ctx context.Context, by fleet.Actor, name, description string) (g fleet.Group, err error) {
	err = db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		before, err := t.heldGroup(by.Tenant, name)
		if err != nil {
			return err
		}
		_, err = t.exec(`
			UPDATE groups
			SET description = $3
			WHERE tenant = $1 AND name = $2`, string(by.Tenant), name, description)
		if err != nil {
			return fmt.Errorf("update group: %w", err)
		}
		if g, err = t.group(by.Tenant, name); err != nil {
			return err
		}
		return t.record(now, by, fleet.Change{Action: fleet.GroupUpdate, Kind: fleet.OnGroup, ID: name, Before: before, After: g})
	})
	return g, err
}

// DeleteGroup removes a group; its devices stay.
func (db *DB) DeleteGroup(ctx context.Context, by fleet.Actor, name string) error {
	return db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		before, err := t.heldGroup(by.Tenant, name)
		if err != nil {
			return err
		}
		_, err = t.exec(`
			DELETE FROM groups
			WHERE tenant = $1 AND name = $2`, string(by.Tenant), name)
		if err != nil {
			return fmt.Errorf("delete group: %w", err)
		}
		_, err = t.exec(`
			DELETE FROM group_members
			WHERE tenant = $1 AND group_name = $2`, string(by.Tenant), name)
		if err != nil {
			return fmt.Errorf("delete members: %w", err)
		}
		return t.record(now, by, fleet.Change{Action: fleet.GroupDelete, Kind: fleet.OnGroup, ID: name, Before: before})
	})
}

// Group finds one group of the tenant.
func (db *DB) Group(ctx context.Context, tenant fleet.Tenant, name string) (g fleet.Group, err error) {
	err = db.single(ctx, func(t *tx) error {
		g, err = t.group(tenant, name)
		return err
	})
	return g, err
}

// Groups lists groups in order of their names, at most limit after the one given.
func (db *DB) Groups(ctx context.Context, tenant fleet.Tenant, after string, limit int) (gs []fleet.Group, err error) {
	err = db.single(ctx, func(t *tx) error {
		var rows []groupRow
		err := t.list(&rows, `
			SELECT `+groupColumns+`
			FROM groups g
			WHERE g.tenant = $1 AND g.name > $2
			ORDER BY g.name
			LIMIT $3`, string(tenant), after, limit)
		if err != nil {
			return fmt.Errorf("list groups: %w", err)
		}
		gs = make([]fleet.Group, len(rows))
		for i, r := range rows {
			gs[i] = r.group()
		}
		return nil
	})
	return gs, err
}

// AddMembers puts devices into a group; those in it already stay. Nothing is changed when a device is unknown.
func (db *DB) AddMembers(ctx context.Context, by fleet.Actor, group string, ids []fleet.DeviceID) error {
	return db.changeMembers(ctx, by, fleet.GroupAdd, group, ids, func(t *tx) error {
		return t.addMembers(by.Tenant, []string{group}, ids)
	})
}

// RemoveMembers takes devices out of a group; those not in it are no error. Nothing is changed when a device is unknown.
func (db *DB) RemoveMembers(ctx context.Context, by fleet.Actor, group string, ids []fleet.DeviceID) error {
	return db.changeMembers(ctx, by, fleet.GroupRemove, group, ids, func(t *tx) error {
		_, err := t.exec(`
			DELETE FROM group_members
			WHERE tenant = $1 AND group_name = $2 AND `+t.among("device_id", 3), string(by.Tenant), group, texts(t.dialect, ids))
		if err != nil {
			return fmt.Errorf("delete members: %w", err)
		}
		return nil
	})
}

// changeMembers runs change when the group and all devices are the tenant's. They cannot be deleted meanwhile.
func (db *DB) changeMembers(ctx context.Context, by fleet.Actor, as fleet.Action, group string, ids []fleet.DeviceID, change func(*tx) error) error {
	return db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		var known []string
		err = t.list(&known, `
			SELECT id
			FROM devices
			WHERE `+t.among("id", 1)+` AND tenant = $2
			ORDER BY id`+t.lock("FOR KEY SHARE"), texts(t.dialect, ids), string(by.Tenant))
		if err != nil {
			return fmt.Errorf("look for devices: %w", err)
		}
		if err := t.lockGroups(by.Tenant, []string{group}); err != nil {
			if unknown, ok := errors.AsType[*fleet.UnknownGroup](err); ok {
				return fmt.Errorf("find group %s: %w", unknown.Name, fleet.ErrNotFound)
			}
			return err
		}
		if missing := absent(ids, known); len(missing) > 0 {
			return &fleet.UnknownDevices{Indexes: missing}
		}
		if err := change(t); err != nil {
			return err
		}
		return t.record(now, by, fleet.Change{Action: as, Kind: fleet.OnGroup, ID: group, After: fleet.ChangeOfMembers(ids)})
	})
}

// absent is the indexes of ids that are not among known, which is sorted.
func absent(ids []fleet.DeviceID, known []string) (indexes []int) {
	for i, id := range ids {
		if _, found := slices.BinarySearch(known, string(id)); !found {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

// group finds one group of the tenant.
func (t *tx) group(tenant fleet.Tenant, name string) (fleet.Group, error) {
	var r groupRow
	err := t.get(&r, `
		SELECT `+groupColumns+`
		FROM groups g
		WHERE g.tenant = $1 AND g.name = $2`, string(tenant), name)
	if missing(err) {
		return fleet.Group{}, fleet.ErrNotFound
	}
	if err != nil {
		return fleet.Group{}, fmt.Errorf("read group: %w", err)
	}
	return r.group(), nil
}

// heldGroup is group for a change: it stays as it is until the transaction ends.
func (t *tx) heldGroup(tenant fleet.Tenant, name string) (fleet.Group, error) {
	if t.postgres {
		var held string
		err := t.get(&held, `SELECT name FROM groups WHERE tenant = $1 AND name = $2 FOR UPDATE`, string(tenant), name)
		if missing(err) {
			return fleet.Group{}, fleet.ErrNotFound
		}
		if err != nil {
			return fleet.Group{}, fmt.Errorf("lock group: %w", err)
		}
	}
	return t.group(tenant, name)
}

// lockGroups keeps groups from being deleted until the transaction ends; the first that is not there is a
// *fleet.UnknownGroup.
func (t *tx) lockGroups(tenant fleet.Tenant, names []string) error {
	var known []string
	err := t.list(&known, `
		SELECT name
		FROM groups
		WHERE tenant = $1 AND `+t.among("name", 2)+`
		ORDER BY name`+t.lock("FOR KEY SHARE"), string(tenant), texts(t.dialect, names))
	if err != nil {
		return fmt.Errorf("look for groups: %w", err)
	}
	for _, name := range names {
		if _, found := slices.BinarySearch(known, name); !found {
			return &fleet.UnknownGroup{Name: name}
		}
	}
	return nil
}

// setGroups makes d.Groups the groups of the device.
func (t *tx) setGroups(d fleet.Device) error {
	if len(d.Groups) > 0 {
		if err := t.lockGroups(d.Tenant, d.Groups); err != nil {
			return err
		}
	}
	_, err := t.exec(`
		DELETE FROM group_members
		WHERE device_id = $1 AND NOT (`+t.among("group_name", 2)+`)`, string(d.ID), texts(t.dialect, d.Groups))
	if err != nil {
		return fmt.Errorf("leave groups: %w", err)
	}
	return t.addMembers(d.Tenant, d.Groups, []fleet.DeviceID{d.ID})
}

var memberColumns = columns("v_group text, v_device text")

// addMembers puts every one of the devices into every one of the groups.
func (t *tx) addMembers(tenant fleet.Tenant, groups []string, ids []fleet.DeviceID) error {
	in := newInput(memberColumns, len(groups)*len(ids))
	for _, g := range groups {
		for _, id := range ids {
			in.add(g, string(id))
		}
	}
	return t.insertMembers(tenant, in)
}

// insertMembers writes what is in an input of memberColumns and not there yet.
func (t *tx) insertMembers(tenant fleet.Tenant, in *input) error {
	if in.len() == 0 {
		return nil
	}
	_, err := t.exec(`
		INSERT INTO group_members (tenant, group_name, device_id)
		SELECT $1, v_group, v_device
		FROM `+t.relation(memberColumns, 2)+`
		WHERE TRUE
		ORDER BY v_group, v_device
		ON CONFLICT (tenant, group_name, device_id) DO NOTHING`, in.args(t.dialect, string(tenant))...)
	if err != nil {
		return fmt.Errorf("insert members: %w", err)
	}
	return nil
}
