//go:build linux

// Command bench measures how fast the whole is, on one machine, and what each process pays for it:
//
//	go run ./testkit/cmd/bench CASE[,CASE...]|all [flags]
//
// Every case starts its own PostgreSQL and Redis, a gateway and a backend, built from the sources as they are, and a load that is
// this process. It prints one table as Markdown; -json writes all figures, -plot draws them. Nothing is measured that was not
// durable: at the end of each run the record is compared with what was acknowledged. Exit status 1 means that something of that is
// missing, twice or wrong, or that a case failed; 2 that the arguments are wrong. How fast it was is never a failure.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"meterline/testkit/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, is := child(ctx, os.Args[1:], os.Stderr)
	if !is {
		status = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return 2
	}
	say := func(format string, args ...any) { fmt.Fprintf(stderr, "bench: "+format+"\n", args...) }
	switch {
	case o.compare:
		err = compare(stdout, o.files[0], o.files[1])
	default:
		err = o.report(ctx, args, stdout, say)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		if errors.Is(err, errUnknown) {
			return 2
		}
		return 1
	}
	return 0
}

// report measures, unless there is a file of what was measured before, and shows it in all ways that are asked for. What was
// measured before something failed is shown, too.
func (o options) report(ctx context.Context, args []string, stdout io.Writer, say func(string, ...any)) (err error) {
	if err := o.profilable(ctx); err != nil {
		return err
	}
	r := &report{Head: machine.Begin("bench", args), Runs: o.runs, Small: o.small, Profiled: o.profile != ""}
	if o.from != "" {
		if r, err = readReport(o.from); err != nil {
			return err
		}
	} else {
		if o.ref != "" {
			r.Commit = machine.Named(o.ref)
		}
		err = o.measure(ctx, r, say)
		r.End()
	}
	r.print(stdout)
	if o.json != "" {
		err = errors.Join(err, machine.WriteReport(o.json, r))
	}
	if o.plot != "" {
		err = errors.Join(err, plot(o.plot, r))
	}
	return err
}

// measure does the chosen cases one after the other, each with every uplink log, so many times. It goes on after one that failed.
func (o options) measure(ctx context.Context, to *report, say func(string, ...any)) (err error) {
	var failed []error
	b := &bench{options: o, say: say, ceilings: map[shape]float64{}}
	b.version = &to.Machine.PostgreSQL
	if o.profile != "" {
		if b.profiler, err = newProfiler(o.profile); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(append(failed, err, b.close(), b.profiler.close())...) }()
	for _, name := range o.chosen {
		for _, uplink := range o.uplinks {
			one := result{Case: name, Uplink: uplink, Title: o.cases[name].title(), Options: o.cases[name]}
			for i := range o.runs {
				say("%s, %s, run %d of %d", name, uplink, i+1, o.runs)
				f, err := b.once(ctx, name, uplink)
				if err != nil {
					failed = append(failed, fmt.Errorf("%s, --uplink %s: %w", name, uplink, err))
					break
				}
				one.add(f)
			}
			if err := b.profiler.write(ctx, name, uplink, say); err != nil {
				failed = append(failed, fmt.Errorf("%s, --uplink %s: %w", name, uplink, err))
			}
			if one.Runs > 0 {
				to.Results = append(to.Results, one)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return nil
}

// bench is what runs of cases share.
type bench struct {
	options
	say      func(string, ...any)
	profiler *profiler // nil: no profiles are asked for
	rig      *rig      // of the last run
	version  *string   // of PostgreSQL, to be found out
	ceilings map[shape]float64
}

// once is one run of a case. Each has servers and programs of its own, but in a small run, which is not about figures.
func (b *bench) once(ctx context.Context, name, uplink string) (*finding, error) {
	if b.rig == nil || !b.small || b.rig.Uplink() != uplink {
		if err := b.close(); err != nil {
			return nil, err
		}
		r, err := newRig(ctx, uplink, b.ref, b.profiler, b.say)
		if err != nil {
			return nil, err
		}
		b.rig = r
		if err := r.DB.QueryRowContext(ctx, `SHOW server_version`).Scan(b.version); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	f, err := b.cases[name].run(ctx, b.rig)
	if err == nil {
		err = f.Check.wrong()
	}
	if err != nil {
		return nil, errors.Join(err, b.rig.ended(), b.close())
	}
	return f, b.bound(ctx, f)
}

func (b *bench) close() error {
	if b.rig == nil {
		return nil
	}
	err := b.rig.close()
	b.rig = nil
	return err
}
