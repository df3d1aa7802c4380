package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"meterline/cmd/launch"
	"meterline/command"
	"meterline/console"
	"meterline/fleet"
	"meterline/httpapi"
	"meterline/store"
)

// limits are the flags of what one client may take.
type limits struct {
	RequestRate float64 `name:"request-rate" default:"500" help:"Requests per second of one token, in bursts of twice as many; 0 sets no limit."`
	MaxOpen     int     `name:"max-open" default:"5000000" help:"Open operations of one tenant."`
	MaxLetters  int     `name:"max-dead-letters" default:"10000" help:"Open dead letters of one endpoint; further ones are counted, not kept."`
}

// Validate is called by kong.
func (l limits) Validate() error {
	if l.RequestRate < 0 {
		return fmt.Errorf("--request-rate: must not be negative")
	}
	if l.MaxOpen < 1 {
		return fmt.Errorf("--max-open: must be at least 1")
	}
	if l.MaxLetters < 1 {
		return fmt.Errorf("--max-dead-letters: must be at least 1")
	}
	return nil
}

// liveState is everything the live state is to the backend.
type liveState interface {
	command.Live
	command.Newest
	command.Notices
	command.Presence
}

// core is the API and the workers over one record, one live state and one uplink log: what serve and standalone have in
// common.
type core struct {
	db        *store.DB
	settings  store.Settings
	live      liveState
	log       command.Log
	publisher command.Publisher
	checks    map[string]func(context.Context) error
	limits    limits
	patience  patience
	logger    *slog.Logger
	metrics   *prometheus.Registry
	https     launch.HTTPS
	overviews *command.Overviews           // by work
	tune      func(*command.WorkerOptions) // nil; tests shorten leases
}

// work puts the clock and, when asked for, the worker on the stack. The service that it gives belongs above them: requests
// end first.
func (c *core) work(ctx context.Context, stack *launch.Stack, work bool) (*command.Service, error) {
	clock := command.NewClock(c.db)
	if err := clock.Measure(ctx); err != nil {
		return nil, fmt.Errorf("ask for the database's clock: %w", err)
	}
	stack.Go("clock", clock.Run)
	readers, owner := &command.Readers{}, uuid.Must(uuid.NewV7()).String()
	c.overviews = command.NewOverviews(c.db, c.live, clock.Now, c.logger)
	service := command.NewService(command.ServiceOptions{
		Book: c.db, Ledger: c.db, Live: c.live, Newest: c.live, Notices: c.live, Clock: clock, Readers: readers, Logger: c.logger,
		MaxOpen: c.limits.MaxOpen, MaxAttempts: c.patience.MaxAttempts.PerKind, Partitions: c.settings.Partitions,
	})
	if work {
		tally := command.NewTally(command.TallyOptions{Owner: owner, Ledger: c.db, Book: c.db, Holds: launch.Holds(c.log), Logger: c.logger})
		stack.Go("counts per minute", tally.Run)
		opt := command.WorkerOptions{
			Owner: owner, Ledger: tally, Log: c.log, Presence: c.live, Publisher: c.publisher,
			Live: c.live, Notices: c.live, Clock: clock, Readers: readers, Logger: c.logger, Metrics: command.NewMetrics(c.metrics),
			Partition: func(id fleet.DeviceID) int { return fleet.Partition(id, c.settings.Partitions) },
			Letters:   c.db, MaxLetters: c.limits.MaxLetters,
			RunTimeout: c.patience.RunTimeout.PerKind, RetryAfter: c.patience.RetryAfter.PerKind,
		}
		if c.tune != nil {
			c.tune(&opt)
		}
		stack.Go("worker", command.NewWorker(opt).Run)
		stack.Go("expander", command.NewExpander(service).Run)
	}
	return service, nil
}

// health answers for health and metrics alone.
func (c *core) health(stack *launch.Stack, listener net.Listener) error {
	return c.listen(stack, listener, httpapi.Health(c.checks, c.metrics, c.logger, launch.Alarms(c.log)))
}

// listen puts the HTTP server on the stack.
func (c *core) listen(stack *launch.Stack, listener net.Listener, handler http.Handler) error {
	secure, err := c.https.Open(stack, c.logger, c.metrics)
	if err != nil {
		return err
	}
	stack.Go("http", func(ctx context.Context) error { return httpapi.Serve(ctx, listener, secure, handler, c.logger) })
	return nil
}

// serve answers HTTP.
func (c *core) serve(stack *launch.Stack, service *command.Service, listener net.Listener) error {
	stack.Go("notices", service.Run)
	devices := fleet.NewService(fleet.Options{
		Registry: c.db, Tokens: c.db, Users: c.db, Sessions: c.db, Pepper: c.settings.Pepper, PasswordCost: passwordCost,
		Touched: func(ctx context.Context, ids []string) {
			ended := make([]command.ID, len(ids))
			for i, id := range ids {
				ended[i] = command.ID(id)
			}
			service.Touched(ctx, ended)
		},
	})
	api, err := httpapi.New(httpapi.Options{
		Commands: service, Fleet: devices, Sessions: c.live, Audit: c.db, Overview: c.overviews, Logger: c.logger, Metrics: c.metrics, Gatherer: c.metrics, Checks: c.checks, Alarms: launch.Alarms(c.log),
		Requests: rate.Limit(c.limits.RequestRate), Burst: int(2 * c.limits.RequestRate),
	})
	if err != nil {
		return err
	}
	return c.listen(stack, listener, withConsole(api))
}

// withConsole is the API with the page of the operations centre beside it.
func withConsole(api http.Handler) http.Handler {
	page := console.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if console.Owns(r.URL.Path) {
			page.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// grant makes a token and gives its secret.
func grant(ctx context.Context, db *store.DB, settings store.Settings, tenant fleet.Tenant, name string, scopes []fleet.Scope) (string, error) {
	service := fleet.NewService(fleet.Options{Registry: db, Tokens: db, Pepper: settings.Pepper})
	_, secret, err := service.GrantToken(ctx, commandLine(tenant), fleet.NewToken{Name: name, Scopes: scopes})
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return secret, nil
}
