// Command faults breaks a whole system under load, as real processes on loopback, and then says whether anything was lost,
// counted twice or left hanging:
//
//	go run ./testkit/cmd/faults [flags]          seeds: several faults each, chosen by the seed
//	go run ./testkit/cmd/faults -kills 30        kills of each process, while 1300 readings a second or more are stored
//	go run ./testkit/cmd/faults -list            the faults there are
//
// Results are kept in -dir, one file a run: what was done is not done again. It prints Markdown. Exit status 1 means that
// something was lost, twice or hanging or that a run was void; 2 that the arguments are wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"meterline/testkit/faults"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// options are the flags.
type options struct {
	seeds, first int
	each         int
	long         bool
	uplink       string
	flush        bool
	only         string
	kills        int
	rate         float64
	dir          string
	keep         bool
	list         bool
	within       time.Duration
}

// Readings per second when -rate says nothing.
const (
	seedRate = 150
	killRate = 1300
)

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.seeds, "seeds", 20, "how many seeds")
	f.IntVar(&o.first, "first", 0, "the first seed")
	f.IntVar(&o.each, "each", 4, "faults of a seed")
	f.BoolVar(&o.long, "long", false, "hold faults for longer, and those that take long, too")
	f.StringVar(&o.uplink, "uplink", "both", "uplink log: redis, store, or both in turn")
	f.BoolVar(&o.flush, "flush", true, "after the seeds, one run with the faults that may lose what is not stored: rows of their own")
	f.StringVar(&o.only, "only", "", "only these faults, by name, separated by commas: one run with all of them")
	f.IntVar(&o.kills, "kills", 0, "instead of seeds: so many kills each of gateway, backend, Redis and PostgreSQL")
	f.Float64Var(&o.rate, "rate", 0, "readings per second that nobody asked for, of all devices; 0: 150, and 1300 with -kills, where less stored is void")
	f.StringVar(&o.dir, "dir", ".cache/faults", "where results are kept")
	f.BoolVar(&o.keep, "keep", false, "keep histories and logs of all runs, not only of those that failed")
	f.BoolVar(&o.list, "list", false, "list the faults")
	f.DurationVar(&o.within, "within", 0, "end after the run in which this time is over; 0: when all is done")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.rate == 0 {
		o.rate = seedRate
		if o.kills > 0 {
			o.rate = killRate
		}
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.uplink != "both" && o.uplink != "redis" && o.uplink != "store":
		return o, fmt.Errorf("-uplink: must be redis, store or both, not %q", o.uplink)
	case o.unknown() != "":
		return o, fmt.Errorf("-only: there is no fault %q: -list lists them", o.unknown())
	case o.rate < 0:
		return o, fmt.Errorf("-rate: must not be negative, and is %v", o.rate)
	case o.seeds < 0 || o.each < 1 || o.kills < 0:
		return o, errors.New("-seeds and -kills must not be negative, -each at least 1")
	}
	return o, nil
}

// unknown is the first of the faults of -only that there is not; "": none.
func (o options) unknown() string {
	if o.only == "" {
		return ""
	}
	for name := range strings.SplitSeq(o.only, ",") {
		if _, there := faults.Find(name); !there {
			return name
		}
	}
	return ""
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "faults:", err)
		return 2
	}
	if o.list {
		list(stdout)
		return 0
	}
	if err := o.perform(ctx, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "faults:", err)
		return 1
	}
	return 0
}

func (o options) perform(ctx context.Context, stdout, stderr io.Writer) error {
	s := &session{options: o, stderr: stderr, began: time.Now()}
	var trials []trial
	switch {
	case o.only != "":
		trials = o.onlyThese(strings.Split(o.only, ","))
	case o.kills > 0:
		trials = o.killings()
	default:
		trials = o.seeded()
	}
	results, err := s.all(ctx, trials)
	table(stdout, results)
	for _, r := range results {
		if err == nil && !r.good() {
			err = errors.New("not every run was good")
		}
	}
	return err
}
