package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/fault"
)

// The live state of a command is two hashes that live and die together:
//
//	meterline:command:{<id>}        device id -> JSON of its command.OperationView
//	meterline:command:{<id>}:meta   command, tenant, status, version, counts, errors, finished_at, held, first, complete
//
// or, while somebody reads the record to fill them, only building and seen. held is how many operations there are,
// first the device ids of the first of them in order, complete the mark without which all of it counts as missing.
// A third, meterline:command:{<id>}:ahead, keeps changes that overtook the one before them, for at most aheadGrace:
// the owners of a command's partitions write independently, and each change is valid on exactly one version.

const (
	firstLength = 1000             // device ids kept in first
	aheadLimit  = 64               // changes kept ahead
	aheadGrace  = time.Second      // how long a poll may lag because a change is missing
	buildTime   = 10 * time.Minute // how long a token is good for
	fillTime    = time.Minute      // how long a half-written copy is kept
)

func commandKey(id command.ID) string { return "meterline:command:{" + string(id) + "}" }

func commandKeys(id command.ID) []string {
	k := commandKey(id)
	return []string{k, k + ":meta", k + ":ahead"}
}

// Prepare begins to fill in a command. Several may do so at once: they share a token, and the first Fill counts. When
// the command is there as a whole, the token is good for nothing and the state stays.
func (r *Redis) Prepare(ctx context.Context, id command.ID) (string, error) {
	token, err := prepareScript.Run(ctx, r.client, commandKeys(id), newToken(), ms(buildTime), ms(aheadGrace)).Text()
	if err != nil {
		return "", fmt.Errorf("prepare the live state of command %s: %w", id, err)
	}
	return token, nil
}

// Fill puts a whole snapshot in, unless something happened since Prepare that it does not contain. A command of more than
// command.LiveLimit operations, or one whose operations are not all in v, is not held.
func (r *Redis) Fill(ctx context.Context, token string, v command.View) error {
	if !holdable(v) || r.full.Load() {
		return nil
	}
	ops := sorted(v.Operations)
	if fault.Bug(fault.BugPartAsWhole) {
		ops = ops[:(len(ops)+1)/2]
	}
	keys := append(commandKeys(v.ID), commandKey(v.ID)+":fill:"+newToken())
	if err := r.copyOperations(ctx, keys[3], ops); err != nil {
		return fmt.Errorf("copy the operations of command %s: %w", v.ID, err)
	}
	meta, err := metaFields(v, ops)
	if err != nil {
		return err
	}
	args := append([]any{token, len(ops), v.Version, ms(lifetime)}, meta...)
	if err := fillScript.Run(ctx, r.client, keys, args...).Err(); err != nil {
		return fmt.Errorf("fill the live state of command %s: %w", v.ID, err)
	}
	return nil
}

// copyOperations writes ops beside what polls see; fillScript puts the copy in its place.
func (r *Redis) copyOperations(ctx context.Context, key string, ops []command.OperationView) error {
	if len(ops) == 0 {
		return nil
	}
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for part := range slices.Chunk(ops, pipelineLength) {
			fields := make([]any, 0, 2*len(part))
			for _, o := range part {
				b, err := json.Marshal(o)
				if err != nil {
					return err
				}
				fields = append(fields, string(o.DeviceID), b)
			}
			p.HSet(ctx, key, fields...)
		}
		p.PExpire(ctx, key, fillTime)
		return nil
	})
	return err
}

// metaFields are the fields of the meta hash for v, which fillScript completes with the mark.
func metaFields(v command.View, ops []command.OperationView) ([]any, error) {
	first := make([]string, 0, min(len(ops), firstLength))
	for _, o := range ops[:cap(first)] {
		first = append(first, string(o.DeviceID))
	}
	fixed := v
	fixed.Operations = nil
	b, err := json.Marshal(fixed)
	if err != nil {
		return nil, fmt.Errorf("encode command %s: %w", v.ID, err)
	}
	moving, err := movingFields(v)
	if err != nil {
		return nil, err
	}
	return []any{"command", b, "tenant", string(v.Tenant), "held", len(ops), "first", strings.Join(first, " "),
		"version", v.Version, "status", moving[0], "counts", moving[1], "errors", moving[2], "finished_at", moving[3]}, nil
}

// movingFields are status, counts, errors and finished_at of v as the meta hash has them.
func movingFields(v command.View) ([]any, error) {
	counts, err := json.Marshal(v.Counts)
	if err != nil {
		return nil, fmt.Errorf("encode the counts of command %s: %w", v.ID, err)
	}
	codes, err := json.Marshal(v.Errors)
	if err != nil {
		return nil, fmt.Errorf("encode the errors of command %s: %w", v.ID, err)
	}
	finished := ""
	if v.FinishedAt != nil {
		finished = v.FinishedAt.UTC().Format(time.RFC3339Nano)
	}
	return []any{string(v.Status), counts, codes, finished}, nil
}

// Load returns the command as of its newest version that is known without a gap.
func (r *Redis) Load(ctx context.Context, id command.ID, page int) (command.View, bool, error) {
	var none command.View
	got, err := loadScript.Run(ctx, r.client, commandKeys(id)[:2], page, ms(aheadGrace)).Slice()
	if errors.Is(err, redis.Nil) {
		return none, false, nil
	}
	if err != nil {
		return none, false, fmt.Errorf("load the live state of command %s: %w", id, err)
	}
	v, err := decodeView(got)
	if err != nil {
		return none, false, fmt.Errorf("decode the live state of command %s: %w", id, err)
	}
	return v, true, nil
}

// decodeView reads what loadScript answers.
func decodeView(got []any) (v command.View, err error) {
	var raw [6]string // command, version, status, counts, errors, finished_at
	if len(got) != len(raw)+1 {
		return v, fmt.Errorf("%d parts", len(got))
	}
	for i := range raw {
		raw[i], _ = got[i].(string)
	}
	if err := json.Unmarshal([]byte(raw[0]), &v); err != nil {
		return v, err
	}
	v.Counts, v.Errors, v.FinishedAt, v.Status = command.Counts{}, nil, nil, command.Status(raw[2])
	err = errors.Join(
		json.Unmarshal([]byte(raw[1]), &v.Version),
		json.Unmarshal([]byte(raw[3]), &v.Counts),
		json.Unmarshal([]byte(raw[4]), &v.Errors))
	if err != nil {
		return v, err
	}
	if raw[5] != "" {
		at, err := time.Parse(time.RFC3339Nano, raw[5])
		if err != nil {
			return v, err
		}
		v.FinishedAt = &at
	}
	ops, _ := got[6].([]any)
	v.Operations, v.Encoded = nil, make([]json.RawMessage, len(ops))
	for i, o := range ops {
		s, _ := o.(string)
		if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
			return v, fmt.Errorf("operation %d is no JSON object", i)
		}
		v.Encoded[i] = json.RawMessage(s)
	}
	return v, nil
}

// Apply brings cached commands up to date. A command that could not be told is forgotten, at the latest by the next
// call that reaches Redis; the error is returned all the same.
func (r *Redis) Apply(ctx context.Context, changes []command.Change) error {
	if err := r.settle(ctx); err != nil {
		for _, c := range changes {
			r.owe(commandKeys(c.Command.ID)...)
		}
		return err
	}
	if len(changes) == 0 {
		return nil
	}
	calls := make([]call, len(changes))
	for i, c := range changes {
		args, err := applyArgs(c)
		if err != nil {
			return err
		}
		calls[i] = call{commandKeys(c.Command.ID), args}
	}
	fault.Point(fault.LiveApply)
	script := applyScript
	if fault.Bug(fault.BugOlderOverwrites) {
		script = unguarded()
	}
	answers, err := r.runAll(ctx, script, calls)
	if err == nil {
		return nil
	}
	for i, a := range answers {
		if a.Err() != nil {
			r.owe(calls[i].keys...)
		}
	}
	return errors.Join(fmt.Errorf("apply changes to the live state: %w", err), r.settle(ctx))
}

func applyArgs(c command.Change) ([]any, error) {
	v := c.Command.View()
	moving, err := movingFields(v)
	if err != nil {
		return nil, err
	}
	bulk := 0
	if c.Bulk {
		bulk = 1
	}
	args := append([]any{c.From, v.Version, bulk, ms(lifetime), ms(aheadGrace), aheadLimit}, moving...)
	for _, o := range c.Operations {
		b, err := json.Marshal(o.View())
		if err != nil {
			return nil, fmt.Errorf("encode operation of %s on %s: %w", o.CommandID, o.DeviceID, err)
		}
		args = append(args, string(o.DeviceID), b)
	}
	return args, nil
}

// Forget drops commands. Those it could not drop are dropped by the next call that reaches Redis.
func (r *Redis) Forget(ctx context.Context, ids []command.ID) error {
	for _, id := range ids {
		r.owe(commandKeys(id)...)
	}
	return r.settle(ctx)
}

// holdable says whether v is a whole that the live state holds.
func holdable(v command.View) bool {
	return len(v.Operations) <= command.LiveLimit && len(v.Operations) == v.Counts.Total
}

// sorted is ops in order of their devices, byte by byte.
func sorted(ops []command.OperationView) []command.OperationView {
	byDevice := func(a, b command.OperationView) int { return cmp.Compare(a.DeviceID, b.DeviceID) }
	if slices.IsSortedFunc(ops, byDevice) {
		return ops
	}
	return slices.SortedFunc(slices.Values(ops), byDevice)
}

func ms(d time.Duration) int64 { return d.Milliseconds() }
