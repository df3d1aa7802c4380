package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"meterline/meterread"
	"meterline/simulator"
)

// Exit statuses.
const (
	exitOK    = 0
	exitFault = 1
	exitUsage = 2
)

// run is the whole program; it returns the exit status. When ctx is done it stops issuing commands, settles and reports.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stdout, stderr)
	if errors.Is(err, errHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "simulator: %s\n", oneLine(err))
		return exitUsage
	}
	report, err := simulate(ctx, c, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "simulator: %s\n", oneLine(err))
		return exitFault
	}
	if err := write(report, c.JSON, stdout); err != nil {
		fmt.Fprintf(stderr, "simulator: %s\n", oneLine(err))
		return exitFault
	}
	if !report.Passed() {
		return exitFault
	}
	return exitOK
}

func write(r simulator.Report, asJSON bool, w io.Writer) error {
	if !asJSON {
		return r.Print(w)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(r); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return nil
}

// simulate installs the fleet, runs it, puts the load on it and judges what came of it.
func simulate(ctx context.Context, c *config, stderr io.Writer) (simulator.Report, error) {
	report := simulator.Report{Began: time.Now().UTC(), Settings: c.settings()}
	level := slog.LevelWarn
	if c.Verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	sites := simulator.Layout{Prefix: c.Prefix, IPCs: c.IPCs, MetersPerIPC: c.MetersPerIPC, BusesPerIPC: c.BusesPerIPC,
		Direct: c.Direct, Key: string(c.Token)}.Sites()
	var ledger *simulator.Ledger
	if c.Check {
		ledger = simulator.NewLedger()
	}
	fleet, err := simulator.New(simulator.Options{Brokers: c.Broker, Sites: sites, Behaviour: c.behaviour(),
		ConnectRate: c.ConnectRate, Ledger: ledger, Log: log})
	if err != nil {
		return report, err
	}
	api := simulator.NewAPI(c.API, string(c.Token))
	defer api.Close()
	if err := simulator.Reach(ctx, c.Broker); err != nil {
		return report, err
	}
	began := time.Now()
	if c.Install {
		if err := api.Install(ctx, sites, c.Prefix); err != nil {
			return report, err
		}
	}
	report.Settings.InstallSeconds = time.Since(began).Seconds()

	if err := operate(ctx, c, fleet, api, &report, stderr); err != nil {
		return report, err
	}
	judge(ctx, c, ledger, api, &report)
	report.Ended = time.Now().UTC()
	return report, nil
}

// operate runs the fleet for as long as the load, or the duration, lasts, and until its journals are empty.
func operate(ctx context.Context, c *config, fleet *simulator.Fleet, api *simulator.API, report *simulator.Report, stderr io.Writer) (err error) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx: what is open is to be settled
	ended := make(chan error, 1)
	go func() { ended <- fleet.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	var loader *simulator.Loader
	if c.Rate > 0 {
		loader = simulator.NewLoader(c.load(devices(fleet)), api)
	}
	show := newProgress(stderr, fleet, loader)
	defer show.stop()

	began := time.Now()
	if err := awaitReady(ctx, c, fleet); err != nil {
		return err
	}
	report.Settings.ConnectSeconds = time.Since(began).Seconds()
	if loader != nil {
		err := loader.Run(ctx)
		result := loader.Result()
		report.Load = &result
		if err != nil {
			return err
		}
	} else {
		stay(ctx, c.Duration)
	}
	settle(fleet, c.Settle)
	report.Fleet = fleet.Counters()
	return nil
}

func devices(fleet *simulator.Fleet) []meterread.DeviceID {
	var ids []meterread.DeviceID
	for _, s := range fleet.Sites() {
		ids = append(ids, s.Targets()...)
	}
	return ids
}

// awaitReady waits until all endpoints are subscribed, twice as long as their number and the rate of connecting asks for.
func awaitReady(ctx context.Context, c *config, fleet *simulator.Fleet) error {
	patience := 30*time.Second + time.Duration(2*float64(len(fleet.Sites()))/c.ConnectRate*float64(time.Second))
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-fleet.Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connect fleet: %w", context.Cause(ctx))
	case <-timer.C:
		return fmt.Errorf("connect fleet: %d of %d endpoints not subscribed after %s: %s",
			fleet.Waiting(), len(fleet.Sites()), patience.Round(time.Second), fleet.Counters().LastError)
	}
}

// stay waits for d, or for ctx alone when d is 0.
func stay(ctx context.Context, d time.Duration) {
	if d == 0 {
		<-ctx.Done()
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// settle waits until every journalled message has its PUBACK.
func settle(fleet *simulator.Fleet, patience time.Duration) {
	beat := time.NewTicker(50 * time.Millisecond)
	defer beat.Stop()
	for deadline := time.Now().Add(patience); fleet.Counters().Journal > 0 && time.Now().Before(deadline); {
		<-beat.C
	}
}

// judge compares what was acknowledged with what is stored.
func judge(ctx context.Context, c *config, ledger *simulator.Ledger, api *simulator.API, report *simulator.Report) {
	if ledger.Acked() == 0 {
		return
	}
	verdict, err := ledger.Check(context.WithoutCancel(ctx), api, c.Settle)
	if err != nil {
		report.Problem = oneLine(err)
		return
	}
	report.Check = &verdict
}
