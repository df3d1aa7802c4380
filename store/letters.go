package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"meterline/command"
)

var letterColumns = columns(`v_id text, v_tenant text, v_source text, v_cause text, v_detail text, v_endpoint text, v_device text,
	v_command text, v_kind text, v_payload bytea, v_key text, v_created timestamptz, v_epoch bigint, v_gateway text,
	v_received timestamptz, v_bytes bigint, v_parent text, v_attempt bigint`)

// newID is an id that sorts by the time it was made.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// storeLetters keeps dead letters; one whose key is there already is the same. A dead operation of a command that was made to
// replay another's is linked to that one's letter.
func (t *tx) storeLetters(now time.Time, letters []command.DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	in := newInput(letterColumns, len(letters))
	operations := false
	for _, l := range letters {
		operations = operations || l.Source == command.LetterOperation
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
			string(l.Kind), l.Payload, l.Key, l.CreatedAt, l.Epoch, l.Gateway, l.ReceivedAt, len(l.Payload), l.ParentID, max(l.Attempt, 1))
	}
	_, err := t.exec(`
		INSERT INTO dead_letters (id, tenant, source, cause, detail, endpoint_id, device_id, command_id, kind, payload, key,
			created_at, status, epoch, gateway, received_at, bytes, parent_id, attempt)
		SELECT v_id, v_tenant, v_source, v_cause, v_detail, v_endpoint, v_device, v_command, v_kind, `+t.bytesOf("v_payload")+`, v_key,
			v_created, 'open', v_epoch, v_gateway, v_received, v_bytes, COALESCE(p.id, v_parent), COALESCE(p.attempt + 1, v_attempt)
		FROM `+t.relation(in.columns, 1)+`
		LEFT JOIN dead_letters p ON v_source = 'operation' AND p.new_command_id <> '' AND p.new_command_id = v_command AND p.device_id = v_device
		WHERE TRUE
		ON CONFLICT (key) DO NOTHING`, in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("keep dead letters: %w", err)
	}
	if operations {
		return t.noteDeadAgain(letters)
	}
	return nil
}

// noteDeadAgain notes on the letters of dead operations that what they were replayed as died too.
func (t *tx) noteDeadAgain(letters []command.DeadLetter) error {
	var in = newInput(keyColumns, len(letters))
	for _, l := range letters {
		if l.Source == command.LetterOperation {
			in.add(string(l.CommandID), string(l.DeviceID))
		}
	}
	_, err := t.exec(`
		UPDATE dead_letters
		SET again = 1
		FROM `+t.relation(in.columns, 1)+`
		WHERE new_command_id <> '' AND new_command_id = v_command AND device_id = v_device`, in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("link dead letters: %w", err)
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
