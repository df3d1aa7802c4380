package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"meterline/cmd/launch"
	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt"
	"meterline/state"
	"meterline/store"
	"meterline/uplink"
)

type standaloneCmd struct {
	launch.Edge
	launch.Logging
	launch.Debugging
	launch.HTTPS
	limits
	patience

	HTTP string `name:"http" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where to answer HTTP; port 0 takes a free one."`
	tune func(*command.WorkerOptions)

	Data string `name:"data" default:"meterline-data" placeholder:"DIR" help:"Where the record is kept; made when missing. An admin token is written to DIR/admin.token."`
}

// Validate is called by kong.
func (c *standaloneCmd) Validate() error {
	return errors.Join(c.Edge.Validate(), c.limits.Validate(), launch.CheckAddress("http", c.HTTP), c.Debugging.Check(c.HTTP), c.HTTPS.Validate())
}

// Run serves until it is told to end.
func (c *standaloneCmd) Run(p *program) error {
	s, err := c.open(p.ctx, c.Logger(p.stderr))
	if err != nil {
		return err
	}
	s.logger.Info("standalone is up", append([]any{"http", s.http, "data", c.Data, "admin_token", s.tokenFile}, s.bound...)...)
	return s.stack.Wait(p.ctx)
}

// standalone is everything in one process, running.
type standalone struct {
	stack     *launch.Stack
	logger    *slog.Logger
	http      string // base URL
	mqtt      string // host:port
	bound     []any  // for the log: where devices connect
	tokenFile string
	token     string // of the admin
}

// standaloneTenant is whose the admin token of a new installation is.
const standaloneTenant fleet.Tenant = "default"

// open makes or opens the record and starts everything.
func (c *standaloneCmd) open(ctx context.Context, logger *slog.Logger) (*standalone, error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	db, settings, err := openFile(ctx, filepath.Join(c.Data, "meterline.db"))
	if err != nil {
		return nil, err
	}
	s := &standalone{stack: launch.NewStack(logger, grace), logger: logger, tokenFile: filepath.Join(c.Data, "admin.token")}
	s.stack.Close("record", db.Close)
	if err := errors.Join(c.Profiles(ctx, s.stack, logger), s.admin(ctx, db, settings), s.start(ctx, c, db, settings)); err != nil {
		s.stack.Unwind()
		return nil, err
	}
	return s, nil
}

func openFile(ctx context.Context, path string) (*store.DB, store.Settings, error) {
	url := "sqlite:" + path
	if err := store.Migrate(ctx, store.Options{URL: url}); err != nil {
		return nil, store.Settings{}, err
	}
	return launch.Store(ctx, url)
}

// admin reads the admin token, or makes it at the first start.
func (s *standalone) admin(ctx context.Context, db *store.DB, settings store.Settings) error {
	b, err := os.ReadFile(s.tokenFile)
	if err == nil {
		s.token = string(b)
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the admin token: %w", err)
	}
	s.token, err = grant(ctx, db, settings, standaloneTenant, "admin", []fleet.Scope{fleet.Admin})
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.tokenFile, []byte(s.token), 0o600); err != nil {
		return fmt.Errorf("write the admin token: %w", err)
	}
	return nil
}

func (s *standalone) start(ctx context.Context, c *standaloneCmd, db *store.DB, settings store.Settings) error {
	live, log, metrics := state.NewMemory(), uplink.NewMemory(0), launch.Metrics()
	edge, err := c.Broker(ctx, launch.EdgePorts{
		Gateway: command.Gateway{ID: "standalone", Incarnation: launch.Incarnation()}, DB: db, Settings: settings, Log: log, Sessions: live, Logger: s.logger, Registerer: metrics,
	})
	if err != nil {
		return err
	}
	listener, err := launch.Listen(ctx, c.HTTP)
	if err != nil {
		edge.Close()
		return err
	}
	publisher := mqtt.NewPublisher(mqtt.PublisherOptions{ID: "standalone", Secret: settings.BackendSecret, Directory: live, LookEvery: 100 * time.Millisecond, Logger: s.logger, Registerer: metrics})
	core := &core{
		db: db, settings: settings, live: live, log: log, publisher: publisher, limits: c.limits, patience: c.patience, https: c.HTTPS, logger: s.logger, metrics: metrics, tune: c.tune,
		checks: map[string]func(context.Context) error{
			"record": func(ctx context.Context) error { _, err := db.Now(ctx); return err },
		},
	}
	s.stack.Go("publisher", publisher.Run)
	service, err := core.work(ctx, s.stack, true)
	if err != nil {
		edge.Close()
		return err
	}
	// Above the worker: the broker drains while there is still somebody to commit what it took.
	s.stack.Go("broker", edge.Run)
	if err := core.serve(s.stack, service, listener); err != nil {
		return err
	}
	s.http, s.mqtt, s.bound = c.Scheme()+"://"+listener.Addr().String(), edge.Addr("mqtt"), launch.Bound(edge)
	return nil
}
