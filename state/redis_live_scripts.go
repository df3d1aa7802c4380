package state

import (
	"strings"

	"github.com/redis/go-redis/v9"
)

// Versions are compared as Lua numbers, exact up to 2^53. KEYS of a command are always: 1 operations, 2 meta, 3 ahead.

// historyLua is what all scripts about cached things share. history is the id of the history of the data that this master
// has; nil on a replica, which may be behind. It is the value of the mark complete: what another master wrote, or this one
// before a restart, may have been followed by changes that were lost on the way, and counts as missing. It costs some ten
// microseconds, so it is asked for only where something is cached.
const historyLua = `
local asked, id
local function history()
  if not asked then
    asked = true
    local info = redis.call('INFO', 'replication')
    if string.find(info, 'role:master', 1, true) then id = string.match(info, 'master_replid:(%x+)') end
  end
  return id
end
local function stands(complete)
  return complete and complete == history()
end
local function ours(token)
  local is = token and history()
  return is and string.sub(token, -#is) == is
end
`

// liveLua is what the scripts about commands share. gap says whether polls have waited too long for a missing change.
const liveLua = historyLua + `
local function drop()
  redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
  return -1
end
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function gap(since, grace)
  return since and now() - tonumber(since) > tonumber(grace)
end
`

// prepareScript answers the token to fill the command with.
//
//	KEYS 1 operations, 2 meta, 3 ahead
//	ARGV 1 a fresh token, 2 how long it is good for in ms, 3 grace of a gap in ms
var prepareScript = redis.NewScript(liveLua + `
local meta = redis.call('HMGET', KEYS[2], 'complete', 'held', 'ahead', 'building')
if stands(meta[1]) and redis.call('HLEN', KEYS[1]) == tonumber(meta[2]) and not gap(meta[3], ARGV[3]) then
  return ARGV[1]
end
local token = ARGV[1] .. ':' .. (history() or '')
if not meta[1] and ours(meta[4]) then
  token = meta[4]
else
  drop()
  redis.call('HSET', KEYS[2], 'building', token)
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return token
`)

// fillScript puts a copy of the operations and the meta fields in place, when the token still stands and no change newer
// than the snapshot was seen since. It answers 1 when it did, 0 when not.
//
//	KEYS 1 operations, 2 meta, 3 ahead, 4 copy of the operations
//	ARGV 1 token, 2 number of operations, 3 version of the snapshot, 4 lifetime in ms, then meta fields and values
var fillScript = redis.NewScript(liveLua + `
local meta = redis.call('HMGET', KEYS[2], 'complete', 'building', 'seen')
if meta[1] or meta[2] ~= ARGV[1] or not ours(meta[2]) or tonumber(meta[3] or 0) > tonumber(ARGV[3])
    or redis.call('HLEN', KEYS[4]) ~= tonumber(ARGV[2]) then
  redis.call('UNLINK', KEYS[4])
  return 0
end
drop()
if tonumber(ARGV[2]) > 0 then
  redis.call('RENAME', KEYS[4], KEYS[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
redis.call('HSET', KEYS[2], 'complete', history(), unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
`)

// loadScript answers command, version, status, counts, errors, finished_at and the first operations in order. It answers nil when
// the command is not there as a whole.
//
//	KEYS 1 operations, 2 meta
//	ARGV 1 how many operations, 2 grace of a gap in ms
var loadScript = redis.NewScript(liveLua + `
local meta = redis.call('HMGET', KEYS[2], 'complete', 'held', 'ahead', 'first',
  'command', 'version', 'status', 'counts', 'errors', 'finished_at')
local held, page = tonumber(meta[2]), tonumber(ARGV[1])
if not stands(meta[1]) or redis.call('HLEN', KEYS[1]) ~= held or gap(meta[3], ARGV[2]) then
  return nil
end
local ids = {}
for id in string.gmatch(meta[4], '%S+') do
  if #ids >= page then break end
  ids[#ids + 1] = id
end
local operations = {}
if #ids > 0 then
  operations = redis.call('HMGET', KEYS[1], unpack(ids))
end
for i = 1, #operations do
  if not operations[i] then return nil end
end
return {meta[5], meta[6], meta[7], meta[8], meta[9], meta[10], operations}
`)

// applyScript takes one change over. It answers 1 when it did, 2 when it keeps the change until the one before it
// comes, 0 when there was nothing to do, and -1 when the command had to be dropped.
//
//	KEYS 1 operations, 2 meta, 3 ahead
//	ARGV 1 version before, 2 version after, 3 bulk, 4 lifetime in ms, 5 grace of a gap in ms, 6 most changes kept ahead,
//	     7 status, 8 counts, 9 errors, 10 finished_at, then device ids and operations
var applyScript = redis.NewScript(applyLua)

const applyLua = liveLua + `
local function version(operation)
  return tonumber(string.match(operation, '^{"version":(%d+)') or 0)
end
local from, to = tonumber(ARGV[1]), tonumber(ARGV[2])
local meta = redis.call('HMGET', KEYS[2], 'complete', 'version', 'held', 'ahead', 'building', 'seen')
if meta[1] and not stands(meta[1]) then return drop() end
if not meta[1] then
  if meta[5] and ARGV[3] == '1' then
    redis.call('HDEL', KEYS[2], 'building')
  elseif meta[5] and to > tonumber(meta[6] or 0) then
    redis.call('HSET', KEYS[2], 'seen', ARGV[2])
  end
  return 0
end
if ARGV[3] == '1' then return drop() end
local stored = tonumber(meta[2])
if to <= stored then return 0 end
if from < stored or redis.call('HLEN', KEYS[1]) ~= tonumber(meta[3]) then return drop() end
if from > stored then
  if gap(meta[4], ARGV[5]) or redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[6]) then return drop() end
  redis.call('HSET', KEYS[3], ARGV[1], cmsgpack.pack(ARGV))
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
  redis.call('HSETNX', KEYS[2], 'ahead', now())
  return 2
end
local change = ARGV
repeat
  for i = 11, #change, 2 do
    local old = redis.call('HGET', KEYS[1], change[i])
    if not old then return drop() end
    if version(change[i + 1]) > version(old) then
      redis.call('HSET', KEYS[1], change[i], change[i + 1])
    end
  end
  redis.call('HSET', KEYS[2], 'version', change[2], 'status', change[7], 'counts', change[8], 'errors', change[9],
    'finished_at', change[10])
  local follows = redis.call('HGET', KEYS[3], change[2])
  if follows then
    redis.call('HDEL', KEYS[3], change[2])
    change = cmsgpack.unpack(follows)
  end
until not follows
if redis.call('HLEN', KEYS[3]) == 0 then
  redis.call('HDEL', KEYS[2], 'ahead')
else
  redis.call('HSET', KEYS[2], 'ahead', now())
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
`

// unguarded is applyScript as it must not be: whatever comes last stays.
func unguarded() *redis.Script {
	text := strings.Replace(applyLua, "local stored = tonumber(meta[2])", "local stored = from", 1)
	text = strings.Replace(text, "if to <= stored then return 0 end", "", 1)
	return redis.NewScript(strings.Replace(text, "if version(change[i + 1]) > version(old) then", "if true then", 1))
}
