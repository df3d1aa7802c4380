// Command outage takes a server away from a whole system under load, as real processes on loopback, and tells second by second
// what users of the API and devices saw:
//
//	go run ./testkit/cmd/outage -what flush              FLUSHALL of the Redis that holds everything
//	go run ./testkit/cmd/outage -what redis              Redis is killed, and started again after a minute
//	go run ./testkit/cmd/outage -what postgres           the same of PostgreSQL
//	go run ./testkit/cmd/outage -what redis -how pause   it stands still: connections stay open and nothing answers
//
// It prints Markdown: a row for each second, rows that are alike put together, then a summary, then what the checker says
// (package checker). Exit status 1 means that something was lost, twice or hanging; 2 that the arguments are wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// options are the flags.
type options struct {
	what, how, uplink    string
	lasts, before, after time.Duration
	rate                 float64
	dir                  string
	keep                 bool
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("outage", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.what, "what", "", "what is done: flush, redis or postgres")
	f.StringVar(&o.how, "how", "kill", "how a server goes: kill (SIGKILL), stop (it ends in order) or pause (it stands still)")
	f.StringVar(&o.uplink, "uplink", "redis", "uplink log: redis or store")
	f.DurationVar(&o.lasts, "for", time.Minute, "how long the server is away")
	f.DurationVar(&o.before, "before", 10*time.Second, "how long nothing is wrong before that")
	f.DurationVar(&o.after, "after", 20*time.Second, "how long it goes on afterwards at least: until all is quiet in any case")
	f.Float64Var(&o.rate, "rate", 200, "readings per second that nobody asked for")
	f.StringVar(&o.dir, "dir", ".cache/outage", "where the rows of all seconds are kept, and histories and logs of a run that was not good")
	f.BoolVar(&o.keep, "keep", false, "keep histories and logs in any case")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.what == "flush" {
		o.how, o.lasts = "flush", 0
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case !slices.Contains([]string{"flush", "redis", "postgres"}, o.what):
		return o, fmt.Errorf("-what: must be flush, redis or postgres, not %q", o.what)
	case o.what != "flush" && !slices.Contains([]string{"kill", "stop", "pause"}, o.how):
		return o, fmt.Errorf("-how: must be kill, stop or pause, not %q", o.how)
	case o.uplink != "redis" && o.uplink != "store":
		return o, fmt.Errorf("-uplink: must be redis or store, not %q", o.uplink)
	case o.what != "flush" && o.lasts < time.Second || o.before < time.Second || o.after < time.Second:
		return o, errors.New("-for, -before and -after must be 1s at least")
	case o.rate <= 0 || o.rate > 1000:
		return o, errors.New("-rate must be above 0 and at most 1000")
	}
	return o, nil
}

// name is that of a run, for titles and files.
func (o options) name() string {
	name := []string{o.what, o.how, o.uplink}
	if o.what == "flush" {
		name = []string{o.what, o.uplink}
	}
	return strings.Join(name, "-")
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "outage:", err)
		return 2
	}
	r, err := o.perform(ctx, stderr)
	if err == nil {
		err = r.tell(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "outage:", err)
		return 1
	}
	return 0
}
