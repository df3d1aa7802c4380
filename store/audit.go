package store

import (
	"encoding/json"
	"fmt"
	"time"

	"meterline/fleet"
)

// record enters into the audit log, in the transaction of the change, what by did.
func (t *tx) record(now time.Time, by fleet.Actor, c fleet.Change) error {
	before, err := said(c.Before)
	if err != nil {
		return err
	}
	after, err := said(c.After)
	if err != nil {
		return err
	}
	_, err = t.exec(`
		INSERT INTO audit (id, tenant, at, actor_id, actor_name, action, object_kind, object_id, request_id, remote, before, after)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		newID(), string(by.Tenant), at(now), by.ID, by.Name, string(c.Action), string(c.Kind), c.ID, by.RequestID, by.RemoteAddr,
		before, after)
	if err != nil {
		return fmt.Errorf("enter into the audit log: %w", err)
	}
	return nil
}

// said is what an entry says of an object; nil for nothing.
func said(object any) (any, error) {
	if object == nil {
		return nil, nil
	}
	b, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("write for the audit log: %w", err)
	}
	return string(b), nil
}
