//go:build linux

// Command edge measures what the promises of the edge are about, over real sockets and processes:
//
//	go run ./testkit/cmd/edge CASE [flags]
//
// It starts its own PostgreSQL and Redis, registers devices, and drives a gateway and, beside it, a plain mochi broker with
// its defaults. A case prints one table as Markdown; --json writes all figures. Everything it has started ends with it.
// Exit status 1 means that a case failed or is void, 2 that the arguments are wrong.
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

	"meterline/testkit/machine"
)

func main() {
	if status, is := child(os.Args[1:], os.Stdout, os.Stderr); is {
		os.Exit(status)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// child is what this program does for itself in processes of their own.
func child(args []string, stdout, stderr io.Writer) (status int, is bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case plainMode:
		return servePlain(args[1:], stderr), true
	case attackMode:
		return serveAttack(args[1:], stdout, stderr), true
	}
	return 0, false
}

// A measure is one case. Its fields are its options.
type measure interface {
	flags(*flag.FlagSet)
	// devices is how many devices it needs registered.
	devices() int
	run(context.Context, *rig) (finding, error)
}

// names are the cases in the order of `all`.
var names = []string{"stall", "attack", "memory", "reconnect", "flood"}

func measures() map[string]measure {
	return map[string]measure{
		"stall": &stall{}, "attack": &attack{}, "memory": &memory{}, "reconnect": &reconnect{}, "flood": &flood{},
	}
}

// list is a flag that may be given again.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// options are the flags that all cases have.
type options struct {
	json    string
	bin     string
	plain   bool
	gateway list
	chosen  []string
	cases   map[string]measure
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	o.cases = measures()
	usage := "usage: edge " + strings.Join(names, "|") + "|all [flags]"
	if len(args) == 0 || args[0] != "all" && o.cases[args[0]] == nil {
		fmt.Fprintln(stderr, usage)
		return o, flag.ErrHelp
	}
	set := flag.NewFlagSet(args[0], flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&o.json, "json", "", "`FILE` to write all figures to")
	set.StringVar(&o.bin, "bin", "", "`DIRECTORY` that has gateway and backend, instead of building them")
	set.BoolVar(&o.plain, "plain", true, "measure a plain mochi broker too")
	set.Var(&o.gateway, "gateway", "`FLAG` to give to the gateway, such as --gateway=--max-payload=1024, with absolute paths of files; may be given again")
	o.chosen = args[:1]
	if args[0] == "all" {
		o.chosen = names
		for _, m := range o.cases { // theirs have the defaults
			m.flags(flag.NewFlagSet("", flag.ContinueOnError))
		}
	} else {
		o.cases[args[0]].flags(set)
	}
	if err := set.Parse(args[1:]); err != nil {
		return o, err
	}
	if set.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", set.Arg(0))
		fmt.Fprintln(stderr, "edge:", err)
	}
	return o, err
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return 2
	}
	out := report{Head: machine.Begin("edge", args)}
	err = o.measure(ctx, &out, stdout, stderr)
	if out.End(); len(out.Findings) > 0 {
		fmt.Fprintf(stdout, "\n%s\n", out.Line())
	}
	if o.json != "" {
		err = errors.Join(err, machine.WriteReport(o.json, out))
	}
	if err != nil {
		fmt.Fprintln(stderr, "edge:", err)
		return 1
	}
	return 0
}

// measure runs the chosen cases, and goes on to the next when one is void.
func (o options) measure(ctx context.Context, out *report, stdout, stderr io.Writer) (err error) {
	r, err := newRig(ctx, o.bin, stderr)
	if err != nil {
		return err
	}
	r.withPlain, r.gatewayArgs = o.plain, o.gateway
	defer func() { err = errors.Join(err, r.close()) }()
	var void []error
	for _, name := range o.chosen {
		found, err := r.measure(ctx, name, o.cases[name])
		if err != nil {
			return errors.Join(append(void, err)...)
		}
		found.print(stdout)
		out.Findings = append(out.Findings, found)
		if found.Void != "" {
			void = append(void, fmt.Errorf("%s is void: %s", name, found.Void))
		}
	}
	return errors.Join(void...)
}

func (r *rig) measure(ctx context.Context, name string, m measure) (finding, error) {
	began := time.Now()
	if err := r.register(ctx, m.devices()); err != nil {
		return finding{}, fmt.Errorf("register devices: %w", err)
	}
	found, err := m.run(ctx, r)
	if err != nil {
		return finding{}, fmt.Errorf("%s: %w", name, err)
	}
	found.Case, found.Options, found.Seconds = name, m, time.Since(began).Seconds()
	return found, nil
}
