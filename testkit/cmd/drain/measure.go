//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"meterline/command"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit"
	"meterline/testkit/profile"
)

// report is what a run found.
type report struct {
	Quiet   simulator.Latency  `json:"quiet"`
	Backlog *phase             `json:"backlog,omitempty"`
	Command *phase             `json:"command,omitempty"`
	Ratios  map[string]float64 `json:"p99_by_quiet"`
	Record  record             `json:"record"`
}

// phase is what was drained, what it took, and what those saw who read meanwhile.
type phase struct {
	What           int                  `json:"uplinks_or_operations"`
	Seconds        float64              `json:"seconds"`
	PerSecond      float64              `json:"per_second"`
	BackendMicros  float64              `json:"backend_cpu_us_each"`
	PostgresMicros float64              `json:"postgres_cpu_us_each"`
	Live           simulator.Latency    `json:"live"`
	Hops           map[string][]float64 `json:"live_hops_ms,omitempty"` // median, 99th percentile
	Failed         map[string]int       `json:"live_failed,omitempty"`
}

// record is the comparison with what is in SQL.
type record struct {
	Missing    int `json:"missing"`
	Twice      int `json:"twice"`
	OutOfOrder int `json:"out_of_order"`
	AskedAgain int `json:"asked_again"`
	NotEnded   int `json:"not_ended"`
}

func (r *report) wrong() error {
	if r.Record != (record{}) {
		return fmt.Errorf("the record is not what it should be: %+v", r.Record)
	}
	return nil
}

func measure(ctx context.Context, c config, stderr io.Writer) (*report, error) {
	r, err := newRig(ctx, c)
	if err != nil {
		return nil, err
	}
	m := &measurement{config: c, rig: r, api: simulator.NewAPI("http://"+r.http, r.token), say: func(format string, args ...any) {
		fmt.Fprintf(stderr, format+"\n", args...)
	}, report: &report{Ratios: map[string]float64{}}}
	err = errors.Join(m.run(ctx), r.ended())
	m.api.Close()
	return m.report, errors.Join(err, r.close())
}

type measurement struct {
	config
	*rig
	api    *simulator.API
	say    func(string, ...any)
	report *report
	live   []simulator.Site
	away   []simulator.Site
	crowd  []simulator.Site
	reader *reader
}

func (m *measurement) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	running := make(chan error, 1)
	fleet, err := m.install(ctx)
	if err != nil {
		stop()
		return err
	}
	go func() { running <- fleet.Run(ctx) }()
	err = m.phases(ctx, fleet)
	stop()
	return errors.Join(err, <-running)
}

const metersPerIPC = 200

// How often it is looked whether all is done: at a counter, and at a command as a user would.
const lookAtMetric, lookAtCommand = 100 * time.Millisecond, time.Second

// install registers the devices; those that answer are in the fleet.
func (m *measurement) install(ctx context.Context) (*simulator.Fleet, error) {
	m.live = simulator.Layout{Prefix: "live", Direct: m.config.live, Key: "k"}.Sites()
	m.away = simulator.Layout{Prefix: "away", Direct: m.devices, Key: "k"}.Sites()
	m.crowd = simulator.Layout{Prefix: "crowd", IPCs: (m.command + metersPerIPC - 1) / metersPerIPC, MetersPerIPC: metersPerIPC, BusesPerIPC: 8, Key: "k"}.Sites()
	for group, sites := range map[string][]simulator.Site{"live": m.live, "away": m.away, "crowd": m.crowd} {
		if err := m.api.Install(ctx, sites, group); err != nil {
			return nil, err
		}
	}
	behaviour := simulator.DefaultBehaviour()
	behaviour.AnswerMin, behaviour.AnswerMax, behaviour.BusTimeoutRate = 5*time.Millisecond, 10*time.Millisecond, 0
	return simulator.New(simulator.Options{Brokers: []string{m.mqtt}, Sites: append(append([]simulator.Site{}, m.live...), m.crowd...), Behaviour: behaviour})
}

func (m *measurement) phases(ctx context.Context, fleet *simulator.Fleet) error {
	m.reader = newReader(m.config, m.rig, m.live)
	m.say("making files for the write-ahead log")
	if err := m.pave(ctx); err != nil {
		return fmt.Errorf("make files for the write-ahead log: %w", err)
	}
	err := until(ctx, "the meters to connect", func() bool { return fleet.Waiting() == 0 })
	if err != nil {
		return err
	}
	if err := m.quiet(ctx); err != nil {
		return err
	}
	if m.backlog > 0 {
		if err := m.drain(ctx); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
	if m.command > 0 {
		if err := m.crowded(ctx); err != nil {
			return fmt.Errorf("command: %w", err)
		}
	}
	return nil
}

// quiet reads with nothing else to do; what comes before it warms up.
func (m *measurement) quiet(ctx context.Context) error {
	for _, d := range []time.Duration{min(3*time.Second, m.config.quiet), m.config.quiet} {
		stop := make(chan struct{})
		timer := time.AfterFunc(d, func() { close(stop) })
		s := m.reader.during(ctx, stop)
		timer.Stop()
		if len(s.failed) > 0 {
			return fmt.Errorf("reads failed although nothing else was done: %v", s.failed)
		}
		m.report.Quiet = simulator.SumUp(s.took)
	}
	m.say("quiet: %+v", m.report.Quiet)
	return ctx.Err()
}

// while measures what is done until done says so, and those who read meanwhile.
func (m *measurement) while(ctx context.Context, what int, look time.Duration, done func() bool) (*phase, error) {
	before, err := m.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	since, err := m.now(ctx)
	if err != nil {
		return nil, err
	}
	stop, live := make(chan struct{}), make(chan *seen, 1)
	go func() { live <- m.reader.during(ctx, stop) }()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for !done() && ctx.Err() == nil && m.ended() == nil && time.Since(began) < 20*time.Minute {
		<-tick.C
	}
	took := time.Since(began)
	after, err := m.cpu()
	close(stop)
	s := <-live
	spent := after.since(before)
	p := &phase{What: what, Seconds: took.Seconds(), PerSecond: float64(what) / took.Seconds(),
		BackendMicros:  float64(spent.backend.Microseconds()) / float64(what),
		PostgresMicros: float64(spent.postgres.Microseconds()) / float64(what),
		Live:           simulator.SumUp(s.took), Failed: s.failed}
	if err == nil {
		p.Hops, err = m.hops(ctx, since)
	}
	m.say("%d: %+v", what, *p)
	return p, errors.Join(err, ctx.Err())
}

// now is the record's clock.
func (m *measurement) now(ctx context.Context) (now time.Time, err error) {
	return now, m.db.QueryRowContext(ctx, `SELECT clock_timestamp()`).Scan(&now)
}

// hops says where the time of live reads since then went, in milliseconds from one hop to the next.
func (m *measurement) hops(ctx context.Context, since time.Time) (map[string][]float64, error) {
	rows, err := m.db.QueryContext(ctx, `
		WITH at AS (
			SELECT created_at, moves FROM operations WHERE device_id LIKE 'live-%' AND created_at > $1 AND state = 'succeeded'),
		hops AS (
			SELECT m->>'state' AS state, extract(epoch FROM (m->>'at')::timestamptz - coalesce(
				lag((m->>'at')::timestamptz) OVER (PARTITION BY created_at ORDER BY n), created_at)) * 1000 AS took
			FROM at, jsonb_array_elements(moves::jsonb) WITH ORDINALITY AS e(m, n))
		SELECT state, percentile_disc(0.5) WITHIN GROUP (ORDER BY took), percentile_disc(0.99) WITHIN GROUP (ORDER BY took)
		FROM hops GROUP BY state`, since)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	hops := map[string][]float64{}
	for rows.Next() {
		var state string
		var p50, p99 float64
		if err := rows.Scan(&state, &p50, &p99); err != nil {
			return nil, err
		}
		hops[state] = []float64{p50, p99}
	}
	return hops, rows.Err()
}

// drain lets a backlog come up without a backend, and drains it.
func (m *measurement) drain(ctx context.Context) error {
	commands, err := asked(ctx, m.api, int(float64(m.backlog/m.devices)*m.results))
	if err != nil {
		return err
	}
	m.say("expanding %d commands", len(commands))
	if err := m.expanded(ctx); err != nil {
		return err
	}
	if err := m.rig.backend.Stop(); err != nil {
		return err
	}
	b := &backlog{}
	m.say("filling the log: %d uplinks", m.backlog)
	if err := b.fill(ctx, m.rig, m.config, m.away, commands); err != nil {
		return err
	}
	if err := m.rig.backend.Start(); err != nil {
		return err
	}
	err = m.profiled(func() (err error) {
		m.report.Backlog, err = m.while(ctx, m.backlog, lookAtMetric, func() bool {
			return m.stored(ctx) >= m.backlog
		})
		return err
	})
	if err != nil {
		return err
	}
	m.beside("backlog", m.report.Backlog)
	return m.compare(ctx, b, commands)
}

// profiled does something, and takes a profile of the backend meanwhile where one is asked for.
func (m *measurement) profiled(do func() error) error {
	if m.profile == "" {
		return do()
	}
	taking, err := profile.Begin(m.debug)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return errors.Join(err, taking.Drop())
	}
	return taking.End(m.profile)
}

// beside notes how much longer reads took than with nothing else to do, if there were any.
func (m *measurement) beside(what string, p *phase) {
	if m.report.Quiet.P99 > 0 {
		m.report.Ratios[what] = p.Live.P99 / m.report.Quiet.P99
	}
}

// expanded waits until all operations are made: that is not what is measured.
func (m *measurement) expanded(ctx context.Context) error {
	left := 1
	for left > 0 {
		if err := m.db.QueryRowContext(ctx, `SELECT count(*) FROM commands WHERE expanding`).Scan(&left); err != nil {
			return err
		}
		if err := testkit.Pause(ctx, lookAtCommand); err != nil {
			return err
		}
	}
	return nil
}

// stored is how many of the backlog are in the record. The backend's metric, which also counts what is read meanwhile, is
// cheaper to ask as long as it says that some are missing.
func (m *measurement) stored(ctx context.Context) (n int) {
	if all, err := m.metric("meterline_readings_stored_total"); err != nil || int(all) < m.backlog {
		return 0
	}
	_ = m.db.QueryRowContext(ctx, `SELECT count(*) FROM readings WHERE device_id LIKE 'away-%'`).Scan(&n) // asked again
	return n
}

// compare looks at the record. The order of commits is that of their transactions' numbers.
func (m *measurement) compare(ctx context.Context, b *backlog, commands []meterread.CommandID) error {
	var rows, values int
	err := m.db.QueryRowContext(ctx, `
		SELECT count(*), count(DISTINCT (device_id, item, read_at)) FROM readings WHERE device_id LIKE 'away-%'`).Scan(&rows, &values)
	if err != nil {
		return err
	}
	m.report.Record.Missing, m.report.Record.Twice = b.readings+b.results-values, rows-values
	err = m.db.QueryRowContext(ctx, `
		SELECT count(*) FROM (
			SELECT xmin::text::bigint AS x, lag(xmin::text::bigint) OVER (PARTITION BY device_id ORDER BY read_at) AS before
			FROM readings WHERE device_id LIKE 'away-%') AS r WHERE x < before`).Scan(&m.report.Record.OutOfOrder)
	if err != nil {
		return err
	}
	return m.db.QueryRowContext(ctx, `
		SELECT count(*) FILTER (WHERE attempts > 0), count(*) FILTER (WHERE state <> 'succeeded')
		FROM operations WHERE device_id LIKE 'away-%'`).Scan(&m.report.Record.AskedAgain, &m.report.Record.NotEnded)
}

// crowded reads while a large asynchronous command is expanded, dispatched and answered.
func (m *measurement) crowded(ctx context.Context) error {
	v, err := m.api.Issue(ctx, simulator.Order{Kind: command.MeterRead, Mode: command.Async, Targets: command.Selector{Group: "crowd"},
		Items: []meterread.Item{"1-0:1.8.0"}, TimeoutS: 1200}, uuid.NewString())
	if err != nil {
		return err
	}
	m.report.Command, err = m.while(ctx, v.Counts.Total, lookAtCommand, func() bool {
		now, err := m.api.Command(ctx, v.ID)
		return err == nil && now.Status != string(command.StatusRunning)
	})
	if err == nil {
		m.beside("command", m.report.Command)
	}
	return err
}
