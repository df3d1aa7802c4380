package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/store"
	"meterline/uplink"
)

// Uplink are the flags of where the live state and the uplink log are.
type Uplink struct {
	RedisURL        string `name:"redis-url" default:"redis://127.0.0.1:6379/0" placeholder:"URL" help:"Redis for the live state: redis://…, redis+sentinel://HOST:PORT,HOST:PORT/MASTER/NUMBER or redis+cluster://HOST:PORT,HOST:PORT; rediss… for TLS."`
	UplinkRedisURL  string `name:"uplink-redis-url" placeholder:"URL" help:"Redis for the uplink log; default: the same."`
	UplinkIn        string `name:"uplink" default:"redis" enum:"redis,store" help:"Which uplink log gateways append to: redis or store (a table in PostgreSQL). Backends read both."`
	UplinkReplicas  int    `name:"uplink-replicas" default:"0" help:"Replicas of that Redis that must have received an uplink before it is acknowledged (WAIT)."`
	UplinkLimit     int    `name:"uplink-limit" default:"1000000" help:"Entries that one of the 16 partitions of the uplink log holds at most. When it is full uplinks are not acknowledged until backends have caught up."`
	AllowWeakUplink bool   `name:"allow-weak-uplink" help:"Start although the Redis of the uplink log can lose what it acknowledged."`
}

// Validate is called by kong.
func (u Uplink) Validate() error {
	err := CheckRedisURL("redis-url", u.RedisURL)
	if u.UplinkRedisURL != "" {
		err = errors.Join(err, CheckRedisURL("uplink-redis-url", u.UplinkRedisURL))
	}
	switch {
	case u.UplinkReplicas < 0 || u.UplinkReplicas > mostReplicas:
		err = errors.Join(err, fmt.Errorf("--uplink-replicas: must be 0 to %d", mostReplicas))
	case u.UplinkReplicas > 0 && u.UplinkIn != "redis":
		err = errors.Join(err, errors.New("--uplink-replicas: is for --uplink redis"))
	}
	if u.UplinkLimit < 1000 || u.UplinkLimit > 100_000_000 {
		err = errors.Join(err, errors.New("--uplink-limit: must be 1000 to 100000000"))
	}
	return err
}

// mostReplicas bounds a mistake: nobody waits for more.
const mostReplicas = 10

// Alarms is what a log says that is wrong with it; nil when it never says anything.
func Alarms(log command.Log) func() []string {
	if l, says := log.(interface{ Alarms() []string }); says {
		return l.Alarms
	}
	return nil
}

// Holds is what a log says that it holds; nil when it never says.
func Holds(log command.Log) func() (command.Holding, bool) {
	if l, says := log.(interface {
		Holds() (command.Holding, bool)
	}); says {
		return l.Holds
	}
	return nil
}

// Append opens the uplink log that a gateway appends to. client is that of the live state.
func (u Uplink) Append(ctx context.Context, stack *Stack, db *store.DB, client redis.UniversalClient, logger *slog.Logger, registerer prometheus.Registerer) (command.Log, error) {
	if u.UplinkIn == "store" {
		return u.table(stack, db, logger, registerer, registerer), nil
	}
	log, err := u.streams(ctx, stack, client, logger, registerer, registerer)
	if err != nil {
		return nil, err
	}
	if !u.AllowWeakUplink { // else the log looks by itself when it runs, and says so
		if err := log.CheckDurability(ctx); err != nil {
			return nil, fmt.Errorf("%w (--allow-weak-uplink starts all the same)", err)
		}
	}
	stack.Go("uplink log in redis", log.Run)
	return log, nil
}

// Read opens both uplink logs, whichever gateways append to: what lay in a log that nobody reads would wait for ever.
func (u Uplink) Read(ctx context.Context, stack *Stack, db *store.DB, client redis.UniversalClient, logger *slog.Logger, registerer prometheus.Registerer) (command.Log, error) {
	// Their metrics have the same names: those of the log that is appended to are shown.
	ofStreams, ofTable := registerer, prometheus.Registerer(nil)
	if u.UplinkIn == "store" {
		ofStreams, ofTable = nil, registerer
	}
	streams, err := u.streams(ctx, stack, client, logger, ofStreams, registerer)
	if err != nil {
		return nil, err
	}
	stack.Go("uplink log in redis", streams.Run)
	table := u.table(stack, db, logger, ofTable, registerer)
	first, second := command.Log(streams), command.Log(table)
	if u.UplinkIn == "store" {
		first, second = second, first
	}
	both := uplink.NewBoth(first, second, uplink.Quiet)
	stack.Go("uplink logs", both.Run)
	return both, nil
}

func (u Uplink) table(stack *Stack, db *store.DB, logger *slog.Logger, registerer, backlogs prometheus.Registerer) *store.UplinkLog {
	log := db.UplinkLog(store.UplinkLogOptions{Bound: u.UplinkLimit, Logger: logger, Registerer: registerer, Backlogs: backlogs})
	stack.Go("uplink log in the store", log.Run)
	return log
}

// streams opens the log in Redis. It has to be run.
func (u Uplink) streams(ctx context.Context, stack *Stack, client redis.UniversalClient, logger *slog.Logger, registerer, backlogs prometheus.Registerer) (*uplink.Redis, error) {
	if u.UplinkRedisURL != "" {
		var err error
		if client, err = Redis(ctx, u.UplinkRedisURL); err != nil {
			return nil, err
		}
		stack.Close("redis of the uplink log", client.Close)
	}
	log := uplink.NewRedis(client, uplink.Options{
		Limit: u.UplinkLimit, Replicas: u.UplinkReplicas, AllowWeak: u.AllowWeakUplink, Logger: logger, Registerer: registerer, Backlogs: backlogs,
	})
	return log, nil
}
