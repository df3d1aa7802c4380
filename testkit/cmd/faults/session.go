package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"meterline/testkit/faults"
)

// session is one call of the program.
type session struct {
	options
	stderr io.Writer
	began  time.Time
}

// logs are the uplink logs that seeds take in turn.
func (o options) logs() []string {
	if o.uplink == "both" {
		return []string{"redis", "store"}
	}
	return []string{o.uplink}
}

// seeded are the trials of the seeds, and those that flush.
func (o options) seeded() (all []trial) {
	logs := o.logs()
	for i := o.first; i < o.first+o.seeds; i++ {
		uplink := logs[i%len(logs)]
		seed := uint64(i) //nolint:gosec // not negative
		plan := faults.Schedule(seed, faults.Options{Long: o.long, Uplink: uplink, Each: o.each})
		all = append(all, trial{Name: fmt.Sprintf("seed %d", i), Seed: seed, Uplink: uplink, Faults: plan, Fleet: few, Rate: o.rate})
	}
	if o.flush {
		plan := faults.Schedule(0, faults.Options{Long: o.long, Flush: true, Uplink: "redis", Each: o.each})
		all = append(all, trial{Name: "flush", Uplink: "redis", Faults: plan, Fleet: few, Rate: o.rate})
	}
	return all
}

func (o options) onlyThese(names []string) (all []trial) {
	for _, uplink := range o.logs() {
		t := trial{Name: "only", Seed: uint64(o.first), Uplink: uplink, Fleet: few, Rate: o.rate} //nolint:gosec // not negative
		for i, name := range names {
			t.Faults = append(t.Faults, planned(name, i, o.long))
		}
		all = append(all, t)
	}
	return all
}

// spare is how much more than the least that is to be stored is handed in: it takes a moment until all devices are at it, and
// what lies at devices when the load ends is not counted.
const spare = 1.1

// killings are kills of each process, a process a trial. They count only at the rate that was asked for.
func (o options) killings() (all []trial) {
	for _, uplink := range o.logs() {
		for _, name := range []string{"gateway-killed", "backend-killed", "redis-killed", "postgres-killed"} {
			t := trial{Name: fmt.Sprintf("%d × %s", o.kills, name), Uplink: uplink, Fleet: many, Rate: o.rate * spare, Least: o.rate}
			for i := range o.kills {
				t.Faults = append(t.Faults, planned(name, i, o.long))
			}
			all = append(all, t)
		}
	}
	return all
}

func planned(name string, i int, long bool) faults.Planned {
	f, _ := faults.Find(name)
	p := faults.Planned{Fault: name, Seed: uint64(i), After: time.Second, Hold: f.Short} //nolint:gosec // not negative
	if long {
		p.Hold = f.Long
	}
	return p
}

// all performs the trials that were not performed before.
func (s *session) all(ctx context.Context, trials []trial) (results []result, err error) {
	for _, t := range trials {
		if s.within > 0 && time.Since(s.began) > s.within {
			return results, fmt.Errorf("%d of %d runs in %v: call it again to go on", len(results), len(trials), s.within)
		}
		r, err := s.one(ctx, t)
		if err != nil {
			return results, fmt.Errorf("%s: %w", t.Name, err)
		}
		results = append(results, r)
		fmt.Fprint(s.stderr, line(r))
	}
	return results, nil
}

// one gives the result of a trial, by performing it unless there is one that was good.
func (s *session) one(ctx context.Context, t trial) (result, error) {
	file := filepath.Join(s.dir, t.key()+".json")
	if r, err := read(file); err == nil && r.good() {
		return r, nil
	}
	dir := filepath.Join(s.dir, t.key())
	tries := triesOfOne
	if t.Least > 0 { // what is too slow stays so
		tries = 1
	}
	r, err := s.again(tries, func() (result, error) {
		if err := clean(dir); err != nil {
			return result{}, err
		}
		return t.perform(ctx, dir)
	})
	if err != nil {
		return r, fmt.Errorf("%w (logs and history are in %s)", err, dir)
	}
	if r.good() && !s.keep {
		err = clean(dir)
	}
	return r, errors.Join(err, write(file, r))
}

// triesOfOne is how often a trial is performed that showed nothing, which a busy machine may be the reason for.
const triesOfOne = 3

// again performs a trial until it shows something, so often at most.
func (s *session) again(tries int, perform func() (result, error)) (r result, err error) {
	for n := 1; ; n++ {
		if r, err = perform(); err != nil || n == tries || !r.shownNothing() {
			return r, err
		}
		fmt.Fprintf(s.stderr, "%s\tit is performed again\n", line(r))
	}
}

func read(file string) (r result, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

func write(file string, r result) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}
