package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"meterline/command"
	"meterline/fault"
	"meterline/fleet"
	"meterline/meterread"
)

// deviceColumns are those of deviceRow, of the table devices without an alias.
const deviceColumns = `id, tenant, name, kind, endpoint_id, partition, route, tags, enabled, created_at, updated_at`

type deviceRow struct {
	ID         meterread.DeviceID `db:"id"`
	Tenant     fleet.Tenant       `db:"tenant"`
	Name       string             `db:"name"`
	Kind       fleet.Kind         `db:"kind"`
	EndpointID meterread.DeviceID `db:"endpoint_id"`
	Partition  int                `db:"partition"`
	Route      string             `db:"route"`
	Tags       string             `db:"tags"`
	Enabled    bool               `db:"enabled"`
	CreatedAt  moment             `db:"created_at"`
	UpdatedAt  moment             `db:"updated_at"`
	LastReadAt moment             `db:"last_read_at"` // only in lists
}

func (r deviceRow) device() (fleet.Device, error) {
	d := fleet.Device{
		ID: r.ID, Tenant: r.Tenant, Name: r.Name, Kind: r.Kind, EndpointID: r.EndpointID, Route: json.RawMessage(r.Route),
		Enabled: r.Enabled, CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time, LastReadAt: r.LastReadAt.pointer(),
		Groups: []string{},
	}
	if err := json.Unmarshal([]byte(r.Tags), &d.Tags); err != nil {
		return d, fmt.Errorf("read tags of device %s: %w", r.ID, err)
	}
	return d, nil
}

// normal is d as it is kept: an endpoint that is itself unless it is a meter, a route and tags that are never null.
func normal(d fleet.Device) fleet.Device {
	if d.Kind != fleet.Meter {
		d.EndpointID = d.ID
	}
	if len(bytes.TrimSpace(d.Route)) == 0 || string(bytes.TrimSpace(d.Route)) == "null" {
		d.Route = json.RawMessage("[]")
	}
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	clear := make(map[string]string, len(d.Tags))
	for k, v := range d.Tags {
		clear[clean(k)] = clean(v) // jsonb takes no NUL, not even escaped
	}
	d.Tags = clear
	return d
}

// CreateDevice implements fleet.Registry: it adds d and puts it into d.Groups, which must be there: *fleet.UnknownGroup.
func (db *DB) CreateDevice(ctx context.Context, by fleet.Actor, d fleet.Device, mac []byte) (fleet.Device, error) {
	d = normal(d)
	var made fleet.Device
	err := db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		if err := t.hasIPC(d); err != nil {
			return err
		}
		n, err := t.exec(`
			INSERT INTO devices (id, tenant, name, kind, endpoint_id, partition, route, tags, enabled, secret_mac, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
			ON CONFLICT (id) DO NOTHING`,
			string(d.ID), string(d.Tenant), d.Name, string(d.Kind), string(d.EndpointID), t.partitionOf(d.EndpointID),
			string(d.Route), marshal(d.Tags), d.Enabled, mac, at(now))
		if err != nil {
			return err
		}
		if n == 0 {
			return fleet.ErrTaken
		}
		if err := t.setGroups(d); err != nil {
			return err
		}
		if made, err = t.device(d.Tenant, d.ID); err != nil {
			return err
		}
		return t.record(now, by, fleet.Change{Action: fleet.DeviceCreate, Kind: fleet.OnDevice, ID: string(d.ID), After: made})
	})
	if err != nil {
		return fleet.Device{}, fmt.Errorf("create device: %w", err)
	}
	return made, nil
}

func (db *DB) partitionOf(endpoint meterread.DeviceID) int {
	return fleet.Partition(endpoint, db.partitions)
}

// hasIPC is fleet.ErrNotFound for a meter whose IPC its tenant does not have. The IPC stays until the transaction ends.
func (t *tx) hasIPC(d fleet.Device) error {
	if d.Kind != fleet.Meter {
		return nil
	}
	err := t.get(new(string), `
		SELECT id
		FROM devices
		WHERE id = $1 AND tenant = $2 AND kind = 'ipc'`+t.lock("FOR KEY SHARE"), string(d.EndpointID), string(d.Tenant))
	if missing(err) {
		return fmt.Errorf("its IPC: %w", fleet.ErrNotFound)
	}
	return err
}

// Device implements fleet.Registry.
func (db *DB) Device(ctx context.Context, tenant fleet.Tenant, id fleet.DeviceID) (d fleet.Device, err error) {
	err = db.single(ctx, func(t *tx) error {
		d, err = t.device(tenant, id)
		return err
	})
	if err != nil {
		return fleet.Device{}, fmt.Errorf("read device: %w", err)
	}
	return d, nil
}

// device loads one device with its groups; fleet.ErrNotFound when it is not the tenant's.
func (t *tx) device(tenant fleet.Tenant, id fleet.DeviceID) (fleet.Device, error) {
	of := ` AND tenant = $2`
	if fault.Bug(fault.BugAnyTenant) {
		of = ` AND $2 <> ''`
	}
	ds, err := t.findDevices(`WHERE id = $1`+of, string(id), string(tenant))
	if err != nil {
		return fleet.Device{}, err
	}
	if len(ds) == 0 {
		return fleet.Device{}, fleet.ErrNotFound
	}
	return ds[0], nil
}

// Owns implements command.Book.
func (db *DB) Owns(ctx context.Context, tenant fleet.Tenant, d meterread.DeviceID) error {
	var n int
	err := db.single(ctx, func(t *tx) error {
		return t.get(&n, `SELECT count(*) FROM devices WHERE id = $1 AND tenant = $2`, string(d), string(tenant))
	})
	if err != nil {
		return fmt.Errorf("look for device: %w", err)
	}
	if n == 0 {
		return command.ErrNotFound
	}
	return nil
}

// errKindFixed is about a device that would become one of another kind: its credentials and its place would be wrong.
var errKindFixed = errors.New("the kind of a device cannot be changed")

// UpdateDevice implements fleet.Registry. d.Groups become its groups; they must be there: *fleet.UnknownGroup. Its kind
// and its secret stay.
func (db *DB) UpdateDevice(ctx context.Context, by fleet.Actor, d fleet.Device) (updated fleet.Device, touched []string, err error) {
	d = normal(d)
	err = db.write(ctx, urgent, func(t *tx) error {
		updated, touched, err = t.updateDevice(by, d)
		return err
	})
	if err != nil {
		return fleet.Device{}, nil, fmt.Errorf("update device: %w", err)
	}
	return updated, touched, nil
}

func (t *tx) updateDevice(by fleet.Actor, d fleet.Device) (fleet.Device, []string, error) {
	now, err := t.now()
	if err != nil {
		return fleet.Device{}, nil, err
	}
	was, err := t.lockDevice(d.Tenant, d.ID)
	if err != nil {
		return fleet.Device{}, nil, err
	}
	if was.Kind != d.Kind {
		return fleet.Device{}, nil, errKindFixed
	}
	before, err := t.device(d.Tenant, d.ID)
	if err != nil {
		return fleet.Device{}, nil, err
	}
	if was.EndpointID != d.EndpointID {
		if err := t.hasIPC(d); err != nil {
			return fleet.Device{}, nil, err
		}
	}
	_, err = t.exec(`
		UPDATE devices
		SET name = $2, endpoint_id = $3, partition = $4, route = $5, tags = $6, enabled = $7, updated_at = $8
		WHERE id = $1`,
		string(d.ID), d.Name, string(d.EndpointID), t.partitionOf(d.EndpointID), string(d.Route), marshal(d.Tags),
		d.Enabled, at(now))
	if err != nil {
		return fleet.Device{}, nil, err
	}
	if err := t.setGroups(d); err != nil {
		return fleet.Device{}, nil, err
	}
	if was.Enabled && !d.Enabled && d.Kind != fleet.Meter {
		if err := t.revokeDevice(now, d.ID); err != nil {
			return fleet.Device{}, nil, err
		}
	}
	var changed fleetChange
	changed.add(was, d)
	touched, err := t.follow(now, d.Tenant, changed)
	if err != nil {
		return fleet.Device{}, nil, err
	}
	updated, err := t.device(d.Tenant, d.ID)
	if err != nil {
		return fleet.Device{}, nil, err
	}
	return updated, touched, t.record(now, by, fleet.Change{Action: fleet.DeviceUpdate, Kind: fleet.OnDevice, ID: string(d.ID), Before: before, After: updated})
}

// lockDevice loads a device for a change; fleet.ErrNotFound when it is not the tenant's.
func (t *tx) lockDevice(tenant fleet.Tenant, id fleet.DeviceID) (fleet.Device, error) {
	var row deviceRow
	err := t.get(&row, `
		SELECT `+deviceColumns+`
		FROM devices
		WHERE id = $1 AND tenant = $2`+t.lock("FOR UPDATE"), string(id), string(tenant))
	if missing(err) {
		return fleet.Device{}, fleet.ErrNotFound
	}
	if err != nil {
		return fleet.Device{}, err
	}
	return row.device()
}

// DeleteDevice implements fleet.Registry. What the device has read stays.
func (db *DB) DeleteDevice(ctx context.Context, by fleet.Actor, id fleet.DeviceID) (touched []string, err error) {
	err = db.write(ctx, urgent, func(t *tx) error {
		touched, err = t.deleteDevice(by, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("delete device: %w", err)
	}
	return touched, nil
}

func (t *tx) deleteDevice(by fleet.Actor, id fleet.DeviceID) ([]string, error) {
	now, err := t.now()
	if err != nil {
		return nil, err
	}
	if _, err := t.lockDevice(by.Tenant, id); err != nil {
		return nil, err
	}
	was, err := t.device(by.Tenant, id)
	if err != nil {
		return nil, err
	}
	var meters int
	if err := t.get(&meters, `SELECT count(*) FROM devices WHERE endpoint_id = $1 AND id <> $1`, string(id)); err != nil {
		return nil, err
	}
	if meters > 0 {
		return nil, fleet.ErrInUse
	}
	for _, from := range []string{
		`DELETE FROM devices WHERE id = $1`, `DELETE FROM group_members WHERE device_id = $1`, `DELETE FROM device_reads WHERE device_id = $1`,
	} {
		if _, err := t.exec(from, string(id)); err != nil {
			return nil, err
		}
	}
	if was.Kind != fleet.Meter {
		if err := t.revokeDevice(now, id); err != nil {
			return nil, err
		}
	}
	if err := t.record(now, by, fleet.Change{Action: fleet.DeviceDelete, Kind: fleet.OnDevice, ID: string(id), Before: was}); err != nil {
		return nil, err
	}
	return t.follow(now, by.Tenant, fleetChange{gone: []goner{{id, "device deleted"}}})
}

// SetSecret implements fleet.Registry; ErrNotFound for a meter too, which has no secret.
func (db *DB) SetSecret(ctx context.Context, by fleet.Actor, id fleet.DeviceID, mac []byte) error {
	err := db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		n, err := t.exec(`
			UPDATE devices
			SET secret_mac = $3, updated_at = $4
			WHERE id = $1 AND tenant = $2 AND kind <> 'meter'`,
			string(id), string(by.Tenant), mac, at(now))
		switch {
		case err != nil:
			return err
		case n == 0:
			return fleet.ErrNotFound
		}
		if err := t.record(now, by, fleet.Change{Action: fleet.DeviceCredentials, Kind: fleet.OnDevice, ID: string(id)}); err != nil {
			return err
		}
		return t.revokeDevice(now, id)
	})
	if err != nil {
		return fmt.Errorf("set secret: %w", err)
	}
	return nil
}
