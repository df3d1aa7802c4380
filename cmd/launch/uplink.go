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

// Uplink are the flags of where the live state and the uplink log are. Gateways and backends must be given the same.
type Uplink struct {
	RedisURL        string `name:"redis-url" default:"redis://127.0.0.1:6379/0" placeholder:"URL" help:"Redis for the live state."`
	UplinkRedisURL  string `name:"uplink-redis-url" placeholder:"URL" help:"Redis for the uplink log; default: the same."`
	UplinkIn        string `name:"uplink" default:"redis" enum:"redis,store" help:"Where the uplink log is: redis or store (a table in PostgreSQL)."`
	AllowWeakUplink bool   `name:"allow-weak-uplink" help:"Start although the Redis of the uplink log can lose what it acknowledged."`
}

// Validate is called by kong.
func (u Uplink) Validate() error {
	err := CheckRedisURL("redis-url", u.RedisURL)
	if u.UplinkRedisURL != "" {
		err = errors.Join(err, CheckRedisURL("uplink-redis-url", u.UplinkRedisURL))
	}
	return err
}

// Open opens the uplink log and puts on the stack what it needs. client is that of the live state.
func (u Uplink) Open(ctx context.Context, stack *Stack, db *store.DB, client redis.UniversalClient, logger *slog.Logger, registerer prometheus.Registerer) (command.Log, error) {
	if u.UplinkIn == "store" {
		log := db.UplinkLog(store.UplinkLogOptions{Logger: logger, Registerer: registerer})
		stack.Go("uplink log", log.Run)
		return log, nil
	}
	if u.UplinkRedisURL != "" {
		var err error
		if client, err = Redis(ctx, u.UplinkRedisURL); err != nil {
			return nil, err
		}
		stack.Close("redis of the uplink log", client.Close)
	}
	log := uplink.NewRedis(client, uplink.Options{Logger: logger, Registerer: registerer})
	if err := log.CheckDurability(ctx); err != nil {
		if !u.AllowWeakUplink {
			return nil, fmt.Errorf("%w (--allow-weak-uplink starts all the same)", err)
		}
		logger.Warn("the uplink log is weak", "error", err)
	}
	stack.Go("uplink log", log.Run)
	return log, nil
}
