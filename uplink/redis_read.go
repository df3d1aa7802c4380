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
	for _, p := range from {
		r.reached(p)
	}
	return r.readFrom(ctx, from, limit)
}

var _ command.Ahead = (*Redis)(nil)

// ReadAhead is Read from the end where a position is none of this log's; see command.Ahead.
func (r *Redis) ReadAhead(ctx context.Context, from []command.LogPosition, limit int) ([]command.LogBatch, error) {
	return r.readFrom(ctx, from, limit, "ahead")
}

func (r *Redis) readFrom(ctx context.Context, from []command.LogPosition, limit int, more ...any) ([]command.LogBatch, error) {
	calls := make([]call, len(from))
	for i, f := range from {
		calls[i] = call{f.Partition, append([]any{f.Generation, string(f.Position), limit, newGeneration(), readBytes}, more...)}
	}
	batches := make([]command.LogBatch, len(from))
	for i, a := range runAll(ctx, r.client, readScript, calls) {
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
		r.tell(from[i], batches[i].Generation)
	}
	return batches, nil
}

// tell says, once per generation, that a partition is read from its start because it is another one.
func (r *Redis) tell(from command.LogPosition, generation string) {
	if from.Generation == "" || from.Generation == generation {
		return
	}
	r.mu.Lock()
	known := r.another[from.Partition] == generation
	r.another[from.Partition] = generation
	r.mu.Unlock()
	if !known {
		r.metrics.restarts.Inc()
		r.opt.Logger.Warn("the uplink log is another one: it is read from its start",
			"partition", from.Partition)
	}
}

// readScript answers generation, the clock in seconds and microseconds, whether there may be more, and entries after a
// position, or from the start when the log is of another generation. All of one moment. A log that ends before the position
// has lost its end, by whatever way, and is made another generation. A replica may be behind: it answers an error, by which
// the client closes the connection.
//
//	KEYS 1 stream, 2 generation
//	ARGV 1 generation, 2 position, 3 most entries, 4 a generation, should there be none, 5 enough bytes
var readScript = redis.NewScript(generationLua + `
local function ends()
  local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
  return '0-0'
end
local function less(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  a1, b1 = tonumber(a1), tonumber(b1)
  return a1 < b1 or a1 == b1 and tonumber(a2) < tonumber(b2)
end
local master = history()
if not master then return redis.error_reply('READONLY a replica may be behind') end
local name = redis.call('GET', KEYS[2])
local known = name and name .. '.' .. master == ARGV[1] and ARGV[2] ~= ''
if not name or known and less(ends(), ARGV[2]) then
  name, known = ARGV[4], false
  redis.call('SET', KEYS[2], name)
end
local generation = name .. '.' .. master
local start = '-'
local ending
if known then
  start = '(' .. ARGV[2]
elseif ARGV[6] then
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
  ending = last[1] and last[1][1] or '0-0'
  start = '(' .. ending
end
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
return {generation, time[1], time[2], more, entries, ending}
`)

// decodeBatch reads what readScript answers.
func decodeBatch(from command.LogPosition, raw []any) (b command.LogBatch, err error) {
	if len(raw) < 5 {
		return b, fmt.Errorf("%d parts", len(raw))
	}
	if len(raw) > 5 {
		end, _ := raw[5].(string)
		from.Generation, _ = raw[0].(string)
		from.Position = command.Position(end)
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
