//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meterline/simulator"
	"meterline/testkit"
	"meterline/testkit/cluster"
	"meterline/testkit/packet"
	"meterline/testkit/swarm"
)

// rig is the servers and programs of a run: a PostgreSQL, a Redis, a gateway, a backend.
type rig struct {
	*cluster.Cluster
	gateway, backend *cluster.Node
	api              *simulator.API
	profiler         *profiler // nil: none is asked for
	say              func(string, ...any)
}

// newRig builds the programs from the sources as they are, or from those of the commit ref.
func newRig(ctx context.Context, uplink, ref string, p *profiler, say func(string, ...any)) (*rig, error) {
	gateway, backend := []string{"--log-level", "warn"}, []string{"--log-level", "warn", "--uplink", uplink}
	if p != nil {
		gateway, backend = append(gateway, debug(p.gateway)...), append(backend, debug(p.backend)...)
	}
	c, err := cluster.Start(ctx, cluster.Options{Gateways: 1, Backends: 1, Uplink: uplink, Direct: true, Build: cluster.Build{Ref: ref},
		GatewayArgs: gateway, BackendArgs: backend})
	if err != nil {
		return nil, err
	}
	return &rig{Cluster: c, gateway: c.Gateways[0], backend: c.Backends[0], api: simulator.NewAPI(c.API()[0], c.Token), profiler: p, say: say}, nil
}

func (r *rig) close() error {
	r.api.Close()
	return r.Close()
}

// ended says which of the programs have ended by themselves, and their last words.
func (r *rig) ended() error { return errors.Join(r.gateway.Ended(), r.backend.Ended()) }

// fleet registers devices: direct ones, or IPCs with so many meters each. Their ids begin with the prefix.
func (r *rig) fleet(ctx context.Context, prefix string, endpoints, metersPerIPC int) ([]simulator.Site, error) {
	layout := simulator.Layout{Prefix: prefix, Direct: endpoints, Key: "k"}
	if metersPerIPC > 0 {
		layout = simulator.Layout{Prefix: prefix, IPCs: endpoints, MetersPerIPC: metersPerIPC, BusesPerIPC: 8, Key: "k"}
	}
	sites := layout.Sites()
	began := time.Now()
	if err := r.api.Install(ctx, sites, prefix); err != nil {
		return nil, fmt.Errorf("register devices: %w", err)
	}
	r.say("registered %d endpoints with %d meters each in %.1f s", endpoints, metersPerIPC, time.Since(began).Seconds())
	return sites, nil
}

// swarm makes devices of sites. They are not connected.
func (r *rig) swarm(sites []simulator.Site, silent bool) (*swarm.Swarm, error) {
	o := swarm.Options{Address: r.gateway.Address, Silent: silent}
	for _, s := range sites {
		o.Accounts = append(o.Accounts, packet.Account{Client: s.Credentials.ClientID, User: s.Credentials.Username, Password: s.Credentials.Password})
	}
	return swarm.New(o)
}

// patience is for what takes as long as it takes: only a run that fails waits so long.
const patience = 10 * time.Minute

// connected is swarm, with everybody there.
func (r *rig) connected(ctx context.Context, sites []simulator.Site, silent bool) (*swarm.Swarm, error) {
	s, err := r.swarm(sites, silent)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if err := s.Connect(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// lookEvery is how often it is looked whether something has come about, where looking costs little.
const lookEvery = 20 * time.Millisecond

// until polls for as long as it takes.
func (r *rig) until(ctx context.Context, what string, every time.Duration, done func() (bool, error)) error {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for {
		ok, err := done()
		if ok {
			return nil
		}
		if err = errors.Join(err, r.ended()); err == nil {
			err = testkit.Pause(ctx, every)
		}
		if err != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
	}
}
