package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/meterread"
)

const gatewaysKey = "meterline:gateways"

func presenceKey(d meterread.DeviceID) string { return "meterline:presence:{" + string(d) + "}" }

// announced is a gateway's entry in meterline:gateways.
type announced struct {
	Address     string `json:"address"`
	Incarnation string `json:"incarnation"`
	Beat        int64  `json:"beat"`
}

// openedSession is a session as meterline:sessions tells of it. openScript writes the epoch, so it is last here.
type openedSession struct {
	Endpoint    meterread.DeviceID `json:"endpoint"`
	Gateway     string             `json:"gateway"`
	Incarnation string             `json:"incarnation"`
	Since       time.Time          `json:"since"`
	RemoteAddr  string             `json:"remote_addr"`
	Epoch       int64              `json:"epoch"`
}

// Open makes s the newest session of its endpoint and tells the other gateways. Its epoch, which is returned, is
// Redis' clock in microseconds or one more than the epoch before, whichever is larger: so it rises after a flush, too.
// The epoch in s is not looked at.
func (r *Redis) Open(ctx context.Context, s command.Session) (int64, error) {
	s.Epoch = 0
	b, err := json.Marshal(openedSession{s.Endpoint, s.Gateway, s.Incarnation, s.Since.UTC(), s.RemoteAddr, s.Epoch})
	if err != nil {
		return 0, fmt.Errorf("encode session: %w", err)
	}
	head := b[:len(b)-len("0}")]
	epoch, err := openScript.Run(ctx, r.client, []string{presenceKey(s.Endpoint)},
		sessionsChannel, head, s.Gateway, s.Incarnation, since(s), s.RemoteAddr).Int64()
	if err != nil {
		return 0, fmt.Errorf("open session of %s: %w", s.Endpoint, err)
	}
	return epoch, nil
}

func since(s command.Session) string { return s.Since.UTC().Format(time.RFC3339Nano) }

// Close removes s if it is still the newest session of its endpoint.
func (r *Redis) Close(ctx context.Context, s command.Session) error {
	if err := closeScript.Run(ctx, r.client, []string{presenceKey(s.Endpoint)}, s.Epoch).Err(); err != nil {
		return fmt.Errorf("close session of %s: %w", s.Endpoint, err)
	}
	return nil
}

// Restore writes presence again where it is missing or older. Nobody is told.
func (r *Redis) Restore(ctx context.Context, sessions []command.Session) error {
	calls := make([]call, len(sessions))
	for i, s := range sessions {
		calls[i] = call{[]string{presenceKey(s.Endpoint)}, []any{s.Epoch, s.Gateway, s.Incarnation, since(s), s.RemoteAddr}}
	}
	if _, err := r.runAll(ctx, restoreScript, calls); err != nil {
		return fmt.Errorf("restore sessions: %w", err)
	}
	return nil
}

// Lost says whether this incarnation of the gateway is not announced, because it never was or Redis was flushed since, or
// whether other masters answer than at its last announcement: after a failover, or a restart, the last sessions may be
// missing.
func (r *Redis) Lost(ctx context.Context, gateway, incarnation string) (bool, error) {
	now, err := r.histories(ctx)
	if err != nil {
		return false, fmt.Errorf("look at the history of Redis: %w", err)
	}
	r.mu.Lock()
	r.looked = now
	another := r.announced != now || r.vanished
	r.mu.Unlock()
	raw, err := r.client.HGet(ctx, gatewaysKey, gateway).Bytes()
	listed := !errors.Is(err, redis.Nil)
	if err != nil && listed {
		return false, fmt.Errorf("look up gateway %s: %w", gateway, err)
	}
	r.mu.Lock()
	r.listed = listed
	r.mu.Unlock()
	if !listed {
		return true, nil
	}
	var a announced
	if err := json.Unmarshal(raw, &a); err != nil {
		return true, nil //nolint:nilerr // an entry that nobody can read announces nobody: it is to be written again
	}
	return another || a.Incarnation != incarnation, nil
}

// Announce is the heartbeat of a gateway: its presence counts only while beat rises.
func (r *Redis) Announce(ctx context.Context, g command.Gateway, beat int64) error {
	b, err := json.Marshal(announced{g.Address, g.Incarnation, beat})
	if err != nil {
		return fmt.Errorf("encode gateway: %w", err)
	}
	added, err := r.client.HSet(ctx, gatewaysKey, g.ID, b).Result()
	if err != nil {
		return fmt.Errorf("announce gateway %s: %w", g.ID, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.announced, r.vanished = r.looked, added > 0 && r.listed // flushed since Lost looked: the next Lost tells
	return nil
}

// Withdraw removes a gateway that ends in good order, unless another incarnation has taken its place.
func (r *Redis) Withdraw(ctx context.Context, g command.Gateway) error {
	err := withdrawScript.Run(ctx, r.client, []string{gatewaysKey}, g.ID, `"incarnation":`+strconv.Quote(g.Incarnation)).Err()
	if err != nil {
		return fmt.Errorf("withdraw gateway %s: %w", g.ID, err)
	}
	return nil
}

// Watch calls f for sessions opened anywhere until ctx is done. Sessions may be missed while Redis is away.
func (r *Redis) Watch(ctx context.Context, f func(command.Session)) error {
	return r.subscribe(ctx, sessionsChannel, func(payload string) {
		if s, ok := decodeOpened(payload); ok {
			f(s)
		}
	})
}

// decodeOpened reads what meterline:sessions tells.
func decodeOpened(payload string) (command.Session, bool) {
	var s openedSession
	if json.Unmarshal([]byte(payload), &s) != nil {
		return command.Session{}, false
	}
	return command.Session{Endpoint: s.Endpoint, Gateway: s.Gateway, Incarnation: s.Incarnation, Epoch: s.Epoch,
		Since: s.Since, RemoteAddr: s.RemoteAddr}, true
}

// Sessions looks up the newest session of each endpoint that has one.
func (r *Redis) Sessions(ctx context.Context, endpoints []meterread.DeviceID) (map[meterread.DeviceID]command.Session, error) {
	found := make(map[meterread.DeviceID]command.Session, len(endpoints))
	for len(endpoints) > 0 {
		part := endpoints[:min(len(endpoints), pipelineLength)]
		endpoints = endpoints[len(part):]
		answers := make([]*redis.MapStringStringCmd, len(part))
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, d := range part {
				answers[i] = p.HGetAll(ctx, presenceKey(d))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look up sessions: %w", err)
		}
		for i, a := range answers {
			if s, ok := decodeSession(part[i], a.Val()); ok {
				found[part[i]] = s
			}
		}
	}
	return found, nil
}

func decodeSession(d meterread.DeviceID, fields map[string]string) (command.Session, bool) {
	epoch, err := strconv.ParseInt(fields["epoch"], 10, 64)
	if err != nil {
		return command.Session{}, false
	}
	at, _ := time.Parse(time.RFC3339Nano, fields["since"]) // shown to people only
	return command.Session{Endpoint: d, Gateway: fields["gateway"], Incarnation: fields["incarnation"], Epoch: epoch,
		Since: at, RemoteAddr: fields["remote_addr"]}, true
}

// Gateways lists the gateways with their heartbeat counters, those that have died included.
func (r *Redis) Gateways(ctx context.Context) (map[command.Gateway]int64, error) {
	all, err := r.client.HGetAll(ctx, gatewaysKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list gateways: %w", err)
	}
	return decodeGateways(all)
}

// decodeGateways reads the hash meterline:gateways.
func decodeGateways(all map[string]string) (map[command.Gateway]int64, error) {
	beats := make(map[command.Gateway]int64, len(all))
	for id, raw := range all {
		var a announced
		if err := json.Unmarshal([]byte(raw), &a); err != nil {
			return nil, fmt.Errorf("decode gateway %s: %w", id, err)
		}
		beats[command.Gateway{ID: id, Incarnation: a.Incarnation, Address: a.Address}] = a.Beat
	}
	return beats, nil
}

// Epochs are microseconds since 1970, which Lua numbers hold exactly until the year 2255.

// openScript writes the newest session of an endpoint, publishes it and answers its epoch.
//
//	KEYS 1 presence
//	ARGV 1 channel, 2 JSON of the session up to its epoch, 3 gateway, 4 incarnation, 5 since, 6 remote address
var openScript = redis.NewScript(`
local t = redis.call('TIME')
local epoch = t[1] * 1000000 + t[2]
local before = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
if epoch <= before then epoch = before + 1 end
epoch = string.format('%.0f', epoch)
redis.call('HSET', KEYS[1], 'gateway', ARGV[3], 'incarnation', ARGV[4], 'epoch', epoch, 'since', ARGV[5], 'remote_addr', ARGV[6])
redis.call('PUBLISH', ARGV[1], ARGV[2] .. epoch .. '}')
return epoch
`)

// closeScript removes a session when its epoch is the newest.
//
//	KEYS 1 presence
//	ARGV 1 epoch
var closeScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`)

// restoreScript writes a session where there is none, or an older one.
//
//	KEYS 1 presence
//	ARGV 1 epoch, 2 gateway, 3 incarnation, 4 since, 5 remote address
var restoreScript = redis.NewScript(`
local before = redis.call('HGET', KEYS[1], 'epoch')
if before and tonumber(before) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'gateway', ARGV[2], 'incarnation', ARGV[3], 'epoch', ARGV[1], 'since', ARGV[4], 'remote_addr', ARGV[5])
return 1
`)

// withdrawScript removes a gateway whose entry contains a text.
//
//	KEYS 1 gateways
//	ARGV 1 gateway, 2 text
var withdrawScript = redis.NewScript(`
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry or not string.find(entry, ARGV[2], 1, true) then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
`)
