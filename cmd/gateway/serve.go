package main

import (
	"context"
	"io"
	"net"
	"time"

	"meterline/cmd/launch"
	"meterline/command"
	"meterline/httpapi"
	"meterline/state"
	"meterline/uplink"
)

// grace is how long a gateway takes at most to end; the broker's own drain takes at most 8 s of it.
const grace = 10 * time.Second

// serve runs the gateway until ctx is done, then drains it.
func (c *config) serve(ctx context.Context, stderr io.Writer) error {
	logger := c.Logger(stderr)
	db, settings, err := launch.Store(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	stack := launch.NewStack(logger, grace)
	defer stack.Unwind()
	stack.Close("record", db.Close)
	if err := c.Profiles(ctx, stack, logger); err != nil {
		return err
	}
	launch.RedisLog(logger)
	client, err := launch.Redis(ctx, c.RedisURL)
	if err != nil {
		return err
	}
	stack.Close("redis", client.Close)
	metrics := launch.Metrics()
	log, err := c.Uplink.Append(ctx, stack, db, client, logger, metrics)
	if err != nil {
		return err
	}
	sessions := state.NewRedis(client)
	self := command.Gateway{ID: c.ID, Address: c.Advertise, Incarnation: launch.Incarnation()}
	edge, err := c.Broker(ctx, launch.EdgePorts{
		Gateway: self, DB: db, Settings: settings, Log: log, Sessions: sessions, Logger: logger, Registerer: metrics,
	})
	if err != nil {
		return err
	}
	listener, err := launch.Listen(ctx, c.HTTP)
	if err != nil {
		edge.Close()
		return err
	}
	checks := map[string]func(context.Context) error{
		"redis": func(ctx context.Context) error { return client.Ping(ctx).Err() },
	}
	if streams, ok := log.(*uplink.Redis); ok {
		checks["uplink log"] = streams.Ready
	}
	health := httpapi.Health(checks, metrics, logger, launch.Alarms(log))
	stack.Go("http", func(ctx context.Context) error { return httpapi.Serve(ctx, listener, nil, health, logger) })
	stack.Close("presence", func() error {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		return sessions.Withdraw(ctx, self)
	})
	stack.Go("broker", edge.Run)
	if c.Advertise == "" && everywhere(c.MQTT) {
		logger.Warn("backends on other machines cannot reach this gateway: --advertise HOST:PORT says by which address they can", "mqtt", c.MQTT)
	}
	logger.Info("gateway is up", append([]any{"id", c.ID, "http", "http://" + listener.Addr().String()}, launch.Bound(edge)...)...)
	return stack.Wait(ctx)
}

// everywhere says whether an address to listen on names no host that others could connect to.
func everywhere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "" || ip != nil && ip.IsUnspecified())
}
