package uplink

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/fault"
	"meterline/meterread"
)

// readBytes is how much a Read takes from one partition, roughly, however many entries were asked for.
const readBytes = 8 << 20

// Read returns what was appended to each partition after its position; see command.Log. A batch may be shorter than
// limit when its entries are large; its Horizon says so.
func (r *Redis) Read(ctx context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	calls := make([]call, len(from))
	for i, f := range from {
		calls[i] = call{f.Partition, []any{f.Generation, string(f.Position), limit, newGeneration(), readBytes}}
	}
	batches := make([]command.LogBatch, len(from))
	for i, a := range r.runAll(ctx, readScript, calls) {
		raw, err := a.Slice()
		if err == nil {
			batches[i], err = decodeBatch(from[i], raw)
		}
		if err != nil {
			return nil, fmt.Errorf("read partition %d of the uplink log: %w", from[i].Partition, err)
		}
		if fault.Bug(fault.BugSkipAfter) && from[i].Generation != "" && batches[i].Generation != from[i].Generation {
			batches[i].Entries = nil
		}
		if n := len(batches[i].Entries); n > 1 && fault.Bug(fault.BugPositionLost) {
			batches[i].Entries = batches[i].Entries[:n-1]
		}
		r.metrics.read.Add(float64(len(batches[i].Entries)))
	}
	return batches, nil
}

// readScript answers generation, the clock in seconds and microseconds, whether there may be more, and entries after a
// position, or from the start when the log is of another generation. All of one moment.
//
//	KEYS 1 stream, 2 generation
//	ARGV 1 generation, 2 position, 3 most entries, 4 a generation, should there be none, 5 enough bytes
var readScript = redis.NewScript(`
local generation = redis.call('GET', KEYS[2])
if not generation then
  generation = ARGV[4]
  redis.call('SET', KEYS[2], generation)
end
local start = '-'
if generation == ARGV[1] and ARGV[2] ~= '' then start = '(' .. ARGV[2] end
local time = redis.call('TIME')
local entries, most, bytes, more = {}, tonumber(ARGV[3]), 0, 1
while more == 1 and #entries < most and bytes < tonumber(ARGV[5]) do
  local want = math.min(100, most - #entries)
  local range = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', want)
  for i = 1, #range do
    entries[#entries + 1] = range[i]
    for _, field in ipairs(range[i][2]) do bytes = bytes + #field end
  end
  if #range < want then
    more = 0
  else
    start = '(' .. range[#range][1]
  end
end
return {generation, time[1], time[2], more, entries}
`)

// decodeBatch reads what readScript answers.
func decodeBatch(from command.LogPosition, raw []any) (b command.LogBatch, err error) {
	if len(raw) != 5 {
		return b, fmt.Errorf("%d parts", len(raw))
	}
	b.Partition = from.Partition
	b.Generation, _ = raw[0].(string)
	if b.Generation == from.Generation {
		b.Position = from.Position
	}
	if b.Now, err = clock(raw[1], raw[2]); err != nil {
		return b, err
	}
	entries, _ := raw[4].([]any)
	b.Entries = make([]command.Uplink, len(entries))
	for i, e := range entries {
		if b.Entries[i], err = decodeEntry(from.Partition, e); err != nil {
			return b, err
		}
		b.Position = b.Entries[i].Position
	}
	// Ids have milliseconds: an entry that comes after this moment, within its millisecond, must not seem to be before it.
	b.Horizon = b.Now.Truncate(time.Millisecond)
	if more, _ := raw[3].(int64); more == 1 && len(entries) > 0 {
		b.Horizon = b.Entries[len(entries)-1].AppendedAt
	}
	return b, nil
}

// clock reads what TIME answers.
func clock(seconds, micros any) (time.Time, error) {
	s, _ := seconds.(string)
	u, _ := micros.(string)
	sec, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the clock: %w", err)
	}
	usec, err := strconv.ParseInt(u, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the clock: %w", err)
	}
	return time.Unix(sec, usec*1000).UTC(), nil
}

// decodeEntry reads one entry. One that is not as Append wrote it is Corrupt, never an error: it must not stop those
// after it.
func decodeEntry(partition int, raw any) (u command.Uplink, err error) {
	pair, _ := raw.([]any)
	if len(pair) != 2 {
		return u, fmt.Errorf("entry of %d parts", len(pair))
	}
	id, _ := pair[0].(string)
	millis, _, _ := strings.Cut(id, "-")
	at, err := strconv.ParseInt(millis, 10, 64)
	if err != nil {
		return u, fmt.Errorf("entry id %q: %w", id, err)
	}
	u.Partition, u.Position, u.AppendedAt = partition, command.Position(id), time.UnixMilli(at).UTC()
	fields, _ := pair[1].([]any)
	var sum string
	for i := 0; i+1 < len(fields); i += 2 {
		name, _ := fields[i].(string)
		value, _ := fields[i+1].(string)
		switch name {
		case "e":
			u.Endpoint = meterread.DeviceID(value)
		case "s":
			u.Epoch, _ = strconv.ParseInt(value, 10, 64) // the checksum tells
		case "g":
			u.Gateway = value
		case "k":
			u.Kind = command.UplinkKind(value)
		case "p":
			u.Payload = []byte(value)
		case "c":
			sum = value
		}
	}
	u.Corrupt = sum != checksum(u)
	return u, nil
}
