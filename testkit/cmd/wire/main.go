// Command wire tries the catalogue of MQTT wire cases against any broker and prints what it saw:
//
//	go run ./testkit/cmd/wire -broker 127.0.0.1:1883 [-v3|-v5] [-run REGEXP] [-user NAME -password SECRET]
//
// The expression is looked for in names and clauses. Its exit status is 1 when a case failed, 2 when the arguments are
// wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"meterline/mqtt/wiretest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the arguments.
type options struct {
	target    wiretest.Target
	v3, v5    bool
	expr      string
	device    string
	endpoints bool
	failed    bool
	mosquitto bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return 2
	}
	cases, err := o.cases()
	if err != nil {
		fmt.Fprintln(stderr, "wire:", err)
		return 2
	}
	began := time.Now()
	results := wiretest.Run(ctx, o.target, cases)
	if o.report(stdout, results, time.Since(began)) > 0 {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("wire", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.target.Address, "broker", "", "host:port of the broker, plain TCP")
	flags.StringVar(&o.target.User, "user", "", "user name of a client that may do everything")
	flags.StringVar(&o.target.Password, "password", "", "its password")
	flags.DurationVar(&o.target.Patience, "patience", 3*time.Second, "how long to wait for one answer")
	flags.IntVar(&o.target.Parallel, "parallel", 64, "cases at a time")
	flags.BoolVar(&o.v3, "v3", false, "only 3.1.1")
	flags.BoolVar(&o.v5, "v5", false, "only 5")
	flags.StringVar(&o.expr, "run", "", "only cases in whose name or clauses the expression is found")
	flags.BoolVar(&o.failed, "failed", false, "list only what failed")
	flags.BoolVar(&o.mosquitto, "mosquitto", false, "the broker is mosquitto 2.0.11: do not count where it is known to differ")
	flags.BoolVar(&o.endpoints, "endpoints", false, "the cases for endpoints, one at a time, with -device")
	flags.StringVar(&o.device, "device", "", "id:secret of an endpoint that nobody else uses")
	flags.StringVar(&o.target.Backend, "backend", "", "password of user backend, for the cases with commands")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	id, secret, ok := strings.Cut(o.device, ":")
	switch {
	case o.target.Address == "":
		err = fmt.Errorf("-broker is missing")
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.endpoints && !ok:
		err = fmt.Errorf("-device id:secret is missing")
	case o.endpoints:
		o.target.Parallel, o.target.Devices = 1, func() (string, string) { return id, secret }
	}
	if err != nil {
		fmt.Fprintln(stderr, "wire:", err)
	}
	return o, err
}

// cases are those that the arguments select.
func (o options) cases() (cases []wiretest.Case, err error) {
	expr, err := regexp.Compile(o.expr)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	all := wiretest.Catalogue()
	if o.endpoints {
		all = wiretest.Endpoints()
	}
	for _, c := range wiretest.Select(all, expr) {
		if o.v3 == o.v5 || o.v3 == (c.Version == wiretest.V3) {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("no case matches")
	}
	return cases, nil
}

// report prints the table and returns how many cases failed.
func (o options) report(w io.Writer, results []wiretest.Result, took time.Duration) (failed int) {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	skipped := 0
	for _, r := range results {
		outcome, seen := "ok", ""
		switch {
		case r.Err != nil && o.mosquitto && r.Deviates != "":
			outcome, seen = "known", r.Deviates
		case r.Err != nil:
			outcome, seen = "FAILED", r.Err.Error()
			failed++
		case r.Skipped != "":
			outcome, seen = "skipped", r.Skipped
			skipped++
		case o.failed:
			continue
		}
		if r.Err != nil && r.Option != "" {
			seen += " (optional: " + r.Option + ")"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", outcome, r.Name, strings.Join(r.Clauses, " "), seen)
	}
	_ = table.Flush() // to a terminal or a file that nobody could be told about
	fmt.Fprintf(w, "%d cases in %v: %d failed, %d skipped\n", len(results), took.Round(time.Millisecond), failed, skipped)
	return failed
}
