//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"meterline/testkit"
	"meterline/testkit/cluster"
	"meterline/testkit/profile"
)

// profiler takes profiles of gateway and backend while a case measures. Those of all that is measured of a case, in all of its runs,
// make one. A nil profiler takes none.
type profiler struct {
	dir              string // what is kept
	scratch          string // what is not
	remove           func() error
	gateway, backend string              // where they serve their profiles
	taken            map[string][]string // files of the case that is measured, by program
	count            int
}

func newProfiler(dir string) (p *profiler, err error) {
	p = &profiler{dir: dir, taken: map[string][]string{}}
	for _, address := range []*string{&p.gateway, &p.backend} {
		if *address, err = testkit.FreeAddress(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("-profile: %w", err)
	}
	p.scratch, p.remove, err = testkit.Scratch("profiles")
	return p, err
}

func (p *profiler) close() error {
	if p == nil {
		return nil
	}
	return p.remove()
}

// debug is the flag of a program that serves its profiles.
func debug(address string) []string { return []string{"--debug", address} }

// keep lets somebody write one more profile of a program to a file.
func (p *profiler) keep(program string, write func(file string) error) error {
	p.count++
	file := filepath.Join(p.scratch, strconv.Itoa(p.count))
	if err := write(file); err != nil {
		return err
	}
	p.taken[program] = append(p.taken[program], file)
	return nil
}

// around does something while profiles are taken of the programs that are up.
func (p *profiler) around(r *rig, do func() error) (err error) {
	if p == nil {
		return do()
	}
	under := map[string]*profile.Taking{}
	for program, of := range map[string]struct {
		node    *cluster.Node
		address string
	}{"gateway": {r.gateway, p.gateway}, "backend": {r.backend, p.backend}} {
		if of.node.PID() == 0 {
			continue
		}
		taking, err := profile.Begin(of.address)
		if err != nil {
			return errors.Join(err, p.end(under, false))
		}
		under[program] = taking
	}
	err = do()
	return errors.Join(err, p.end(under, err == nil))
}

// end ends what is under way, and keeps it or not.
func (p *profiler) end(under map[string]*profile.Taking, keep bool) error {
	var errs []error
	for program, taking := range under {
		if keep {
			errs = append(errs, p.keep(program, taking.End))
		} else {
			errs = append(errs, taking.Drop())
		}
	}
	return errors.Join(errs...)
}

// write makes the files of a case of what was taken of it.
func (p *profiler) write(ctx context.Context, name, uplink string, say func(string, ...any)) error {
	if p == nil {
		return nil
	}
	for _, program := range []string{"gateway", "backend"} {
		parts := p.taken[program]
		delete(p.taken, program)
		if len(parts) == 0 {
			say("%s, %s: no profile of the %s: its processor is not what was measured", name, uplink, program)
			continue
		}
		base := filepath.Join(p.dir, name+"-"+uplink+"-"+program)
		if err := profile.Merge(ctx, base+".pprof", parts); err != nil {
			return err
		}
		if err := profile.Top(ctx, base+".txt", base+".pprof"); err != nil {
			return err
		}
		for _, part := range parts {
			if err := os.Remove(part); err != nil {
				return err
			}
		}
	}
	return nil
}

// errUnknown is that the programs are older than the flag that their profiles are taken by.
var errUnknown = errors.New("-profile: gateway or backend of that commit has no --debug, so no profile of it can be taken")

// known says whether the programs in a directory can be profiled.
func known(ctx context.Context, programs string) error {
	for _, argv := range [][]string{{"gateway"}, {"backend", "serve"}} {
		argv[0] = filepath.Join(programs, argv[0])
		if has, err := profile.Known(ctx, argv...); err != nil || !has {
			return errors.Join(err, errUnknown)
		}
	}
	return nil
}

// profilable says so of what is going to be measured, which it builds.
func (o options) profilable(ctx context.Context) error {
	if o.profile == "" {
		return nil
	}
	programs, err := cluster.Build{Ref: o.ref}.Programs(ctx)
	if err != nil {
		return err
	}
	return known(ctx, programs)
}
