//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"

	"meterline/testkit"
)

// drain: a backlog that came into the log while no backend was there. It is measured by testkit/cmd/drain, on servers of its own.
type drain struct {
	Backlog int `json:"uplinks"`
	Devices int `json:"devices"`
	quiet   string
}

func (d *drain) title() string {
	return "a backlog of uplinks, half of them results, drains while nobody reads in real time (testkit/cmd/drain)"
}

func (d *drain) flags(set *flag.FlagSet) {
	d.quiet = "10s"
	set.IntVar(&d.Backlog, "backlog", million, "uplinks that wait")
	set.IntVar(&d.Devices, "devices", 10_000, "devices that they are of")
}
func (d *drain) shrink() { d.Backlog, d.Devices, d.quiet = 400, 20, "500ms" }

// drained is what is looked at of the report of testkit/cmd/drain.
type drained struct {
	Backlog struct {
		Seconds        float64 `json:"seconds"`
		PerSecond      float64 `json:"per_second"`
		BackendMicros  float64 `json:"backend_cpu_us_each"`
		PostgresMicros float64 `json:"postgres_cpu_us_each"`
	} `json:"backlog"`
	Record struct {
		Missing    int64 `json:"missing"`
		Twice      int64 `json:"twice"`
		AskedAgain int64 `json:"asked_again"`
		NotEnded   int64 `json:"not_ended"`
		OutOfOrder int64 `json:"out_of_order"`
	} `json:"record"`
}

func (d *drain) run(ctx context.Context, r *rig) (*finding, error) {
	out, err := d.measured(ctx, r)
	if err != nil {
		return nil, err
	}
	f := &finding{}
	b := out.Backlog
	goal := 0.0
	if d.Backlog == million {
		goal = 40
	}
	f.less("drained", "s", b.Seconds, goal)
	f.more("uplinks", "/s", b.PerSecond, 0)
	f.less(cpuOf+"backend", "µs/uplink", b.BackendMicros, 0)
	f.less(cpuOf+"PostgreSQL", "µs/uplink", b.PostgresMicros, 0)
	n, c := int64(d.Backlog), out.Record
	f.Check = check{Acknowledged: n, Stored: n - c.Missing + c.Twice, Missing: c.Missing, Twice: c.Twice, Changed: c.OutOfOrder, NotEnded: c.NotEnded,
		AskedAgain: c.AskedAgain}
	return f, nil
}

// measured builds the program, and runs it with the programs that are there already.
func (d *drain) measured(ctx context.Context, r *rig) (out drained, err error) {
	dir, remove, err := testkit.Scratch("drain")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	program := filepath.Join(dir, "drain")
	if said, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", program, "meterline/testkit/cmd/drain").CombinedOutput(); err != nil {
		return out, fmt.Errorf("build drain: %w\n%s", err, said)
	}
	args := []string{"-backlog", strconv.Itoa(d.Backlog), "-devices", strconv.Itoa(d.Devices), "-command", "0", "-live", "1", "-rate", "0",
		"-quiet", d.quiet, "-uplink", r.Uplink(), "-bin", r.Programs}
	var stdout []byte
	measure := func(more ...string) error {
		var stderr bytes.Buffer
		c := exec.CommandContext(ctx, program, append(args, more...)...)
		c.Stderr = &stderr
		var err error
		if stdout, err = c.Output(); err != nil {
			return fmt.Errorf("drain: %w\n%s", err, stderr.String())
		}
		return nil
	}
	if r.profiler != nil { // what the gateway does meanwhile is nothing
		err = r.profiler.keep("backend", func(file string) error { return measure("-profile", file) })
	} else {
		err = measure()
	}
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(stdout, &out); err != nil {
		return out, fmt.Errorf("read what drain says: %w", err)
	}
	return out, nil
}
