package store

import (
	"encoding/json"
	"fmt"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// targets is what a command's selector means in SQL. Its parameters are $1 tenant, $2 when the command was made, $3 the
// device after which to begin, $4 how many, $5 the selector's own.
type targets struct {
	from, where, order string
	arg                any
}

// targetsOf turns a selector into SQL. Devices that were made after the command are not its targets, nor are disabled ones;
// an IPC itself is a target of nothing but a ping.
func (d dialect) targetsOf(kind command.Kind, s command.Selector) targets {
	ts := targets{
		from:  `FROM devices d`,
		where: `WHERE d.tenant = $1 AND d.created_at <= $2 AND d.enabled`,
		order: `d.id`,
	}
	if kind != command.DevicePing {
		ts.where += ` AND d.kind <> 'ipc'`
	}
	switch {
	case len(s.DeviceIDs) > 0:
		ts.from = `FROM ` + d.listed("devices", 5)
		ts.where += ` AND d.id > $3`
		ts.arg = texts(d, s.DeviceIDs)
	case s.Group != "":
		ts.from = `FROM group_members m JOIN devices d ON d.id = m.device_id`
		ts.where += ` AND m.tenant = $1 AND m.group_name = $5 AND m.device_id > $3`
		ts.order = `m.device_id`
		ts.arg = s.Group
	case len(s.Tags) > 0:
		ts.where += ` AND d.id > $3 AND ` + d.tagged("d.tags", 5)
		ts.arg = marshal(s.Tags)
	default:
		ts.where += ` AND d.id > $3 AND $5 = 0`
		ts.arg = 0
	}
	return ts
}

// countTargets is how many devices there are.
func (t *tx) countTargets(c command.Command) (n int, err error) {
	ts := t.targetsOf(c.Kind, c.Selector)
	err = t.get(&n, `SELECT count(*) FROM (SELECT 1 AS one `+ts.from+` `+ts.where+` LIMIT $4) AS found`,
		string(c.Tenant), at(c.CreatedAt), "", maxTargets, ts.arg)
	if err != nil {
		return 0, fmt.Errorf("count targets: %w", err)
	}
	return n, nil
}

// maxTargets is more devices than an installation has.
const maxTargets = 1 << 30

// candidates loads up to limit devices that a command is for, in order of their ids, from the one after the given on.
func (t *tx) candidates(c command.Command, after meterread.DeviceID, limit int) ([]command.Candidate, error) {
	ts := t.targetsOf(c.Kind, c.Selector)
	var found []command.Candidate
	err := t.each(func(row scanner) error {
		var d command.Candidate
		var route, tags string
		if err := row.Scan(&d.DeviceID, &d.Partition, &d.Info.Name, &d.Info.Kind, &d.Info.EndpointID, &route, &tags); err != nil {
			return err
		}
		d.Info.Route = json.RawMessage(route)
		found = append(found, d)
		return json.Unmarshal([]byte(tags), &found[len(found)-1].Info.Tags)
	}, `
		SELECT d.id, d.partition, d.name, d.kind, d.endpoint_id, d.route, d.tags
		`+ts.from+`
		`+ts.where+`
		ORDER BY `+ts.order+`
		LIMIT $4`, string(c.Tenant), at(c.CreatedAt), string(after), limit, ts.arg)
	if err != nil {
		return nil, fmt.Errorf("load targets: %w", err)
	}
	return found, t.stock(c, found)
}

// stock fills in the newest readings of candidates, where the command is content with them.
func (t *tx) stock(c command.Command, found []command.Candidate) error {
	if c.MaxAge <= 0 || len(c.Items) == 0 || len(found) == 0 {
		return nil
	}
	ids := make([]meterread.DeviceID, len(found))
	for i, d := range found {
		ids[i] = d.DeviceID
	}
	newest, err := t.newest(c.Tenant, ids, c.Items)
	for i := range found {
		found[i].Newest = newest[found[i].DeviceID]
	}
	return err
}

// maxComplaints is how many devices of a list are complained about.
const maxComplaints = 20

// checkGroup complains, as *command.Invalid, about a group that is not there.
func (t *tx) checkGroup(c command.Command) error {
	if c.Selector.Group == "" {
		return nil
	}
	var n int
	err := t.get(&n, `SELECT count(*) FROM groups WHERE tenant = $1 AND name = $2`, string(c.Tenant), c.Selector.Group)
	if err != nil {
		return fmt.Errorf("look for group: %w", err)
	}
	if n == 0 {
		return invalid("/targets/group", "there is no such group")
	}
	return nil
}

func invalid(pointer, detail string) *command.Invalid {
	return &command.Invalid{Fields: []command.FieldError{{Pointer: pointer, Detail: detail}}}
}

// devicesNamed loads those of the devices that are the tenant's.
func (t *tx) devicesNamed(tenant fleet.Tenant, ids []meterread.DeviceID) (map[meterread.DeviceID]deviceRow, error) {
	var rows []deviceRow
	err := t.list(&rows, `
		SELECT `+deviceColumns+`
		FROM `+t.listed("devices", 2)+`
		WHERE tenant = $1`, string(tenant), texts(t.dialect, ids))
	if err != nil {
		return nil, fmt.Errorf("look for devices: %w", err)
	}
	known := make(map[meterread.DeviceID]deviceRow, len(rows))
	for _, r := range rows {
		known[r.ID] = r
	}
	return known, nil
}

// complaints are what is wrong with the devices that a command names, of those that its tenant has.
func complaints(c command.Command, known map[meterread.DeviceID]deviceRow) error {
	var wrong command.Invalid
	for i, id := range c.Selector.DeviceIDs {
		d, ok := known[id]
		detail := ""
		switch {
		case !ok:
			detail = "there is no such device"
		case !d.Enabled:
			detail = "the device is disabled"
		case d.Kind == fleet.IPC && c.Kind != command.DevicePing:
			detail = "an IPC itself cannot be asked for " + string(c.Kind)
		}
		if detail == "" {
			continue
		}
		wrong.Fields = append(wrong.Fields, command.FieldError{Pointer: fmt.Sprintf("/targets/device_ids/%d", i), Detail: detail})
		if len(wrong.Fields) == maxComplaints {
			break
		}
	}
	if len(wrong.Fields) > 0 {
		return &wrong
	}
	return nil
}

// born makes operations of candidates. What they add to the counts of their command comes with them.
func born(c command.Command, found []command.Candidate, now time.Time, f command.BornFunc) ([]*command.Operation, *command.Counts) {
	ops := make([]*command.Operation, len(found))
	var added command.Counts
	for i, d := range found {
		ops[i] = f(c, d, now)
		*added.Of(ops[i].State)++
	}
	return ops, &added
}

var bornColumns = columns(`v_command text, v_device text, v_tenant text, v_endpoint text, v_partition bigint, v_kind text,
	v_priority bigint, v_seq bigint, v_state text, v_open boolean, v_outcome text, v_delivery text, v_attempts bigint, v_max bigint,
	v_next timestamptz, v_created timestamptz, v_expires timestamptz, v_updated timestamptz, v_code text, v_message text, v_info text,
	v_readings text, v_stock boolean, v_moves text, v_version bigint, v_changed bigint`)

// addOperations adds operations that were just born.
func (t *tx) addOperations(ops []*command.Operation) error {
	if len(ops) == 0 {
		return nil
	}
	in := newInput(bornColumns, len(ops))
	for _, o := range ops {
		code, message := failureOf(o.Error)
		in.add(string(o.CommandID), string(o.DeviceID), string(o.Tenant), string(o.EndpointID), o.Partition, string(o.Kind), o.Priority,
			o.Seq, string(o.State), o.State.Open(), outcome(o.State), string(o.Delivery), o.Attempts, o.MaxAttempts, o.NextAt, o.CreatedAt,
			o.ExpiresAt, o.UpdatedAt, code, message, marshal(o.Device), readingsJSON(o.Readings), o.FromStock, marshal(o.Moves),
			o.Version, o.Changed)
	}
	_, err := t.exec(`
		INSERT INTO operations (command_id, device_id, tenant, endpoint_id, partition, kind, priority, seq, state, open, outcome,
			delivery, attempts, max_attempts, next_at, created_at, expires_at, updated_at, error_code, error_message, device, readings,
			from_stock, moves, version, changed)
		SELECT v_command, v_device, v_tenant, v_endpoint, v_partition, v_kind, v_priority, v_seq, v_state, v_open, v_outcome,
			v_delivery, v_attempts, v_max, v_next, v_created, v_expires, v_updated, v_code, v_message, v_info, v_readings,
			v_stock, v_moves, v_version, v_changed
		FROM `+t.relation(in.columns, 1), in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("add operations: %w", err)
	}
	return nil
}
