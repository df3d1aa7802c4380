package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/meterread"
)

// The newest readings of a device are the hash meterline:latest:{<device>}, item -> JSON of its reading. Beside it
// meterline:latest:{<device>}:meta holds the mark complete (see historyLua) and, per item, the age by which readings are compared; or,
// while somebody reads the record, only the token building.

var _ command.Newest = (*Redis)(nil)

func latestKeys(d meterread.DeviceID) []string {
	k := "meterline:latest:{" + string(d) + "}"
	return []string{k, k + ":meta"}
}

// age orders readings of one item as text: by the meter's clock, then by receipt.
func age(r meterread.Reading) string {
	const micros = "2006-01-02T15:04:05.000000"
	return r.ReadAt.UTC().Format(micros) + " " + r.ReceivedAt.UTC().Format(micros)
}

// Latest is the newest reading of each item of a device, in order of the items; false when that is not known here.
func (r *Redis) Latest(ctx context.Context, d meterread.DeviceID) ([]meterread.Reading, bool, error) {
	got, err := latestScript.Run(ctx, r.client, latestKeys(d)).StringSlice()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("load the newest readings of %s: %w", d, err)
	}
	rs, err := decodeReadings(got)
	if err != nil {
		return nil, false, fmt.Errorf("decode a newest reading of %s: %w", d, err)
	}
	return rs, true, nil
}

// decodeReadings reads what the hash has of each item.
func decodeReadings(got []string) ([]meterread.Reading, error) {
	rs := make([]meterread.Reading, len(got))
	for i, s := range got {
		if err := json.Unmarshal([]byte(s), &rs[i]); err != nil {
			return nil, err
		}
	}
	sortByItem(rs)
	return rs, nil
}

// PrepareLatest begins to fill in a device's newest readings; see Prepare.
func (r *Redis) PrepareLatest(ctx context.Context, d meterread.DeviceID) (string, error) {
	token, err := prepareLatestScript.Run(ctx, r.client, latestKeys(d), newToken(), ms(buildTime)).Text()
	if err != nil {
		return "", fmt.Errorf("prepare the newest readings of %s: %w", d, err)
	}
	return token, nil
}

// FillLatest puts in the newest reading of each item, unless a reading of the device came in since PrepareLatest.
func (r *Redis) FillLatest(ctx context.Context, d meterread.DeviceID, token string, rs []meterread.Reading) error {
	if r.full.Load() {
		return nil
	}
	args, err := readingArgs(rs, token, ms(lifetime))
	if err != nil {
		return err
	}
	if err := fillLatestScript.Run(ctx, r.client, latestKeys(d), args...).Err(); err != nil {
		return fmt.Errorf("fill the newest readings of %s: %w", d, err)
	}
	return nil
}

// PutReadings brings the newest readings up to date where they are cached: a reading counts when it is not older, by
// the meter's clock and then by receipt, than the one that is there. Devices that Redis could not be told about are
// dropped, at the latest by the next call that reaches it: an old value must not pass for the newest.
func (r *Redis) PutReadings(ctx context.Context, rs []meterread.Reading) error {
	of := byDevice(rs)
	if err := r.settle(ctx); err != nil {
		for d := range of {
			r.owe(latestKeys(d)...)
		}
		return err
	}
	var calls []call
	for d, rs := range of {
		args, err := readingArgs(rs, ms(lifetime))
		if err != nil {
			return err
		}
		calls = append(calls, call{latestKeys(d), args})
	}
	answers, err := r.runAll(ctx, putLatestScript, calls)
	if err == nil {
		return nil
	}
	for i, a := range answers {
		if a.Err() != nil {
			r.owe(calls[i].keys...)
		}
	}
	return errors.Join(fmt.Errorf("put newest readings: %w", err), r.settle(ctx))
}

// ForgetReadings drops the newest readings of devices: they are read from the record again.
func (r *Redis) ForgetReadings(ctx context.Context, devices []meterread.DeviceID) error {
	for _, d := range devices {
		r.owe(latestKeys(d)...)
	}
	return r.settle(ctx)
}

// readingArgs are head, then item, age and JSON of each reading.
func readingArgs(rs []meterread.Reading, head ...any) ([]any, error) {
	args := head
	for _, r := range rs {
		b, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode a reading of %s: %w", r.DeviceID, err)
		}
		args = append(args, string(r.Item), age(r), b)
	}
	return args, nil
}

func byDevice(rs []meterread.Reading) map[meterread.DeviceID][]meterread.Reading {
	of := map[meterread.DeviceID][]meterread.Reading{}
	for _, r := range rs {
		of[r.DeviceID] = append(of[r.DeviceID], r)
	}
	return of
}

func sortByItem(rs []meterread.Reading) {
	slices.SortFunc(rs, func(a, b meterread.Reading) int { return cmp.Compare(a.Item, b.Item) })
}

// KEYS of a device are always: 1 readings, 2 meta.

// latestScript answers the readings in no order, nil when they are not there as a whole.
var latestScript = redis.NewScript(historyLua + `
local held = redis.call('HGET', KEYS[2], 'complete')
if not stands(held) or redis.call('HLEN', KEYS[1]) ~= redis.call('HLEN', KEYS[2]) - 1 then return nil end
return redis.call('HVALS', KEYS[1])
`)

// prepareLatestScript answers the token to fill the readings with; one that is good for nothing when they are there.
//
//	ARGV 1 a fresh token, 2 how long it is good for in ms
var prepareLatestScript = redis.NewScript(historyLua + `
local meta = redis.call('HMGET', KEYS[2], 'complete', 'building')
if stands(meta[1]) and redis.call('HLEN', KEYS[1]) == redis.call('HLEN', KEYS[2]) - 1 then return ARGV[1] end
local token = ARGV[1] .. ':' .. (history() or '')
if not meta[1] and ours(meta[2]) then
  token = meta[2]
else
  redis.call('UNLINK', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'building', token)
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return token
`)

// fillLatestScript puts the readings in place when the token still stands. It answers 1 when it did, 0 when not.
//
//	ARGV 1 token, 2 lifetime in ms, then item, age and reading of each
var fillLatestScript = redis.NewScript(historyLua + `
if not ours(ARGV[1]) or redis.call('HGET', KEYS[2], 'building') ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[1], KEYS[2])
for i = 3, #ARGV, 3 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
end
redis.call('HSET', KEYS[2], 'complete', history())
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
`)

// putLatestScript writes those readings that are not older than what is there, where it is there as a whole; else it
// voids the token of whoever fills it in just now. It answers how many it wrote.
//
//	ARGV 1 lifetime in ms, then item, age and reading of each
var putLatestScript = redis.NewScript(historyLua + `
local held = redis.call('HGET', KEYS[2], 'complete')
if not stands(held) then
  if held then redis.call('UNLINK', KEYS[1], KEYS[2]) else redis.call('HDEL', KEYS[2], 'building') end
  return 0
end
local written = 0
for i = 2, #ARGV, 3 do
  local old = redis.call('HGET', KEYS[2], ARGV[i])
  if not old or ARGV[i + 1] >= old then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    written = written + 1
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return written
`)
