package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"meterline/command"
	"meterline/fault"
	"meterline/fleet"
	"meterline/meterread"
)

func compare[T cmp.Ordered](a, b T) int { return cmp.Compare(a, b) }

func compareKeys(a, b command.Key) int {
	return cmp.Or(cmp.Compare(a.CommandID, b.CommandID), cmp.Compare(a.DeviceID, b.DeviceID))
}

func sortOperations(ops []*command.Operation) {
	slices.SortFunc(ops, func(a, b *command.Operation) int { return compareKeys(a.Key(), b.Key()) })
}

// Change implements command.Ledger.
func (db *DB) Change(ctx context.Context, f command.Fence, need command.Need, decide func(*command.Tx) error) (command.Committed, error) {
	var done command.Committed
	again := false
	err := db.write(ctx, urgent, func(t *tx) error {
		if again { // what was known may be why
			need = afresh(need)
		}
		again = true
		var err error
		done, err = t.change(f, need, decide)
		return err
	})
	if err != nil {
		return command.Committed{}, fmt.Errorf("change operations: %w", err)
	}
	return done, nil
}

// afresh is need where nothing is known.
func afresh(need command.Need) command.Need {
	for _, o := range need.Known {
		need.Operations = append(need.Operations, o.Key())
	}
	need.Known = nil
	return need
}

// known is what an operation was when it was loaded, or seen last.
type known struct {
	state    command.State
	version  int64
	readings int
	shown    bool
	endpoint meterread.DeviceID
}

func (t *tx) change(f command.Fence, need command.Need, decide func(*command.Tx) error) (command.Committed, error) {
	now, err := t.fence(f)
	if err != nil {
		return command.Committed{}, err
	}
	x := &command.Tx{Now: now, Operations: make(map[command.Key]*command.Operation, len(need.Operations)+len(need.Known))}
	before, err := t.operationsFor(x, need)
	if err != nil {
		return command.Committed{}, err
	}
	if x.Devices, err = t.devicesByID(need.Devices); err != nil {
		return command.Committed{}, err
	}
	if err := t.lockReplays(x, need.Replays); err != nil {
		return command.Committed{}, err
	}
	if err := t.countLetters(x, need.Letters); err != nil {
		return command.Committed{}, err
	}
	if err := decide(x); err != nil {
		return command.Committed{}, asIs{err}
	}
	if fault.Bug(fault.BugPositionApart) && len(x.Positions) > 0 {
		if err := t.moveApart(f, x.Positions); err != nil {
			return command.Committed{}, err
		}
	}
	done := command.Committed{Now: now}
	if done.Changes, err = t.writeMoves(x, before); err != nil {
		return command.Committed{}, err
	}
	if done.Readings, err = t.storeReadings(x); err != nil {
		return command.Committed{}, err
	}
	if err := t.storeLetters(now, x.DeadLetters); err != nil {
		return command.Committed{}, err
	}
	if err := t.endReplays(now, x); err != nil {
		return command.Committed{}, err
	}
	if err := t.storeEvents(now, x.Events); err != nil {
		return command.Committed{}, err
	}
	return done, t.movePositions(f, x.Positions)
}

// moveApart commits positions by themselves, as nobody may.
func (t *tx) moveApart(f command.Fence, ps []command.LogPosition) error {
	return t.transact(t.ctx, t.writes, nil, func(t *tx) error { return t.movePositions(f, ps) })
}

var keyColumns = columns("v_command text, v_device text")

// operationsFor puts the operations that a transaction needs before it: those that are known as they are known, the others loaded
// and locked. Of the former it turns out when they are written whether they were still the same.
func (t *tx) operationsFor(x *command.Tx, need command.Need) (map[command.Key]known, error) {
	before := make(map[command.Key]known, len(need.Operations)+len(need.Known))
	if len(need.Operations) > 0 {
		if err := t.lockCommands(commandsOf(need)); err != nil {
			return nil, err
		}
		if err := t.lockOperations(x, before, need.Operations); err != nil {
			return nil, err
		}
	}
	for _, o := range need.Known {
		x.Operations[o.Key()] = o.Copy()
		before[o.Key()] = known{o.State, o.Version, len(o.Readings), false, o.EndpointID}
	}
	return before, t.noteShown(x, before)
}

// commandsOf lists the commands whose operations are needed, each once.
func commandsOf(need command.Need) []command.ID {
	seen := map[command.ID]struct{}{}
	for _, k := range need.Operations {
		seen[k.CommandID] = struct{}{}
	}
	for _, o := range need.Known {
		seen[o.CommandID] = struct{}{}
	}
	return slices.Collect(maps.Keys(seen))
}

// lockOperations loads the operations that exist, locked until the end.
func (t *tx) lockOperations(x *command.Tx, before map[command.Key]known, keys []command.Key) error {
	in := newInput(keyColumns, len(keys))
	for _, k := range keys {
		in.add(string(k.CommandID), string(k.DeviceID))
	}
	err := t.each(func(rows scanner) error {
		var r operationRow
		if err := r.scan(rows); err != nil {
			return err
		}
		o, err := r.operation()
		if err != nil {
			return err
		}
		x.Operations[o.Key()] = o
		before[o.Key()] = known{o.State, o.Version, len(o.Readings), false, o.EndpointID}
		return nil
	}, `
		SELECT `+operationColumns("o")+`
		FROM `+t.relation(in.columns, 1)+`
		JOIN operations o ON o.command_id = v_command AND o.device_id = v_device
		ORDER BY o.command_id, o.device_id`+t.lock("FOR NO KEY UPDATE OF o"), in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("load operations: %w", err)
	}
	return nil
}

// neverShown is how long before its deadline an operation surely belongs to a command that nobody has been shown as expired,
// however the clock of the database's machine was set lately. Should it have been shown all the same, that is found when the
// command is counted.
const neverShown = time.Minute

// noteShown notes on the operations whether their commands have been shown as expired.
func (t *tx) noteShown(x *command.Tx, before map[command.Key]known) error {
	var ids, shown []command.ID
	asked := map[command.ID]bool{}
	for k, o := range x.Operations {
		if !asked[k.CommandID] && o.ExpiresAt.Before(x.Now.Add(neverShown)) {
			asked[k.CommandID] = true
			ids = append(ids, k.CommandID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	err := t.list(&shown, `SELECT id FROM commands WHERE `+t.among("id", 1)+` AND shown_expired`, texts(t.dialect, ids))
	if err != nil {
		return fmt.Errorf("look whether anybody was told: %w", err)
	}
	if len(shown) == 0 {
		return nil
	}
	for k, o := range x.Operations {
		if slices.Contains(shown, k.CommandID) {
			o.ShownExpired = true
			was := before[k]
			was.shown = true
			before[k] = was
		}
	}
	return nil
}

// writeMoves writes the operations that decide moved, after what follows from them for their commands.
func (t *tx) writeMoves(x *command.Tx, before map[command.Key]known) ([]command.Change, error) {
	var ops, failed []*command.Operation
	d := deltas{}
	for k, o := range x.Operations {
		was := before[k]
		if o.Version == was.version && len(o.Readings) != was.readings { // a part of its answer came
			o.Version++
			o.UpdatedAt = x.Now
		}
		if o.Version == was.version {
			continue
		}
		ops = append(ops, o)
		d.of(o.CommandID)
		if o.State != was.state {
			d.move(o.CommandID, was.state, o.State)
			if !o.State.Open() && o.Error != nil {
				failed = append(failed, o)
			}
		}
	}
	if len(ops) == 0 {
		return nil, nil
	}
	sortOperations(ops)
	cs, err := t.count(x.Now, d)
	if err != nil {
		return nil, err
	}
	changes := make([]command.Change, len(cs))
	byID := make(map[command.ID]*command.Change, len(cs))
	for i, c := range cs {
		changes[i] = command.Change{From: c.Version - 1}
		byID[c.ID] = &changes[i]
	}
	for _, o := range ops {
		c := byID[o.CommandID]
		o.Changed = c.From + 1
		c.Operations = append(c.Operations, o)
	}
	for i, c := range cs {
		if c.ShownExpired && answersUnseen(changes[i].Operations, before) {
			return nil, errAgain
		}
	}
	if err := t.writeOperations(ops, before); err != nil {
		return nil, err
	}
	if err := t.writeEndpoints(ops, before); err != nil {
		return nil, err
	}
	if err := t.countErrors(failed); err != nil {
		return nil, err
	}
	if err := t.withErrors(cs); err != nil {
		return nil, err
	}
	for i, c := range cs {
		changes[i].Command = c
	}
	return changes, nil
}

// answersUnseen says whether somebody was told, between our loading an operation and now, that its command expired: then
// the answer is late after all.
func answersUnseen(ops []*command.Operation, before map[command.Key]known) bool {
	return slices.ContainsFunc(ops, func(o *command.Operation) bool {
		return !before[o.Key()].shown && (o.State == command.Succeeded || o.State == command.Failed)
	})
}

var moveColumns = columns(`v_command text, v_device text, v_was bigint, v_state text, v_open boolean, v_outcome text, v_delivery text, v_attempts bigint,
	v_next timestamptz, v_updated timestamptz, v_code text, v_message text, v_readings text, v_late timestamptz, v_moves text,
	v_version bigint, v_changed bigint, v_message_id text, v_gateway text, v_epoch bigint, v_lease timestamptz`)

// writeOperations writes everything of operations that moves, in one statement. Those that others have moved since they were seen
// are not there any more: errAgain.
func (t *tx) writeOperations(ops []*command.Operation, before map[command.Key]known) error {
	in := newInput(moveColumns, len(ops))
	for _, o := range ops {
		code, message := failureOf(o.Error)
		in.add(string(o.CommandID), string(o.DeviceID), before[o.Key()].version, string(o.State), o.State.Open(), outcome(o.State), string(o.Delivery), o.Attempts,
			o.NextAt, o.UpdatedAt, code, message, readingsJSON(o.Readings), o.LateResultAt, marshal(o.Moves),
			o.Version, o.Changed, orNull(o.MessageID), orNull(o.Gateway), o.Epoch, o.LeaseUntil)
	}
	unmoved := ` AND version = v_was`
	if fault.Bug(fault.BugPassedBy) {
		unmoved = ``
	}
	n, err := t.exec(`
		UPDATE operations
		SET state = v_state, open = v_open, outcome = v_outcome, delivery = v_delivery, attempts = v_attempts,
			next_at = v_next, updated_at = v_updated, error_code = v_code, error_message = v_message, readings = v_readings,
			late_result_at = v_late, moves = v_moves, version = v_version, changed = v_changed,
			message_id = v_message_id, gateway = v_gateway, epoch = v_epoch, lease_until = v_lease
		FROM `+t.relation(in.columns, 1)+`
		WHERE command_id = v_command AND device_id = v_device`+unmoved, in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("write operations: %w", err)
	}
	if n != len(ops) {
		return fmt.Errorf("write operations: %d of %d were as they were seen: %w", n, len(ops), errAgain)
	}
	return nil
}

var endpointColumns = columns("v_command text, v_device text, v_endpoint text, v_partition bigint, v_info text")

// writeEndpoints writes where operations are queued now that followed their devices. That is rare: the statement for all that
// moves need not carry it.
func (t *tx) writeEndpoints(ops []*command.Operation, before map[command.Key]known) error {
	in := newInput(endpointColumns, 0)
	followed := 0
	for _, o := range ops {
		if o.EndpointID != before[o.Key()].endpoint {
			in.add(string(o.CommandID), string(o.DeviceID), string(o.EndpointID), o.Partition, marshal(o.Device))
			followed++
		}
	}
	if followed == 0 {
		return nil
	}
	_, err := t.exec(`
		UPDATE operations
		SET endpoint_id = v_endpoint, partition = v_partition, device = v_info
		FROM `+t.relation(in.columns, 1)+`
		WHERE command_id = v_command AND device_id = v_device`, in.args(t.dialect)...)
	if err != nil {
		return fmt.Errorf("let operations follow their devices: %w", err)
	}
	return nil
}

// outcome is the state that an operation ended in; nil while it is open.
func outcome(s command.State) any {
	if s.Open() {
		return nil
	}
	return string(s)
}

// devicesByID loads devices of whatever tenant, without their groups.
func (t *tx) devicesByID(ids []meterread.DeviceID) (map[meterread.DeviceID]fleet.Device, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []deviceRow
	err := t.list(&rows, `
		SELECT `+deviceColumns+`
		FROM devices
		WHERE `+t.among("id", 1), texts(t.dialect, ids))
	if err != nil {
		return nil, fmt.Errorf("load devices: %w", err)
	}
	devices := make(map[meterread.DeviceID]fleet.Device, len(rows))
	for _, r := range rows {
		d, err := r.device()
		if err != nil {
			return nil, err
		}
		devices[d.ID] = d
	}
	return devices, nil
}

// Now implements command.Ledger.
func (db *DB) Now(ctx context.Context) (now time.Time, err error) {
	err = db.single(ctx, func(t *tx) error {
		now, err = t.now()
		if err == nil && !t.postgres { // a clock that cannot be asked is no clock
			err = t.get(new(int), `SELECT 1`)
		}
		return err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the time: %w", err)
	}
	return now, nil
}
