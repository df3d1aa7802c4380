package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

var letterColumns = columns(`v_id text, v_tenant text, v_source text, v_cause text, v_detail text, v_endpoint text, v_device text,
	v_command text, v_kind text, v_payload bytea, v_key text, v_created timestamptz`)

// newID is an id that sorts by the time it was made.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// storeLetters keeps dead letters; one whose key is there already is the same.
func (t *tx) storeLetters(now time.Time, letters []command.DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	in := newInput(letterColumns, len(letters))
	for _, l := range letters {
		if l.ID == "" {
			l.ID = newID()
		}
		if l.Key == "" {
			l.Key = l.ID
		}
		if l.CreatedAt.IsZero() {
			l.CreatedAt = now
		}
		in.add(l.ID, string(l.Tenant), l.Source, l.Cause, l.Detail, string(l.EndpointID), string(l.DeviceID), string(l.CommandID),
			string(l.Kind), l.Payload, l.Key, l.CreatedAt)
	}
	_, err := t.exec(`
		INSERT INTO dead_letters (id, tenant, source, cause, detail, endpoint_id, device_id, command_id, kind, payload, key,
			created_at, status)
		SELECT v_id, v_tenant, v_source, v_cause, v_detail, v_endpoint, v_device, v_command, v_kind, `+t.bytesOf("v_payload")+`, v_key,
			v_created, 'open'
		FROM `+t.relation(in.columns, 1)+`
		WHERE TRUE
		ON CONFLICT (key) DO NOTHING`, in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("keep dead letters: %w", err)
	}
	return nil
}

var eventColumns = columns(`v_id text, v_tenant text, v_endpoint text, v_device text, v_type text, v_at timestamptz,
	v_received timestamptz, v_data text, v_key text`)

// storeEvents keeps events; one whose key is there already, of the same endpoint, is the same.
func (t *tx) storeEvents(now time.Time, events []command.Event) error {
	if len(events) == 0 {
		return nil
	}
	in := newInput(eventColumns, len(events))
	for _, e := range events {
		if e.ID == "" {
			e.ID = newID()
		}
		if e.Key == "" {
			e.Key = e.ID
		}
		if e.ReceivedAt.IsZero() {
			e.ReceivedAt = now
		}
		if e.At.IsZero() {
			e.At = e.ReceivedAt
		}
		if len(e.Data) == 0 {
			e.Data = json.RawMessage("{}")
		}
		in.add(e.ID, string(e.Tenant), string(e.EndpointID), string(e.DeviceID), e.Type, e.At, e.ReceivedAt, string(e.Data), e.Key)
	}
	_, err := t.exec(`
		INSERT INTO events (id, tenant, endpoint_id, device_id, type, at, received_at, data, key)
		SELECT v_id, v_tenant, v_endpoint, v_device, v_type, v_at, v_received, v_data, v_key
		FROM `+t.relation(in.columns, 1)+`
		WHERE TRUE
		ON CONFLICT (endpoint_id, key) DO NOTHING`, in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("keep events: %w", err)
	}
	return nil
}

// DeadLetter implements command.Book.
func (db *DB) DeadLetter(ctx context.Context, tenant fleet.Tenant, id string) (command.DeadLetter, error) {
	var row letterRow
	err := db.single(ctx, func(t *tx) error {
		return t.get(&row, `
			SELECT `+letterNames+`
			FROM dead_letters
			WHERE tenant = $1 AND id = $2`, string(tenant), id)
	})
	if missing(err) {
		return command.DeadLetter{}, command.ErrNotFound
	}
	if err != nil {
		return command.DeadLetter{}, fmt.Errorf("read dead letter: %w", err)
	}
	return row.letter(), nil
}

// DecideDeadLetter implements command.Book.
func (db *DB) DecideDeadLetter(ctx context.Context, tenant fleet.Tenant, id, status, by string, made command.ID) error {
	err := db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		n, err := t.exec(`
			UPDATE dead_letters
			SET status = $3, decided_by = $4, decided_at = $5, new_command_id = $6
			WHERE tenant = $1 AND id = $2 AND status = 'open'`,
			string(tenant), id, status, by, at(now), string(made))
		if err != nil || n > 0 {
			return err
		}
		var there int
		if err := t.get(&there, `SELECT count(*) FROM dead_letters WHERE tenant = $1 AND id = $2`, string(tenant), id); err != nil {
			return err
		}
		if there == 0 {
			return command.ErrNotFound
		}
		return command.ErrAlreadyDecided
	})
	if err != nil {
		return fmt.Errorf("decide dead letter: %w", err)
	}
	return nil
}

const letterNames = `id, tenant, source, cause, detail, endpoint_id, device_id, command_id, kind, payload, created_at, status, decided_by,
	decided_at, new_command_id`

type letterRow struct {
	ID         string `db:"id"`
	Tenant     string `db:"tenant"`
	Source     string `db:"source"`
	Cause      string `db:"cause"`
	Detail     string `db:"detail"`
	EndpointID string `db:"endpoint_id"`
	DeviceID   string `db:"device_id"`
	CommandID  string `db:"command_id"`
	Kind       string `db:"kind"`
	Payload    []byte `db:"payload"`
	CreatedAt  moment `db:"created_at"`
	Status     string `db:"status"`
	DecidedBy  string `db:"decided_by"`
	DecidedAt  moment `db:"decided_at"`
	NewCommand string `db:"new_command_id"`
}

func (r letterRow) letter() command.DeadLetter {
	return command.DeadLetter{
		ID: r.ID, Tenant: fleet.Tenant(r.Tenant), Source: r.Source, Cause: r.Cause, Detail: r.Detail,
		EndpointID: meterread.DeviceID(r.EndpointID), DeviceID: meterread.DeviceID(r.DeviceID), CommandID: command.ID(r.CommandID),
		Kind: command.UplinkKind(r.Kind), Payload: r.Payload, CreatedAt: r.CreatedAt.Time, Status: r.Status,
		DecidedBy: r.DecidedBy, DecidedAt: r.DecidedAt.pointer(), NewCommand: command.ID(r.NewCommand),
	}
}
