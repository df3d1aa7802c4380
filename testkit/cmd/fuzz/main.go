// Command fuzz runs the fuzz targets of the repository, one after the other, and keeps what they found and the totals:
//
//	go run ./testkit/cmd/fuzz                     every target until it has had 30 CPU minutes, over all runs
//	go run ./testkit/cmd/fuzz -time 4s            every target for four seconds, as CI does
//	go run ./testkit/cmd/fuzz -run mqtt/broker    some of them
//	go run ./testkit/cmd/fuzz -list               what there is
//	go run ./testkit/cmd/fuzz -cover              how much of the decoders the committed inputs reach
//	go run ./testkit/cmd/fuzz -distil             commit what was found, as far as it reaches more
//
// The exit status is 1 when a target failed, or the coverage is too low, and 2 when the arguments are wrong. A run that
// is interrupted goes on where it was: inputs and totals are in -cache.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are what the command line says.
type options struct {
	root     string // of the repository
	cpu      time.Duration
	wall     time.Duration
	parallel int
	only     *regexp.Regexp
	cache    string
	list     bool
	cover    bool
	distil   bool
	least    float64
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.root, "root", ".", "root of the repository")
	flags.DurationVar(&o.cpu, "cpu", 30*time.Minute, "CPU time that each target is to have had, over all runs")
	flags.DurationVar(&o.wall, "time", 0, "run each target for so long instead, and leave the totals alone")
	flags.IntVar(&o.parallel, "parallel", 2, "workers of a target")
	only := flags.String("run", "", "only targets whose package/Name matches this regular expression")
	flags.StringVar(&o.cache, "cache", ".cache/fuzz", "where inputs, test binaries and totals.json are kept")
	flags.BoolVar(&o.list, "list", false, "list the targets and their totals")
	flags.BoolVar(&o.cover, "cover", false, "print the coverage of the decoders by the committed inputs")
	flags.BoolVar(&o.distil, "distil", false, "copy inputs from the cache to testdata/fuzz that reach more of the decoders")
	flags.Float64Var(&o.least, "least", 90, "percent of the decoders' statements that -cover wants")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.parallel < 1 {
		return o, errors.New("-parallel must be at least 1")
	}
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if o.root, err = filepath.Abs(o.root); err != nil {
		return o, fmt.Errorf("-root: %w", err)
	}
	if !filepath.IsAbs(o.cache) {
		o.cache = filepath.Join(o.root, o.cache)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "fuzz:", err)
		return 2
	}
	targets, err := find(o.root, o.only)
	if err == nil && len(targets) == 0 {
		err = errors.New("no fuzz target matches")
	}
	if err == nil {
		err = do(ctx, o, targets, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "fuzz:", err)
		return 1
	}
	return 0
}

func do(ctx context.Context, o options, targets []target, out io.Writer) error {
	switch {
	case o.list:
		all, err := load(o.totals())
		if err != nil {
			return err
		}
		all.print(out, targets)
		return nil
	case o.cover:
		return coverage(ctx, o, targets, out)
	case o.distil:
		return distil(ctx, o, targets, out)
	}
	return fuzzAll(ctx, o, targets, out)
}

func (o options) totals() string { return filepath.Join(o.cache, "totals.json") }
