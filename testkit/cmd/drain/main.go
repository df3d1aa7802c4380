//go:build linux

// Command drain measures what a backlog costs, and what it does to those who read in real time meanwhile:
//
//	go run ./testkit/cmd/drain -backlog 100000 -command 10000
//
// It starts a PostgreSQL, a Redis, a gateway and a backend of its own on loopback and reads a few direct meters in real time,
// at a steady rate: first with nothing else to do (quiet), then while a backlog drains that came into the uplink log while
// no backend was there, then while an asynchronous command of many operations is expanded, dispatched and answered. The
// latencies of the three stand side by side in one report, since only their ratios say something on a machine that has other
// work. At the end it compares the record with what was put into the log: nothing missing, nothing twice, in order per
// device, nothing asked for again. Exit status 1 means that something of that is wrong.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// config is what the flags say.
type config struct {
	backlog  int           // uplinks
	results  float64       // share of them that are results; the others are readings that nobody asked for
	devices  int           // that they are of
	command  int           // operations of the asynchronous command; 0: none
	live     int           // meters that are read in real time
	rate     float64       // reads per second
	quiet    time.Duration // how long nothing else is done
	backends string        // directory with programs that are there already
	uplink   string        // which log the backlog is in: redis or store
	profile  string        // file
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "drain:", err)
		return 2
	}
	r, err := measure(ctx, c, stderr)
	if err == nil {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		err = errors.Join(out.Encode(r), r.wrong())
	}
	if err != nil {
		fmt.Fprintln(stderr, "drain:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("drain", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&c.backlog, "backlog", 100_000, "uplinks that wait while no backend is there")
	f.Float64Var(&c.results, "results", 0.5, "share of them that are results of operations")
	f.IntVar(&c.devices, "devices", 1000, "devices that they are of")
	f.IntVar(&c.command, "command", 10_000, "operations of the asynchronous command; 0: none")
	f.IntVar(&c.live, "live", 50, "meters that are read in real time")
	f.Float64Var(&c.rate, "rate", 20, "reads in real time per second; 0: nobody reads")
	f.DurationVar(&c.quiet, "quiet", 10*time.Second, "how long nothing else is done")
	f.StringVar(&c.backends, "bin", "", "directory of the programs; default: they are built")
	f.StringVar(&c.uplink, "uplink", "redis", "which uplink log the backlog is in: redis or store")
	f.StringVar(&c.profile, "profile", "", "`FILE` for a CPU profile of the backend while the backlog drains")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	switch {
	case f.NArg() > 0:
		return c, fmt.Errorf("unknown argument %q", f.Arg(0))
	case c.backlog < 0 || c.devices < 1 || c.live < 1 || c.command < 0:
		return c, errors.New("-backlog and -command must not be negative, -devices and -live be 1 or more")
	case c.uplink != "redis" && c.uplink != "store":
		return c, errors.New("-uplink must be redis or store")
	case c.results < 0 || c.results > 1:
		return c, errors.New("-results must be 0 to 1")
	case c.rate < 0 || c.rate > 1000:
		return c, errors.New("-rate must be 0 to 1000")
	}
	return c, nil
}
