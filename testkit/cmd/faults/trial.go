package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"meterline/testkit/checker"
	"meterline/testkit/cluster"
	"meterline/testkit/faults"
	"meterline/testkit/history"
	"meterline/testkit/load"
)

// trial is one run: a system, a load, faults and a check.
type trial struct {
	Name   string
	Seed   uint64
	Uplink string
	Faults []faults.Planned
	Fleet  fleet
	Rate   float64 // readings per second that nobody asked for, of all devices
	Least  float64 // the run is void when fewer readings per second were stored; 0: any rate will do
}

// fleet is what each of the two tenants has.
type fleet struct{ IPCs, MetersPerIPC, Direct int }

// A run of a seed gets by with few devices. Kills need the rate that is asked for, from as many endpoints as leave no partition
// without work.
var (
	few  = fleet{IPCs: 3, MetersPerIPC: 6, Direct: 4}
	many = fleet{IPCs: 6, MetersPerIPC: 10, Direct: 14}
)

// result is what became of a trial.
type result struct {
	Name    string         `json:"name"`
	Uplink  string         `json:"uplink"`
	Flushes bool           `json:"flushes,omitempty"`
	Faults  []produced     `json:"faults"`
	Report  checker.Report `json:"report"`
	Took    time.Duration  `json:"took_ns"`
}

// produced is a fault and what is known of it.
type produced struct {
	Number   int           `json:"number"`
	Name     string        `json:"name"`
	Evidence []string      `json:"evidence,omitempty"`
	Ready    time.Duration `json:"ready_ns"` // until all processes were ready again
	Error    string        `json:"error,omitempty"`
	Missed   bool          `json:"missed,omitempty"` // it hit nothing, and that is all there is to the error
}

// good says whether the run counts, and nothing is wrong.
func (r result) good() bool { return r.Report.OK() && r.failed() == "" }

// failed is the first fault that could not be produced.
func (r result) failed() string {
	for _, f := range r.Faults {
		if f.Error != "" {
			return f.Name + ": " + f.Error
		}
	}
	return ""
}

// shownNothing says whether nothing is wrong with a run but that it proves nothing: a fault came by nothing, or nothing happened
// to be sent twice.
func (r result) shownNothing() bool {
	for _, f := range r.Faults {
		if f.Error != "" && !f.Missed {
			return false
		}
	}
	return !r.good() && len(r.Report.Counts) == 0
}

const (
	calm        = 3 * time.Second
	stopWithin  = 60 * time.Second
	checkWithin = 3 * time.Minute
)

// perform runs a trial in a directory, where histories and logs are left. The error is that of a trial that could not be
// made.
func (t trial) perform(ctx context.Context, dir string) (r result, err error) {
	began := time.Now()
	r = result{Name: t.Name, Uplink: t.Uplink}
	c, err := cluster.Start(ctx, cluster.Options{
		Uplink: t.Uplink, Build: cluster.Build{Faults: true}, Dir: filepath.Join(dir, "logs"), BackendArgs: []string{"--request-rate", "0"},
		GatewayArgs: []string{"--flap-limit", "30"}, // faults cut devices more often than networks do
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	l, err := t.load(ctx, c, filepath.Join(dir, "history"))
	if err != nil {
		return r, err
	}
	for _, p := range t.Faults {
		r.suffer(ctx, c, l.History(), p)
	}
	select { // how it goes on after the last is a part of it
	case <-time.After(calm):
	case <-ctx.Done():
	}
	stop, done := context.WithTimeout(ctx, stopWithin)
	defer done()
	if err := l.Stop(stop); err != nil {
		return r, fmt.Errorf("stop the load: %w", err)
	}
	limit, over := context.WithTimeout(ctx, checkWithin)
	defer over()
	r.Report, err = checker.Check(limit, checker.Options{
		History: filepath.Join(dir, "history"), DB: c.DatabaseURL, Redis: "redis://" + c.Redis.Addr + "/0", Metrics: c.Metrics(),
		Except: []string{faults.BaitTenant},
	})
	if slow := t.tooSlow(r.Report); slow != "" {
		r.Report.Void = append(r.Report.Void, slow)
	}
	r.Took = time.Since(began)
	return r, err
}

// tooSlow says by how much a run fell short of the rate that it is to show; "" when it did not.
func (t trial) tooSlow(r checker.Report) string {
	if r.PerSecond() >= t.Least {
		return ""
	}
	return fmt.Sprintf("%.0f readings per second were stored, and %.0f are the least", r.PerSecond(), t.Least)
}

// load registers the devices of two tenants and puts them to work.
func (t trial) load(ctx context.Context, c *cluster.Cluster, dir string) (*load.Load, error) {
	o := load.Options{
		MQTT: c.MQTT(), API: c.API(), Seed: t.Seed, History: dir, Start: time.Now(), Readings: t.Rate,
		IPCs: t.Fleet.IPCs, MetersPerIPC: t.Fleet.MetersPerIPC, Direct: t.Fleet.Direct, Think: 250 * time.Millisecond, Deadline: 12 * time.Second,
		Lies: 500 * time.Millisecond, Cuts: time.Second, ClockOff: 10 * 365 * 24 * time.Hour,
	}
	for _, name := range []string{"bolt", "crank"} {
		token, err := c.Backend(ctx, "token", "create", "--tenant", name, "--scopes", "admin")
		if err != nil {
			return nil, fmt.Errorf("make a token: %w", err)
		}
		o.Tenants = append(o.Tenants, load.Tenant{Name: name, Token: strings.TrimSpace(token)})
	}
	return load.Start(ctx, o)
}

// suffer produces a fault and writes down that it did.
func (r *result) suffer(ctx context.Context, c *cluster.Cluster, h *history.Writer, p faults.Planned) {
	f, _ := faults.Find(p.Fault)
	id := fmt.Sprintf("%s/%d", p.Fault, len(r.Faults))
	told := &history.Fault{Name: p.Fault}
	if f.Flushes {
		r.Flushes, told.Name = true, history.Flush
	}
	h.Add(history.Event{Actor: "faults", Kind: history.Break, Phase: history.Invoke, ID: id, Fault: told})
	outcomes := faults.Run(ctx, c, []faults.Planned{p})
	for _, o := range outcomes {
		phase := history.OK
		one := produced{Number: f.Number, Name: p.Fault, Evidence: o.Evidence, Ready: o.Recover}
		if o.Err != nil {
			phase, one.Error, one.Missed = history.Fail, o.Err.Error(), errors.Is(o.Err, faults.ErrNotHit)
		}
		evidence := &history.Fault{Name: told.Name, Evidence: strings.Join(o.Evidence, "; ")}
		h.Add(history.Event{Actor: "faults", Kind: history.Break, Phase: phase, ID: id, Fault: evidence})
		h.Add(history.Event{Actor: "faults", Kind: history.Heal, Phase: history.OK, ID: id, Fault: told})
		r.Faults = append(r.Faults, one)
	}
}

// clean removes what a good run left.
func clean(dir string) error { return os.RemoveAll(dir) }
