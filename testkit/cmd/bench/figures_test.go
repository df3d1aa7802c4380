//go:build linux

package main

import (
	"bytes"
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"meterline/testkit/machine"
)

func TestArguments(t *testing.T) {
	for _, args := range [][]string{
		{"fast"}, {"direct,fast"}, {"-runs", "0"}, {"-uplink", "memory"}, {"-compare", "a.json"}, {"direct", "more"}, {"direct", "-polls", "3"},
		{"memory", "-connections", "5,3"}, {"command", "-meters", "0"}, {"-help"},
		{"-profile", "p", "-from", "a.json"}, {"-profile", "p", "-compare", "a.json", "b.json"},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), args, &stdout, &stderr); status != 2 || stderr.Len() == 0 || stdout.Len() != 0 {
			t.Errorf("%v: status %d: %s%s", args, status, stdout.String(), stderr.String())
		}
	}
	o, err := parse([]string{"memory", "-connections", "3,50", "-settle", "1s"}, &bytes.Buffer{})
	if m, is := o.cases["memory"].(*memory); err != nil || !is || m.Sizes.String() != "3,50" || len(o.chosen) != 1 || len(o.uplinks) != 2 {
		t.Errorf("%+v, %v", o, err)
	}
}

// Every case has a place in the order, and a small form that is smaller.
func TestCasesAreListed(t *testing.T) {
	all := measures()
	if len(all) != len(names) {
		t.Errorf("%d cases, %d names", len(all), len(names))
	}
	for _, name := range names {
		if all[name] == nil {
			t.Fatalf("%s is no case", name)
		}
		all[name].flags(flag.NewFlagSet("", flag.ContinueOnError))
		all[name].shrink()
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.01234: "0.0123", 1.5: "1.50", 40: "40.0", 123.4: "123", 9999: "9999", 15000: "15 000", 1234567: "1 234 567", -12345: "-12 345"} {
		if got := short(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}

// runs makes a result of figures.
func runs(commit string, values ...float64) *report {
	one := result{Case: "direct", Uplink: "redis", Options: map[string]any{"endpoints": 1.0}}
	for _, v := range values {
		f := &finding{}
		f.more("readings", "/s", v, 100)
		f.less("CPU, gateway", "µs/reading", 1000/v, 0)
		f.less("by size", "µs", v, 0)
		f.of(1000, 2)
		f.less("by size", "µs", 2*v, 0)
		f.of(10_000, 3)
		one.add(f)
	}
	return &report{Head: machine.Head{Commit: commit}, Runs: len(values), Results: []result{one}}
}

func TestMedian(t *testing.T) {
	f := runs("a", 30, 10, 20).Results[0].Figures[0]
	if f.Median != 20 || f.Min != 10 || f.Max != 30 || f.reached() != "no" {
		t.Errorf("%+v", f)
	}
	f = runs("a", 100, 120).Results[0].Figures[0]
	if f.Median != 110 || f.reached() != "yes" {
		t.Errorf("%+v", f)
	}
}

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, r *report) string {
		file := filepath.Join(dir, name)
		if err := machine.WriteReport(file, r); err != nil {
			t.Fatal(err)
		}
		return file
	}
	a, b := write("a", runs("aaa", 90, 100, 110)), write("b", runs("bbb", 190, 200, 210))
	other := runs("ccc", 100)
	other.Results[0].Uplink = "store"
	disturbed := runs("ddd", 100)
	disturbed.Profiled = true
	for _, test := range []struct {
		before, after string
		want          []string
		fails         bool
	}{
		{a, b, []string{"aaa | bbb", "readings | /s | 100 | 200 | 2.00 | better", "CPU, gateway | µs/reading | 10.0 | 5.00 | 0.50 | better", "1000, by size | µs | 100 | 200 | 2.00 | worse"}, false},
		{b, a, []string{"readings | /s | 200 | 100 | 0.50 | worse"}, false},
		{a, a, []string{"readings | /s | 100 | 100 | 1.00 | within the runs"}, false},
		{a, write("c", other), nil, true},
		{a, filepath.Join(dir, "missing"), nil, true},
		{a, write("d", disturbed), nil, true},
	} {
		var out bytes.Buffer
		if err := compare(&out, test.before, test.after); (err != nil) != test.fails {
			t.Error(err)
		}
		for _, want := range test.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, out.String())
			}
		}
	}
}

func TestPlot(t *testing.T) {
	dir := t.TempDir()
	if err := plot(dir, runs("a", 50)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cpu.svg", "goals.svg", "growth-direct-redis-by-size-s.svg"} {
		wellFormed(t, filepath.Join(dir, name))
	}
	if err := plot(dir, &report{}); err != nil {
		t.Errorf("nothing to draw: %v", err)
	}
}

func TestBound(t *testing.T) {
	for _, test := range []struct {
		spent spent
		want  bool
	}{{spent{seconds: 10, load: 2}, false}, {spent{seconds: 10, load: 8}, true}} {
		f := &finding{did: 1000, spent: test.spent}
		if err := (&bench{}).bound(t.Context(), f); err != nil || f.Load.Bound != test.want {
			t.Errorf("%+v: %+v, %v", test.spent, f.Load, err)
		}
	}
	s := shape{kind: publishes}
	f := &finding{did: 1000, shape: s, spent: spent{seconds: 1, load: 0.1}}
	if err := (&bench{ceilings: map[shape]float64{s: 1200}}).bound(t.Context(), f); err != nil || !f.Load.Bound {
		t.Errorf("next to its ceiling: %+v, %v", f.Load, err)
	}
	r := report{Results: []result{{Case: "direct", Uplink: "redis", Loads: []load{{}, f.Load}}, {Case: "ipc", Uplink: "redis", Loads: []load{{}}}}}
	if got := r.limits(); !strings.Contains(got, "direct with --uplink redis.") || strings.Contains(got, "ipc") {
		t.Error(got)
	}
}
