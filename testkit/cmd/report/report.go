package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// event is one line of `go test -json` (go doc test2json; build-output and build-fail: go help buildjson).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

type key struct{ pkg, test string }

type timed struct {
	name    string
	seconds float64
}

// report collects events. It writes a package's line when the package is done and the rest in summary.
type report struct {
	out    io.Writer
	output map[key]*strings.Builder // of what has not ended yet
	ran    map[string]int           // package → tests that ended

	tests, passed, failedTests, failedPackages int

	skips    []string
	packages []timed
	slow     []timed // top-level tests
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[key]*strings.Builder{}, ran: map[string]int{}}
}

// line takes one line of output; one that is not an event is passed on as it is.
func (r *report) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		_, _ = r.out.Write(line)
		return
	}
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output":
		if r.output[k] == nil {
			r.output[k] = &strings.Builder{}
		}
		r.output[k].WriteString(e.Output)
	case "build-output":
		_, _ = io.WriteString(r.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.packageEnded(e)
		} else {
			r.testEnded(e)
		}
		delete(r.output, k)
	}
}

func (r *report) testEnded(e event) {
	r.tests++
	r.ran[e.Package]++
	if !strings.Contains(e.Test, "/") {
		r.slow = append(r.slow, timed{e.Package + " " + e.Test, e.Elapsed})
	}
	said := r.said(key{e.Package, e.Test})
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failedTests++
		fmt.Fprintf(r.out, "--- FAIL: %s %s (%.2fs)\n%s", e.Package, e.Test, e.Elapsed, said)
	case "skip":
		r.skips = append(r.skips, fmt.Sprintf("%s %s: %s", e.Package, e.Test, strings.Join(strings.Fields(said), " ")))
	}
}

func (r *report) packageEnded(e event) {
	switch e.Action {
	case "skip":
		fmt.Fprintf(r.out, "-     %s (no tests)\n", e.Package)
		return
	case "pass":
		fmt.Fprintf(r.out, "ok    %s %.1fs, %d tests\n", e.Package, e.Elapsed, r.ran[e.Package])
	case "fail":
		r.failedPackages++
		for _, k := range r.unfinished(e.Package) { // a panic, a timeout or an exit: their tests have no end of their own
			fmt.Fprintf(r.out, "--- UNFINISHED: %s %s\n%s", k.pkg, k.test, r.said(k))
			delete(r.output, k)
		}
		fmt.Fprintf(r.out, "%sFAIL  %s %.1fs\n", r.said(key{pkg: e.Package}), e.Package, e.Elapsed)
	}
	r.packages = append(r.packages, timed{e.Package, e.Elapsed})
}

func (r *report) unfinished(pkg string) []key {
	var keys []key
	for k := range r.output {
		if k.pkg == pkg && k.test != "" {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Compare(a.test, b.test) })
	return keys
}

// said is what a test or package printed, without the lines that only frame it.
func (r *report) said(k key) string {
	b := r.output[k]
	if b == nil {
		return ""
	}
	var kept strings.Builder
	for line := range strings.Lines(b.String()) {
		bare := strings.TrimSpace(line)
		frame := strings.HasPrefix(bare, "=== ") || strings.HasPrefix(bare, "--- ") || bare == "PASS" || bare == "FAIL" ||
			strings.HasPrefix(line, "FAIL\t")
		if !frame {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

const slowest = 5

func (r *report) summary(took time.Duration) {
	for _, list := range []struct {
		title string
		items []timed
	}{{"slowest packages:", r.packages}, {"slowest tests:", r.slow}} {
		slices.SortStableFunc(list.items, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
		fmt.Fprintln(r.out, list.title)
		for _, t := range list.items[:min(slowest, len(list.items))] {
			fmt.Fprintf(r.out, "  %7.2fs %s\n", t.seconds, t.name)
		}
	}
	for _, s := range r.skips {
		fmt.Fprintln(r.out, "skipped:", s)
	}
	fmt.Fprintf(r.out, "%d tests in %d packages: %d passed, %d failed, %d skipped, in %.1fs\n",
		r.tests, len(r.packages), r.passed, r.failedTests, len(r.skips), took.Seconds())
	if r.failedPackages > 0 {
		fmt.Fprintf(r.out, "%d packages failed\n", r.failedPackages)
	}
}
