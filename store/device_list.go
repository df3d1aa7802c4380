package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"meterline/fleet"
)

// Devices implements fleet.Registry. Letters outside ASCII match whatever their case where the database knows their cases.
func (db *DB) Devices(ctx context.Context, tenant fleet.Tenant, f fleet.DeviceFilter, after fleet.DeviceID, limit int) ([]fleet.Device, error) {
	w := deviceWhere(db.dialect, tenant, f, after)
	var ds []fleet.Device
	err := db.search(ctx, func(t *tx) (err error) {
		ds, err = t.findDevices(w.sql()+`
			ORDER BY id
			LIMIT `+w.param(limit), w.args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return ds, nil
}

// findDevices loads devices with their groups, in two statements however many they are. rest is what follows the FROM
// clause, about devices left joined with device_reads.
func (t *tx) findDevices(rest string, args ...any) ([]fleet.Device, error) {
	var rows []deviceRow
	err := t.list(&rows, `
		SELECT `+deviceColumns+`, last_read_at
		FROM devices
		LEFT JOIN device_reads ON device_id = id
		`+rest, args...)
	if err != nil {
		return nil, fmt.Errorf("load devices: %w", err)
	}
	ds := make([]fleet.Device, len(rows))
	for i, r := range rows {
		if ds[i], err = r.device(); err != nil {
			return nil, err
		}
	}
	return ds, t.loadGroups(ds)
}

// loadGroups fills in the groups of devices, in order of their names.
func (t *tx) loadGroups(ds []fleet.Device) error {
	if len(ds) == 0 {
		return nil
	}
	ids := make([]fleet.DeviceID, len(ds))
	place := make(map[fleet.DeviceID]int, len(ds))
	for i, d := range ds {
		ids[i], place[d.ID] = d.ID, i
	}
	err := t.each(func(row scanner) error {
		var id fleet.DeviceID
		var group string
		if err := row.Scan(&id, &group); err != nil {
			return err
		}
		d := &ds[place[id]]
		d.Groups = append(d.Groups, group)
		return nil
	}, `
		SELECT device_id, group_name
		FROM group_members
		WHERE `+t.among("device_id", 1), texts(t.dialect, ids))
	if err != nil {
		return fmt.Errorf("load groups of devices: %w", err)
	}
	for _, d := range ds {
		slices.Sort(d.Groups)
	}
	return nil
}

// deviceWhere says in SQL which devices of the tenant come after an id and match f.
func deviceWhere(d dialect, tenant fleet.Tenant, f fleet.DeviceFilter, after fleet.DeviceID) *where {
	w := &where{}
	w.and("tenant = %s", string(tenant))
	w.and("id > %s", string(after))
	if f.Q != "" {
		q := w.param("%" + likeText(f.Q) + "%")
		w.conditions = append(w.conditions, `(lower(id) LIKE lower(`+q+`) ESCAPE '\' OR lower(name) LIKE lower(`+q+`) ESCAPE '\')`)
	}
	if len(f.Tags) > 0 {
		w.param(marshal(f.Tags))
		w.conditions = append(w.conditions, d.tagged("tags", len(w.args)))
	}
	if f.Group != "" {
		w.and("id IN (SELECT device_id FROM group_members WHERE tenant = %s AND group_name = %s)", string(tenant), f.Group)
	}
	if f.Kind != "" {
		w.and("kind = %s", string(f.Kind))
	}
	if f.EndpointID != "" {
		w.and("endpoint_id = %s", string(f.EndpointID))
	}
	if !f.NotReadSince.IsZero() {
		w.and("(last_read_at IS NULL OR last_read_at < %s)", at(f.NotReadSince))
	}
	if f.OnlyEndpoints != nil {
		w.param(texts(d, f.OnlyEndpoints))
		within := d.among("endpoint_id", len(w.args))
		if !f.Online {
			within = "NOT (" + within + ")"
		}
		w.conditions = append(w.conditions, within)
	}
	return w
}

// likeText is s as LIKE takes it literally, with \ as the escape character.
func likeText(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}
