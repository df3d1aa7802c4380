package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"meterline/command"
	"meterline/meterread"
)

// operationNames are the columns that operationRow scans, in its order.
var operationNames = []string{
	"command_id", "device_id", "tenant", "endpoint_id", "partition", "kind", "priority", "seq", "state", "delivery", "attempts",
	"max_attempts", "next_at", "created_at", "expires_at", "updated_at", "error_code", "error_message", "device", "readings",
	"from_stock", "late_result_at", "moves", "version", "changed", "message_id", "gateway", "epoch", "lease_until",
}

// operationColumns are operationNames, of the table with that alias ("" for none).
func operationColumns(alias string) string {
	if alias == "" {
		return strings.Join(operationNames, ", ")
	}
	return alias + "." + strings.Join(operationNames, ", "+alias+".")
}

// operationRow is a row of operations while it is scanned.
type operationRow struct {
	op                           command.Operation
	nextAt, createdAt, expiresAt moment
	updatedAt, lateAt, leaseTill moment
	code, message                sql.NullString
	device, moves                []byte
	readings                     []byte
	messageID, gateway           sql.NullString
	epoch                        sql.NullInt64
}

// scan reads a row of operationColumns and then extra.
func (r *operationRow) scan(rows scanner, extra ...any) error {
	o := &r.op
	return rows.Scan(append([]any{
		&o.CommandID, &o.DeviceID, &o.Tenant, &o.EndpointID, &o.Partition, &o.Kind, &o.Priority, &o.Seq, &o.State, &o.Delivery,
		&o.Attempts, &o.MaxAttempts, &r.nextAt, &r.createdAt, &r.expiresAt, &r.updatedAt, &r.code, &r.message, &r.device,
		&r.readings, &o.FromStock, &r.lateAt, &r.moves, &o.Version, &o.Changed, &r.messageID, &r.gateway, &r.epoch, &r.leaseTill,
	}, extra...)...)
}

// operation is the row as the domain sees it.
func (r *operationRow) operation() (*command.Operation, error) {
	o := &r.op
	o.NextAt, o.CreatedAt, o.ExpiresAt, o.UpdatedAt = r.nextAt.Time, r.createdAt.Time, r.expiresAt.Time, r.updatedAt.Time
	o.LateResultAt, o.LeaseUntil = r.lateAt.Time, r.leaseTill.Time
	o.MessageID, o.Gateway, o.Epoch = r.messageID.String, r.gateway.String, r.epoch.Int64
	if r.code.Valid {
		o.Error = &command.Failure{Code: r.code.String, Message: r.message.String}
	}
	for _, part := range []struct {
		json []byte
		into any
	}{{r.device, &o.Device}, {r.moves, &o.Moves}, {r.readings, &o.Readings}} {
		if len(part.json) == 0 {
			continue
		}
		if err := json.Unmarshal(part.json, part.into); err != nil {
			return nil, fmt.Errorf("read operation %s of %s: %w", o.DeviceID, o.CommandID, err)
		}
	}
	return o, nil
}

// operations runs a query of operationColumns.
func (t *tx) operations(query string, args ...any) ([]*command.Operation, error) {
	var ops []*command.Operation
	err := t.each(func(rows scanner) error {
		var r operationRow
		if err := r.scan(rows); err != nil {
			return err
		}
		o, err := r.operation()
		if err != nil {
			return err
		}
		ops = append(ops, o)
		return nil
	}, query, args...)
	return ops, err
}

// marshal is v as JSON text. What the domain holds always can be written.
func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("store: write %T as JSON: %v", v, err))
	}
	return string(b)
}

// readingsJSON is what an operation keeps of its own result; nil when it has none.
func readingsJSON(rs []meterread.Reading) any {
	if len(rs) == 0 {
		return nil
	}
	return marshal(rs)
}

// failureOf are the columns of an operation's error.
func failureOf(f *command.Failure) (code, message any) {
	if f == nil {
		return nil, nil
	}
	return f.Code, f.Message
}

// orNull is s, or nil when it is empty.
func orNull[S ~string](s S) any {
	if s == "" {
		return nil
	}
	return string(s)
}
