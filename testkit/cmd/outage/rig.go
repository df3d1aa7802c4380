package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"meterline/testkit"
	"meterline/testkit/checker"
	"meterline/testkit/cluster"
	"meterline/testkit/history"
	"meterline/testkit/load"
)

// result is what a run came to.
type result struct {
	options
	file   string // with the rows of all seconds
	story  *story
	report checker.Report
	unrest error // it was not as before at the end
}

const (
	// calmFor is how long all has to be as before for an outage to be over: longer than the gauges of the log are old.
	calmFor    = 3 * time.Second
	calmWithin = 2 * time.Minute
	// patience is for what stopping and checking take beside the deadlines of commands.
	patience = time.Minute
)

// deadline is that of the longest commands: some of those that are open when the outage begins are to outlast it, others not.
func (o options) deadline() time.Duration { return max(4*time.Second, o.lasts*3/2) }

func (o options) perform(ctx context.Context, stderr io.Writer) (r *result, err error) {
	dir := filepath.Join(o.dir, o.name())
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	c, err := cluster.Start(ctx, cluster.Options{Uplink: o.uplink, Dir: filepath.Join(dir, "logs")})
	if err != nil {
		return nil, err
	}
	r = &result{options: o, file: filepath.Join(o.dir, o.name()+".md")}
	err = r.suffer(ctx, c, dir, stderr)
	if err = errors.Join(err, c.Close()); err != nil {
		return nil, fmt.Errorf("%w (logs and history are in %s)", err, dir)
	}
	if r.good() == nil && !o.keep {
		err = os.RemoveAll(dir)
	}
	return r, err
}

// suffer is the run itself: a load, the outage, the way back, the check.
func (r *result) suffer(ctx context.Context, c *cluster.Cluster, dir string, stderr io.Writer) error {
	l, err := r.load(ctx, c, filepath.Join(dir, "history"))
	if err != nil {
		return err
	}
	s := watch(ctx, c, l)
	r.story = &story{start: l.History().Start(), samples: s}
	err = r.outage(ctx, c, l.History(), stderr)
	if err == nil {
		r.unrest = r.calm(ctx, s)
	}
	r.story.until = time.Since(r.story.start)
	s.stop()
	stop, done := context.WithTimeout(ctx, r.deadline()+patience)
	defer done()
	if err = errors.Join(err, l.Stop(stop)); err != nil {
		return err
	}
	if err := r.story.read(filepath.Join(dir, "history")); err != nil {
		return err
	}
	limit, over := context.WithTimeout(ctx, r.deadline()+patience)
	defer over()
	r.report, err = checker.Check(limit, checker.Options{History: filepath.Join(dir, "history"), DB: c.DatabaseURL,
		Redis: "redis://" + c.Redis.Addr + "/0", Metrics: c.Metrics()})
	return err
}

// load puts the devices of two tenants to work. Connections are cut now and then, so that something is sent twice in any case.
func (r *result) load(ctx context.Context, c *cluster.Cluster, dir string) (*load.Load, error) {
	o := load.Options{
		MQTT: c.MQTT(), API: c.API(), History: dir, Start: time.Now(), Readings: r.rate, Deadline: r.deadline(),
		IPCs: 3, MetersPerIPC: 6, Direct: 4, Open: 40, Think: 1500 * time.Millisecond, Looks: 5, Lies: -1, Cuts: 2 * time.Second,
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

// outage takes the server away and brings it back.
func (r *result) outage(ctx context.Context, c *cluster.Cluster, h *history.Writer, stderr io.Writer) error {
	if err := testkit.Pause(ctx, r.before); err != nil {
		return err
	}
	told := &history.Fault{Name: r.name(), Evidence: "done"}
	if r.what == "flush" {
		told.Name = history.Flush
	}
	note := func(k history.Kind, p history.Phase) {
		h.Add(history.Event{Actor: "outage", Kind: k, Phase: p, ID: r.name(), Fault: told})
	}
	note(history.Break, history.Invoke)
	r.story.began = time.Since(h.Start())
	if err := r.takeAway(ctx, c); err != nil {
		return err
	}
	note(history.Break, history.OK)
	fmt.Fprintf(stderr, "%s: begun\n", r.name())
	err := testkit.Pause(ctx, r.lasts)
	err = errors.Join(err, r.bringBack(c)) // in any case: what stands still cannot be ended
	r.story.healed = time.Since(h.Start())
	note(history.Heal, history.OK)
	fmt.Fprintf(stderr, "%s: over after %.1f s\n", r.name(), (r.story.healed - r.story.began).Seconds())
	return err
}

// server is what goes away.
func (o options) server(c *cluster.Cluster) testkit.Process {
	if o.what == "postgres" {
		return c.Postgres.Process
	}
	return c.Redis.Process
}

func (o options) takeAway(ctx context.Context, c *cluster.Cluster) error {
	switch o.how {
	case "flush":
		return c.Redis.FlushAll(ctx)
	case "pause":
		return o.server(c).Pause()
	case "stop":
		return o.server(c).Stop()
	}
	return o.server(c).Kill()
}

// bringBack returns when the server answers again.
func (o options) bringBack(c *cluster.Cluster) error {
	switch o.how {
	case "flush":
		return nil
	case "pause":
		return o.server(c).Resume()
	}
	return o.server(c).Start()
}

// calm waits until all has been as before for a while.
func (r *result) calm(ctx context.Context, s *sampler) error {
	least, most, since := time.Now().Add(r.after), time.Now().Add(max(calmWithin, r.after)), time.Now()
	for time.Now().Before(least) || time.Since(since) < calmFor {
		if !r.story.asBefore(s.last()) {
			since = time.Now()
		}
		if time.Now().After(most) {
			return fmt.Errorf("it is not as before %s after the outage: %+v", calmWithin, s.last())
		}
		if err := testkit.Pause(ctx, sampleEvery/2); err != nil {
			return err
		}
	}
	return nil
}

// good is what is wrong with the run; nil when nothing is.
func (r *result) good() error {
	switch {
	case r.unrest != nil:
		return r.unrest
	case len(r.report.Counts) > 0:
		return fmt.Errorf("wrong: %s", r.report.Wrong())
	case len(r.report.Void) > 0:
		return fmt.Errorf("void: %s", strings.Join(r.report.Void, "; "))
	}
	return nil
}
