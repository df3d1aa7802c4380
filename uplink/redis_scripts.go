package uplink

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// generationLua is what scripts about generations share. history is the id of the history of the data that this master
// has; nil on a replica.
const generationLua = `
local function history()
  local info = redis.call('INFO', 'replication')
  if not string.find(info, 'role:master', 1, true) then return nil end
  return string.match(info, 'master_replid:(%x+)')
end
`

// pipelining is a client, or one node.
type pipelining interface {
	Pipelined(ctx context.Context, f func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

// call is one run of a script on a partition.
type call struct {
	partition int
	args      []any
}

// runAll runs a script once per call, all of them together, and then what else is given. The answers are in the calls'
// order, each with its own error.
func runAll(ctx context.Context, c pipelining, s *redis.Script, calls []call, then ...func(context.Context, redis.Pipeliner)) []*redis.Cmd {
	answers := pipeline(ctx, c, s.EvalSha, calls, then)
	var again []call
	var places []int
	for i, a := range answers {
		if redis.HasErrorPrefix(a.Err(), "NOSCRIPT") {
			again, places = append(again, calls[i]), append(places, i)
		}
	}
	for i, a := range pipeline(ctx, c, s.Eval, again, then) {
		answers[places[i]] = a
	}
	return answers
}

type evalFunc func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

func pipeline(ctx context.Context, c pipelining, eval evalFunc, calls []call, then []func(context.Context, redis.Pipeliner)) []*redis.Cmd {
	if len(calls) == 0 {
		return nil
	}
	answers := make([]*redis.Cmd, len(calls))
	_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error { // each answer carries its own error
		for i, one := range calls {
			answers[i] = eval(ctx, p, keysOf(one.partition), one.args...)
		}
		for _, f := range then {
			f(ctx, p)
		}
		return nil
	})
	return answers
}
