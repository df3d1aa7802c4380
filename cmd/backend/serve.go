package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"meterline/cmd/launch"
	"meterline/mqtt"
	"meterline/state"
)

// grace is how long a backend takes at most to end.
const grace = 15 * time.Second

type serveCmd struct {
	database
	launch.Uplink
	launch.Logging
	launch.Debugging
	launch.HTTPS
	limits
	patience

	HTTP  string   `name:"http" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where to answer HTTP; port 0 takes a free one."`
	Roles []string `default:"api,work" help:"What to do: api, work or both. Health and metrics are answered in any case."`
	ID    string   `help:"What gateways know this backend by; default: made anew at each start."`
}

// Validate is called by kong.
func (c *serveCmd) Validate() error {
	for _, r := range c.Roles {
		if r != "api" && r != "work" {
			return fmt.Errorf("--roles: unknown role %q: must be api, work or api,work", r)
		}
	}
	if len(c.Roles) == 0 {
		return errors.New("--roles: must name api, work or both")
	}
	if c.ID != "" { // else it is made anew
		if err := launch.CheckID(c.ID); err != nil {
			return err
		}
	}
	return errors.Join(c.database.Validate(), c.Uplink.Validate(), c.limits.Validate(), launch.CheckAddress("http", c.HTTP), c.Debugging.Check(c.HTTP), c.HTTPS.Validate())
}

// Run serves until it is told to end.
func (c *serveCmd) Run(p *program) error {
	logger := c.Logger(p.stderr)
	db, settings, err := launch.Store(p.ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	stack := launch.NewStack(logger, grace)
	stack.Close("record", db.Close)
	if err := c.Profiles(p.ctx, stack, logger); err != nil {
		stack.Unwind()
		return err
	}
	launch.RedisLog(logger)
	client, err := launch.Redis(p.ctx, c.RedisURL)
	if err != nil {
		stack.Unwind()
		return err
	}
	stack.Close("redis", client.Close)
	metrics := launch.Metrics()
	log, err := c.Uplink.Read(p.ctx, stack, db, client, logger, metrics)
	if err != nil {
		stack.Unwind()
		return err
	}
	if err := c.start(p, stack, &core{db: db, settings: settings, log: log, limits: c.limits, patience: c.patience, https: c.HTTPS, logger: logger, metrics: metrics}, client); err != nil {
		stack.Unwind()
		return err
	}
	return stack.Wait(p.ctx)
}

func (c *serveCmd) start(p *program, stack *launch.Stack, core *core, client redis.UniversalClient) error {
	listener, err := launch.Listen(p.ctx, c.HTTP)
	if err != nil {
		return err
	}
	live := state.NewRedis(client)
	core.live = live
	if c.ID == "" {
		c.ID = uuid.Must(uuid.NewV7()).String()
	}
	publisher := mqtt.NewPublisher(mqtt.PublisherOptions{ID: c.ID, Secret: core.settings.BackendSecret, Directory: live, Logger: core.logger, Registerer: core.metrics})
	core.publisher = publisher
	stack.Go("relief of the live state", live.Run)
	stack.Go("publisher", publisher.Run)
	core.checks = map[string]func(context.Context) error{
		"postgresql": func(ctx context.Context) error { _, err := core.db.Now(ctx); return err },
		"redis":      func(ctx context.Context) error { return client.Ping(ctx).Err() },
	}
	service, err := core.work(p.ctx, stack, slices.Contains(c.Roles, "work"))
	if err != nil {
		return err
	}
	if slices.Contains(c.Roles, "api") {
		err = core.serve(stack, service, listener)
	} else {
		err = core.health(stack, listener)
	}
	core.logger.Info("backend is up", "http", c.Scheme()+"://"+listener.Addr().String(), "roles", c.Roles, "id", c.ID)
	return err
}
