//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"meterline/testkit/packet"
	"meterline/testkit/swarm"
)

// alone lets the gateway work without a backend, whose share of the machine would be in the figures, and starts that again, to see
// what it finds in the log.
func (r *rig) alone(ctx context.Context, do func(context.Context) error) (s spent, err error) {
	if err := r.backend.Stop(); err != nil {
		return s, err
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	s, err = r.during(func() error { return do(ctx) })
	return s, errors.Join(err, r.backend.Start())
}

// roundtrip: commands and their answers, through the gateway alone.
type roundtrip struct {
	Devices int `json:"devices"`
	Each    int `json:"round_trips_per_device"`
}

func (t *roundtrip) title() string {
	return "gateway: a command from a backend to a device and its answer, durable before its PUBACK; one at a time for each device"
}

func (t *roundtrip) flags(set *flag.FlagSet) {
	set.IntVar(&t.Devices, "devices", 1000, "connected devices")
	set.IntVar(&t.Each, "each", 200, "round trips of each")
}
func (t *roundtrip) shrink() { t.Devices, t.Each = 20, 20 }

func (t *roundtrip) run(ctx context.Context, r *rig) (*finding, error) {
	if t.Devices < 1 || t.Each < 1 {
		return nil, errors.New("-devices and -each must be at least 1")
	}
	backend, err := r.backendAccount(ctx)
	if err != nil {
		return nil, err
	}
	f, n, err := r.gatewayAlone(ctx, "roundtrip", t.Devices, false, func(ctx context.Context, s *swarm.Swarm) error {
		return s.Call(ctx, backend, t.Each)
	})
	if err == nil {
		f.shape = shape{kind: calls}
		f.more("round trips by gateway CPU", "/s", per(float64(n), f.spent.gateway), 20_000)
		f.more("round trips", "/s", float64(n)/f.spent.seconds, 0)
		f.each(f.spent, n, "round trip")
	}
	return f, err
}

// backendAccount is how backends sign in, from where they have it.
func (r *rig) backendAccount(ctx context.Context) (who packet.Account, err error) {
	who = packet.Account{Client: "backend:bench:1", User: "backend"}
	err = r.DB.QueryRowContext(ctx, `SELECT value FROM settings WHERE key = 'backend_secret'`).Scan(&who.Password)
	if err != nil {
		return who, fmt.Errorf("find out how backends sign in: %w", err)
	}
	return who, nil
}

// uplinks: readings that nobody asked for, some in flight on each connection.
type uplinks struct {
	Devices int `json:"devices"`
	Each    int `json:"uplinks_per_device"`
	Window  int `json:"in_flight"`
}

func (u *uplinks) title() string {
	return "gateway: readings that nobody asked for, durable before their PUBACK; 20 in flight on each connection"
}

func (u *uplinks) flags(set *flag.FlagSet) {
	set.IntVar(&u.Devices, "devices", 200, "connected devices")
	set.IntVar(&u.Each, "each", 2000, "uplinks of each")
	set.IntVar(&u.Window, "window", 20, "uplinks of each that are not acknowledged, at most")
}
func (u *uplinks) shrink() { u.Devices, u.Each = 20, 60 }

func (u *uplinks) run(ctx context.Context, r *rig) (*finding, error) {
	if u.Devices < 1 || u.Each < 1 || u.Window < 1 {
		return nil, errors.New("-devices, -each and -window must be at least 1")
	}
	f, n, err := r.gatewayAlone(ctx, "uplinks", u.Devices, true, func(ctx context.Context, s *swarm.Swarm) error {
		return s.Publish(ctx, u.Each, u.Window)
	})
	if err == nil {
		f.shape = shape{kind: publishes, window: u.Window}
		f.more("uplinks by gateway CPU", "/s", per(float64(n), f.spent.gateway), 90_000)
		f.more("uplinks", "/s", float64(n)/f.spent.seconds, 0)
		f.each(f.spent, n, "uplink")
	}
	return f, err
}

// gatewayAlone lets devices do something, and compares with the record when a backend has stored it.
func (r *rig) gatewayAlone(ctx context.Context, prefix string, devices int, silent bool, do func(context.Context, *swarm.Swarm) error) (f *finding, n int, err error) {
	sites, err := r.fleet(ctx, prefix, devices, 0)
	if err != nil {
		return nil, 0, err
	}
	s, err := r.connected(ctx, sites, silent)
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	f = &finding{}
	f.spent, err = r.alone(ctx, func(ctx context.Context) error { return do(ctx, s) })
	if err != nil {
		return nil, 0, err
	}
	f.did = int(s.Counts().Uplinks)
	began := time.Now()
	if f.Check, err = r.stored(ctx, prefix, s); err != nil {
		return nil, 0, err
	}
	r.say("a backend had stored %d after %.1f s", f.Check.Stored, time.Since(began).Seconds())
	return f, f.did, nil
}
