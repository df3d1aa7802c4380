package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// total is what one target did over all runs.
type total struct {
	Runs        int     `json:"runs"`
	Execs       int64   `json:"execs"`
	Interesting int64   `json:"new_interesting"`
	CPUSeconds  float64 `json:"cpu_seconds"`  // of the test binary and its workers, without compiling
	WallSeconds float64 `json:"wall_seconds"` // the same
	Crashes     int     `json:"crashes"`
}

func (t total) cpu() time.Duration { return time.Duration(t.CPUSeconds * float64(time.Second)) }

func (t *total) add(o total) {
	t.Runs += o.Runs
	t.Execs += o.Execs
	t.Interesting += o.Interesting
	t.CPUSeconds += o.CPUSeconds
	t.WallSeconds += o.WallSeconds
	t.Crashes += o.Crashes
}

// totals are those of all targets, by package and name.
type totals map[string]*total

func (t totals) of(name string) *total {
	if t[name] == nil {
		t[name] = &total{}
	}
	return t[name]
}

func load(path string) (totals, error) {
	all := totals{}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read totals: %w", err)
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("read totals in %s: %w", path, err)
	}
	return all, nil
}

// save replaces the file as a whole: a run may be killed at any time.
func (t totals) save(path string) error {
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return fmt.Errorf("write totals: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write totals: %w", err)
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write totals: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write totals: %w", err)
	}
	return nil
}

func (t totals) print(out io.Writer, targets []target) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "target\truns\texecs\tnew interesting\tCPU min\twall min\tcrashes\t")
	sum := total{}
	for _, target := range targets {
		one := *t.of(target.String())
		sum.add(one)
		one.line(w, target.String())
	}
	sum.line(w, "all")
	_ = w.Flush()
}

func (t total) line(w io.Writer, name string) {
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.1f\t%.1f\t%d\t\n", name, t.Runs, t.Execs, t.Interesting, t.CPUSeconds/60, t.WallSeconds/60, t.Crashes)
}
