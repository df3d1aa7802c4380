package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// write makes files in a directory of their own.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const fragile = `package fragile

import "testing"

func TARGET(f *testing.F) {
	f.Add("a")
	f.Fuzz(func(t *testing.T, s string) {
		if CONDITION {
			t.Fatal("broken by " + s)
		}
	})
}
`

// fragileModule is a module with the target FuzzFragile, which fails on some inputs. (The target is not written out above: find would
// take it for one of ours.)
func fragileModule(t *testing.T, fails string) string {
	t.Helper()
	return write(t, map[string]string{
		"go.mod":          "module fragile\n\ngo 1.26\n",
		"fragile_test.go": strings.NewReplacer("CONDITION", fails, "TARGET", "FuzzFragile").Replace(fragile),
	})
}

func TestFindsTargetsInOrder(t *testing.T) {
	t.Parallel()
	root := write(t, map[string]string{
		"b/b_test.go": "package b\nfunc FuzzTwo(f *testing.F) {\n}\nfunc FuzzOne(f *testing.F) {\n}\n// func FuzzNot(f *testing.F)\n",
		"a/a_test.go": "package a\nfunc FuzzThree(fuzz *testing.F) {\n", "a/a.go": "package a\nfunc FuzzNone(f *testing.F) {\n",
		"a/testdata/x_test.go": "func FuzzNone(f *testing.F) {\n", ".cache/x_test.go": "func FuzzNone(f *testing.F) {\n",
	})
	for only, want := range map[string][]string{
		"": {"a/FuzzThree", "b/FuzzOne", "b/FuzzTwo"}, "b/": {"b/FuzzOne", "b/FuzzTwo"}, "none": nil,
	} {
		found, err := find(root, regexp.MustCompile(only))
		var got []string
		for _, f := range found {
			got = append(got, f.String())
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("-run %q finds %v, %v; want %v", only, got, err, want)
		}
	}
}

// A good target adds to the totals until it has had its time; a bad one fails the run and shows its input.
func TestFuzzesAndAddsUp(t *testing.T) {
	t.Parallel()
	root := fragileModule(t, "len(s) < 0")
	var out, stderr bytes.Buffer
	args := []string{"-root", root, "-cpu", "1s", "-parallel", "1"}
	for range 2 { // the second time there is nothing left to do
		if status := run(t.Context(), args, &out, &stderr); status != 0 {
			t.Fatalf("status %d\n%s%s", status, out.String(), stderr.String())
		}
	}
	all, err := load(filepath.Join(root, ".cache/fuzz/totals.json"))
	if one := all.of("./FuzzFragile"); err != nil || one.Execs == 0 || one.CPUSeconds < 1 || one.Crashes != 0 || one.Runs == 0 {
		t.Errorf("totals %+v, %v\n%s", one, err, out.String())
	}
	if n := strings.Count(out.String(), " s CPU\n"); n != all.of("./FuzzFragile").Runs {
		t.Errorf("%d runs are told of, %d counted:\n%s", n, all.of("./FuzzFragile").Runs, out.String())
	}
}

func TestAFailingTargetShowsItsInput(t *testing.T) {
	t.Parallel()
	root := fragileModule(t, "len(s) > 3")
	var out, stderr bytes.Buffer
	if status := run(t.Context(), []string{"-root", root, "-time", "2m", "-parallel", "1"}, &out, &stderr); status != 1 {
		t.Fatalf("status %d\n%s", status, out.String())
	}
	for _, want := range []string{"FuzzFragile FAILED", "broken by", "go test fuzz v1\nstring("} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing from\n%s", want, out.String())
		}
	}
	if !strings.Contains(stderr.String(), "failed: ./FuzzFragile") {
		t.Errorf("told %q", stderr.String())
	}
}

func TestWrongArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"x"}, {"-parallel", "0"}, {"-run", "("}, {"-none"}} {
		var out, stderr bytes.Buffer
		if status := run(t.Context(), args, &out, &stderr); status != 2 || stderr.Len() == 0 {
			t.Errorf("%v: status %d, %q", args, status, stderr.String())
		}
	}
}

func TestParseOutput(t *testing.T) {
	t.Parallel()
	did := parseOutput("fuzz: elapsed: 0s, gathering baseline coverage: 0/5 completed\nfuzz: elapsed: 3s, execs: 10 (3/sec), new interesting: 1 (total: 6)\n" +
		"fuzz: elapsed: 1m3s, execs: 4000 (3/sec), new interesting: 7 (total: 12)\nPASS\n")
	if did.Execs != 4000 || did.Interesting != 7 {
		t.Errorf("got %+v", did)
	}
	if did := parseOutput("ok\n"); did != (total{}) {
		t.Errorf("got %+v of nothing", did)
	}
}

func TestCoverageOfFunctions(t *testing.T) {
	t.Parallel()
	root := write(t, map[string]string{"p/p.go": "package p\n\nfunc A() {\n\tx()\n}\n\nfunc B() {\n\ty()\n}\n\nfunc C() {}\n"})
	p, err := parseProfile([]byte("mode: set\nmeterline/p/p.go:3.10,5.2 3 0\nmeterline/p/p.go:3.10,5.2 3 1\nmeterline/p/p.go:7.10,9.2 1 0\nmeterline/q/q.go:3.1,5.2 9 1\n"), module)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o := options{root: root, least: 90}
	if err := report(o, []decoder{{"p/p.go", []string{"A"}}}, p, &out); err != nil {
		t.Error(err)
	}
	if err := report(o, []decoder{{"p/p.go", nil}}, p, &out); err == nil || !strings.Contains(err.Error(), "75.0 %") {
		t.Errorf("3 of 4 statements: %v", err)
	}
	if err := report(o, []decoder{{"p/p.go", []string{"D"}}}, p, &out); err == nil {
		t.Error("a function that is not there is covered")
	}
	if !p.grows(profile{block{"p/p.go:7.10,9.2", 1}: 1}) || p.grows(profile{block{"p/p.go:3.10,5.2", 3}: 1}) {
		t.Error("grows")
	}
}

// The list of decoders names files and functions that are there.
func TestDecoders(t *testing.T) {
	t.Parallel()
	all := decoders(decoderList)
	if len(all) == 0 {
		t.Fatal("no decoders")
	}
	for _, d := range all {
		if _, err := d.functions("../../.."); err != nil {
			t.Error(err)
		}
	}
}

// go test fails a target whose time is over while a worker is busy; that is no crash.
func TestTimeThatIsOverIsNoCrash(t *testing.T) {
	const late = "fuzz: elapsed: 10m1s, execs: 7776864 (0/sec), new interesting: 104 (total: 763)\n--- FAIL: FuzzImport (601.30s)\n    context deadline exceeded\nFAIL\n"
	for text, want := range map[string]bool{
		late: true, late + "Failing input written to testdata/fuzz/FuzzImport/055d\n": false,
		"--- FAIL: FuzzImport (1.30s)\n    --- FAIL: FuzzImport (0.00s)\n        x_test.go:1: context deadline exceeded\nFAIL\n": false,
	} {
		if onlyLate(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
