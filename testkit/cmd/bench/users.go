//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"meterline/command"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit"
)

// read: one meter, one read at a time, answered in the request.
type read struct {
	Reads int           `json:"reads"`
	Pause time.Duration `json:"pause_ns"`
}

func (c *read) title() string {
	return "one read in real time on a quiet system, from the POST with Prefer: wait to its answer"
}

func (c *read) flags(set *flag.FlagSet) {
	set.IntVar(&c.Reads, "reads", 500, "reads, one after the other")
	set.DurationVar(&c.Pause, "pause", 20*time.Millisecond, "between an answer and the next read")
}
func (c *read) shrink() { c.Reads, c.Pause = 20, time.Millisecond }

func (c *read) run(ctx context.Context, r *rig) (*finding, error) {
	if c.Reads < 1 {
		return nil, errors.New("-reads must be at least 1")
	}
	sites, err := r.fleet(ctx, "read", 1, 0)
	if err != nil {
		return nil, err
	}
	s, err := r.connected(ctx, sites, false)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	f := &finding{did: c.Reads}
	var took []time.Duration
	err = r.beside(ctx, s, func(ctx context.Context) error {
		if _, err := c.reads(ctx, r, sites[0], min(c.Reads, 20)); err != nil { // warms up
			return err
		}
		f.spent, err = r.during(func() error { took, err = c.reads(ctx, r, sites[0], c.Reads); return err })
		return err
	})
	if err != nil {
		return nil, err
	}
	sum := simulator.SumUp(took)
	f.less("p50", "ms", sum.P50, 6)
	f.less("p99", "ms", sum.P99, 25)
	f.less("max", "ms", sum.Max, 0)
	f.Check, err = r.stored(ctx, "read", s)
	return f, err
}

// reads gives the time of each.
func (c *read) reads(ctx context.Context, r *rig, site simulator.Site, n int) (took []time.Duration, err error) {
	body := order(command.Realtime, command.Selector{DeviceIDs: []meterread.DeviceID{site.ID}})
	err = r.users(ctx, 1, func(ctx context.Context, _ int, c1 *client) error {
		question := c1.question(http.MethodPost, "/v1/commands", body, "wait=60")
		for range n {
			began := time.Now()
			a, err := c1.insist(ctx, question)
			took = append(took, time.Since(began))
			if err != nil {
				return err
			}
			if a.status != http.StatusOK || a.read() != 1 {
				return fmt.Errorf("status %d: %.300s", a.status, a.body)
			}
			if err := testkit.Pause(ctx, c.Pause); err != nil {
				return err
			}
		}
		return nil
	})
	return took, err
}

// post: commands for one device each, which are committed and wait: their devices are not connected.
type post struct {
	Clients  int `json:"clients"`
	Commands int `json:"commands"`
}

func (p *post) title() string {
	return "POST /v1/commands for one device, each committed; the device is not connected"
}

func (p *post) flags(set *flag.FlagSet) {
	set.IntVar(&p.Clients, "clients", 64, "clients, each with a connection and a device of its own")
	set.IntVar(&p.Commands, "commands", 50_000, "commands in all")
}
func (p *post) shrink() { p.Clients, p.Commands = 8, 200 }

func (p *post) run(ctx context.Context, r *rig) (*finding, error) {
	if p.Clients < 1 || p.Commands < p.Clients {
		return nil, errors.New("-clients must be at least 1, and -commands no less")
	}
	sites, err := r.fleet(ctx, "post", p.Clients, 0)
	if err != nil {
		return nil, err
	}
	if _, err := p.posts(ctx, r, sites, 1); err != nil { // warms up
		return nil, err
	}
	f := &finding{shape: shape{kind: requests, request: len(order(command.Async, command.Selector{DeviceIDs: []meterread.DeviceID{sites[0].ID}})), response: 1000}}
	var ids []string
	f.spent, err = r.during(func() error { ids, err = p.posts(ctx, r, sites, p.Commands/p.Clients); return err })
	if err != nil {
		return nil, err
	}
	f.did = len(ids)
	f.more("commands", "/s", float64(f.did)/f.spent.seconds, 5000)
	f.each(f.spent, f.did, "command")
	f.Check, err = r.committed(ctx, "post", ids)
	return f, err
}

// posts gives the ids of the commands that were accepted, each of one client.
func (p *post) posts(ctx context.Context, r *rig, sites []simulator.Site, each int) (ids []string, err error) {
	var mu sync.Mutex
	err = r.users(ctx, p.Clients, func(ctx context.Context, i int, c *client) error {
		body := order(command.Async, command.Selector{DeviceIDs: []meterread.DeviceID{sites[i].ID}})
		var own []string
		for range each {
			id, err := c.issue(ctx, body)
			if err != nil {
				return err
			}
			own = append(own, id)
		}
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, own...)
		return nil
	})
	return ids, err
}

// committed looks for accepted commands of one operation each, which nobody has carried out.
func (r *rig) committed(ctx context.Context, prefix string, ids []string) (c check, err error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return c, err
	}
	c.Acknowledged = int64(len(ids))
	var commands, operations, different int64
	err = r.DB.QueryRowContext(ctx, `
		WITH accepted AS (SELECT jsonb_array_elements_text($1::jsonb) AS id)
		SELECT (SELECT count(*) FROM commands JOIN accepted USING (id)),
			(SELECT count(*) FROM operations JOIN accepted ON command_id = id WHERE device_id LIKE $2),
			(SELECT count(DISTINCT id) FROM accepted)`, string(list), prefix+"-%").Scan(&commands, &operations, &different)
	if err != nil {
		return c, fmt.Errorf("look for commands: %w", err)
	}
	c.Stored = commands
	c.Missing, c.Twice = max(0, c.Acknowledged-min(commands, operations)), max(0, operations-commands)+c.Acknowledged-different
	return c, nil
}

// poll: commands that have come to their end are asked for.
type poll struct {
	Clients int `json:"clients"`
	Polls   int `json:"polls"`
	Devices int `json:"devices_per_command"`
}

func (p *poll) title() string { return "GET /v1/commands/{id} of a command of 10 devices" }

func (p *poll) flags(set *flag.FlagSet) {
	set.IntVar(&p.Clients, "clients", 16, "clients, each with a connection and a command of its own")
	set.IntVar(&p.Polls, "polls", 100_000, "polls in all")
	set.IntVar(&p.Devices, "devices", 10, "devices of each command")
}
func (p *poll) shrink() { p.Clients, p.Polls = 2, 200 }

func (p *poll) run(ctx context.Context, r *rig) (*finding, error) {
	if p.Clients < 1 || p.Polls < p.Clients || p.Devices < 1 {
		return nil, errors.New("-clients and -devices must be at least 1, and -polls no less than -clients")
	}
	sites, err := r.fleet(ctx, "poll", p.Clients*p.Devices, 0)
	if err != nil {
		return nil, err
	}
	s, err := r.connected(ctx, sites, false)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	f := &finding{}
	j := journey{Each: p.Devices, Mode: string(command.Realtime)}
	ids := make([]string, p.Clients)
	var size atomic.Int64
	err = r.beside(ctx, s, func(ctx context.Context) error {
		return j.once(ctx, r, j.lanes(sites), ids)
	})
	if err != nil {
		return nil, err
	}
	f.spent, err = r.during(func() error { return p.polls(ctx, r, ids, &size) })
	if err != nil {
		return nil, err
	}
	f.did = p.Polls / p.Clients * p.Clients
	f.shape = shape{kind: requests, response: int(size.Load()) / f.did / 512 * 512} // all runs alike
	f.more("polls by backend CPU", "/s", per(float64(f.did), f.spent.backend), 10_000)
	f.more("polls", "/s", float64(f.did)/f.spent.seconds, 0)
	f.each(f.spent, f.did, "poll")
	f.Check, err = r.stored(ctx, "poll", s)
	return f, err
}

func (p *poll) polls(ctx context.Context, r *rig, ids []string, size *atomic.Int64) error {
	return r.users(ctx, p.Clients, func(ctx context.Context, i int, c *client) error {
		question := c.question(http.MethodGet, "/v1/commands/"+ids[i], nil, "")
		for range p.Polls / p.Clients {
			a, err := c.insist(ctx, question)
			if err != nil {
				return err
			}
			if a.read() != p.Devices {
				return fmt.Errorf("command %s: %d of %d operations are shown as read: %.300s", ids[i], a.read(), p.Devices, a.body)
			}
			size.Add(int64(len(a.body)))
		}
		return nil
	})
}
