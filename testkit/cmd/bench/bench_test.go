//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"meterline/testkit"
)

func TestMain(m *testing.M) {
	if status, is := child(context.Background(), os.Args[1:], os.Stderr); is {
		os.Exit(status) // the null peer
	}
	os.Exit(m.Run())
}

// bench runs the program and gives what it printed and what it wrote.
func runBench(t *testing.T, args ...string) (printed string, written *report, dir string) {
	t.Helper()
	t.Setenv(testkit.EnvPostgresURL, "") // the tool starts its own
	t.Setenv(testkit.EnvRedisAddr, "")
	_, _ = testkit.Postgres(t), testkit.Redis(t) // not installed: skipped, or failed
	dir = t.TempDir()
	file := filepath.Join(dir, "report.json")
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), append(args, "-small", "-json", file, "-plot", dir), &stdout, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	r, err := readReport(file)
	if err != nil {
		t.Fatal(err)
	}
	if r.Machine.Cores < 1 || r.Machine.Redis == "" || r.Machine.PostgreSQL == "" || !r.Small || !strings.HasPrefix(r.Command, "bench ") {
		t.Errorf("%+v", r)
	}
	return stdout.String(), r, dir
}

// sound checks what holds of every result, however fast the machine is.
func sound(t *testing.T, one result, runs int) {
	t.Helper()
	if one.Runs != runs || len(one.Checks) != runs || len(one.Loads) != runs || len(one.Figures) == 0 || one.Title == "" {
		t.Errorf("%s, %s: %+v", one.Case, one.Uplink, one)
	}
	for _, c := range one.Checks {
		if err := c.wrong(); err != nil || c.Acknowledged < 1 || c.Stored < c.Acknowledged {
			t.Errorf("%s, %s: %+v, %v", one.Case, one.Uplink, c, err)
		}
	}
	for _, f := range one.Figures {
		if len(f.Runs) != runs || f.Min > f.Median || f.Median > f.Max || f.Unit == "" && f.Goal == 0 {
			t.Errorf("%s, %s: %+v", one.Case, one.Uplink, f)
		}
	}
}

func TestAllCases(t *testing.T) {
	profiles := t.TempDir()
	printed, r, dir := runBench(t, "all", "-uplink", "redis", "-profile", profiles)
	profiled(t, profiles)
	if !r.Profiled || !strings.Contains(printed, "not to be compared") {
		t.Errorf("it does not say that profiles were taken: %s", printed)
	}
	var seen []string
	for _, one := range r.Results {
		seen = append(seen, one.Case)
		sound(t, one, 1)
		if !strings.Contains(printed, "| "+one.Case+" | redis | ") {
			t.Errorf("%s is not in the table", one.Case)
		}
	}
	if !slices.Equal(seen, names) {
		t.Errorf("cases %v, want %v", seen, names)
	}
	for _, shape := range []string{"direct", "roundtrip", "uplinks", "post", "connect"} {
		if i := slices.Index(names, shape); r.Results[i].Loads[0].Ceiling <= 0 {
			t.Errorf("%s: the ceiling of the load is not known: %+v", shape, r.Results[i].Loads)
		}
	}
	drawings, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(drawings) < 3 {
		t.Errorf("drawings %v, %v", drawings, err)
	}
	for _, file := range drawings {
		wellFormed(t, file)
	}
}

// profiled checks that the processes that a case measures were profiled, each as what it is, and no others.
func profiled(t *testing.T, dir string) {
	t.Helper()
	of := map[string]string{"roundtrip": "gateway", "uplinks": "gateway", "drain": "backend", "memory": ""}
	var want []string
	for _, name := range names {
		programs, some := of[name]
		if !some {
			programs = "backend gateway"
		}
		for _, program := range strings.Fields(programs) {
			base := name + "-redis-" + program
			want = append(want, base+".pprof", base+".txt")
			text, err := os.ReadFile(filepath.Join(dir, base+".txt"))
			if err != nil || !strings.HasPrefix(string(text), "File: "+program+"\n") || !strings.Contains(string(text), "\nType: cpu\n") {
				t.Errorf("%s: %v, %s", base, err, text)
			}
		}
	}
	files, err := os.ReadDir(dir)
	var have []string
	for _, f := range files {
		have = append(have, f.Name())
	}
	slices.Sort(want)
	if err != nil || !slices.Equal(have, want) {
		t.Errorf("there are %v, want %v: %v", have, want, err)
	}
}

// Programs that are older than --debug are refused before anything is measured.
func TestOldProgramsAreNotProfiled(t *testing.T) {
	for backend, want := range map[string]error{"--debug=HOST:PORT": nil, "--http=HOST:PORT": errUnknown} {
		dir := t.TempDir()
		for program, help := range map[string]string{"gateway": "--debug=HOST:PORT", "backend": backend} {
			if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\necho '"+help+"'\n"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := known(t.Context(), dir); !errors.Is(err, want) {
			t.Errorf("a backend with %s: %v", backend, err)
		}
	}
}

func wellFormed(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := xml.NewDecoder(f); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
	}
}

// Two runs with the other log; then the file is shown, and compared with itself.
func TestStoreTwice(t *testing.T) {
	_, r, dir := runBench(t, "direct,uplinks", "-uplink", "store", "-runs", "2")
	if len(r.Results) != 2 {
		t.Fatalf("%d results", len(r.Results))
	}
	for _, one := range r.Results {
		sound(t, one, 2)
	}
	file := filepath.Join(dir, "report.json")
	for _, args := range [][]string{{"-from", file}, {"-compare", file, file}} {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), args, &stdout, &stderr); status != 0 || !strings.Contains(stdout.String(), "| uplinks | store | uplinks by gateway CPU |") {
			t.Errorf("%v: status %d: %s%s", args, status, stdout.String(), stderr.String())
		}
	}
}

// What is wrong in the record is found, each kind as what it is.
func TestCheckFinds(t *testing.T) {
	t.Setenv(testkit.EnvPostgresURL, "")
	t.Setenv(testkit.EnvRedisAddr, "")
	_, _ = testkit.Postgres(t), testkit.Redis(t)
	r, err := newRig(t.Context(), "redis", "", nil, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	sites, err := r.fleet(t.Context(), "check", 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.connected(t.Context(), sites, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Publish(t.Context(), 5, 2); err != nil {
		t.Fatal(err)
	}
	good, err := r.stored(t.Context(), "check", s)
	if want := (check{Acknowledged: 15, Stored: 15}); err != nil || good != want || good.wrong() != nil {
		t.Fatalf("%+v, want %+v: %v", good, want, err)
	}
	for _, harm := range []string{
		`DELETE FROM readings WHERE value IN ('1', '2', '3')`,
		`UPDATE readings SET value = '1000' WHERE value IN ('4', '5')`,
		`INSERT INTO readings SELECT device_id, item, read_at, 1 + revision, value, unit, received_at, quality, late, command_id, tenant FROM readings WHERE value = '6'`,
	} {
		if _, err := r.DB.ExecContext(t.Context(), harm); err != nil {
			t.Fatal(err)
		}
	}
	bad, err := r.compare(t.Context(), "check", s)
	if want := (check{Acknowledged: 15, Stored: 13, Missing: 3, Twice: 1, Changed: 2}); err != nil || bad != want || bad.wrong() == nil {
		t.Errorf("%+v, want %+v: %v", bad, want, err)
	}
	lost, err := r.committed(t.Context(), "check", []string{"nobody-knows"})
	if lost.wrong() == nil || lost.Missing != 1 {
		t.Errorf("a command that is not there: %+v, %v", lost, err)
	}
	b := &bench{options: options{small: true, cases: map[string]measure{"bad": found{nil, bad}}}, rig: r}
	if _, err := b.once(t.Context(), "bad", "redis"); err == nil {
		t.Error("a run with a record that is wrong has not failed")
	}
}

// found is a case that comes to a check.
type found struct {
	measure
	check check
}

func (f found) run(context.Context, *rig) (*finding, error) { return &finding{Check: f.check}, nil }
