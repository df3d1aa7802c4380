package store

import (
	"context"
	"fmt"

	"meterline/fleet"
)

// Credentials lists what gateways need to admit endpoints: of the ids, those direct devices and IPCs that have a secret,
// in no order. Disabled ones are among them and say so.
func (db *DB) Credentials(ctx context.Context, ids []fleet.DeviceID) (cs []fleet.Credential, err error) {
	err = db.single(ctx, func(t *tx) error {
		var rows []struct {
			ID      string
			Tenant  string
			Kind    string
			Enabled bool
			MAC     []byte `db:"secret_mac"`
		}
		err := t.list(&rows, `
			SELECT id, tenant, kind, enabled, secret_mac
			FROM devices
			WHERE `+t.among("id", 1)+` AND kind <> 'meter' AND secret_mac IS NOT NULL`, texts(t.dialect, ids))
		if err != nil {
			return fmt.Errorf("read credentials: %w", err)
		}
		cs = make([]fleet.Credential, len(rows))
		for i, r := range rows {
			cs[i] = fleet.Credential{DeviceID: fleet.DeviceID(r.ID), Tenant: fleet.Tenant(r.Tenant), Kind: fleet.Kind(r.Kind),
				Enabled: r.Enabled, MAC: r.MAC}
		}
		return nil
	})
	return cs, err
}
