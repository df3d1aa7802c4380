//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"meterline/testkit/machine"
)

// report is what the program says, on standard output as Markdown and in the file of -json.
type report struct {
	machine.Head
	Runs     int      `json:"runs"`
	Small    bool     `json:"small,omitempty"`    // the figures say nothing
	Profiled bool     `json:"profiled,omitempty"` // they are not compared: profiles were taken meanwhile
	Results  []result `json:"results"`
}

// result is a case with one uplink log.
type result struct {
	Case    string   `json:"case"`
	Uplink  string   `json:"uplink"`
	Title   string   `json:"title"`
	Options any      `json:"options"`
	Runs    int      `json:"runs"`
	Figures []figure `json:"figures"`
	Checks  []check  `json:"checks"` // one of each run
	Loads   []load   `json:"loads"`  // the same
}

// print writes one table of all figures, and one of what was checked.
func (r *report) print(w io.Writer) {
	if r.Small {
		fmt.Fprint(w, "**A small run: the figures say nothing.**\n\n")
	}
	if r.Profiled {
		fmt.Fprint(w, "**Profiles were taken: the figures are not to be compared with those of other runs.**\n\n")
	}
	head(w, "case", "uplink", "figure", "median", "least to most", "unit", "goal", "reached")
	for _, one := range r.Results {
		for _, f := range one.Figures {
			spread, goal, reached := "", "", ""
			if len(f.Runs) > 1 {
				spread = short(f.Min) + " to " + short(f.Max)
			}
			if f.Goal != 0 {
				sign := map[bool]string{true: "≤ ", false: "≥ "}[f.Less]
				goal, reached = sign+short(f.Goal), f.reached()
			}
			row(w, one.Case, one.Uplink, f.label(), short(f.Median), spread, f.Unit, goal, reached)
		}
	}
	fmt.Fprintln(w)
	head(w, "case", "uplink", "acknowledged", "stored", "missing, twice, changed", "asked again", "load: share of a core", "its ceiling by what it did", "load was the limit")
	for _, one := range r.Results {
		for i, c := range one.Checks {
			l := one.Loads[i]
			row(w, one.Case, one.Uplink, thousands(c.Acknowledged), thousands(c.Stored), fmt.Sprintf("%d, %d, %d", c.Missing, c.Twice, c.Changed),
				thousands(c.AskedAgain), l.share(), l.headroom(), l.bound())
		}
	}
	fmt.Fprintf(w, "\n%s\n", r.limits())
	fmt.Fprintf(w, "\n%s\n", r.Line())
}

// limits says in a sentence where the load may have been the limit.
func (r *report) limits() string {
	var where []string
	for _, one := range r.Results {
		if slices.ContainsFunc(one.Loads, func(l load) bool { return l.Bound }) {
			where = append(where, one.Case+" with --uplink "+one.Uplink)
		}
	}
	if len(where) == 0 {
		return "The load was the limit of none of them."
	}
	return "**The load may have been the limit of** " + strings.Join(where, ", ") + "."
}

func head(w io.Writer, cells ...string) {
	row(w, cells...)
	fmt.Fprintln(w, strings.Repeat("|---", len(cells))+"|")
}

func row(w io.Writer, cells ...string) { fmt.Fprintln(w, "| "+strings.Join(cells, " | ")+" |") }

func readReport(file string) (*report, error) {
	in, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var r report
	if err := json.Unmarshal(in, &r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", file, err)
	}
	return &r, nil
}
