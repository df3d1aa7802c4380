package main

import (
	"bytes"
	"strings"
	"testing"
)

// The streams in testdata are what go test -json wrote for packages of one or two tests each.
func TestRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   []string // in the output
		never  []string
	}{
		{
			name:   "all pass",
			args:   []string{"cat", "testdata/good.json", "testdata/none.json"},
			status: 0,
			want:   []string{"ok    sample/good 0.0s, 2 tests", "2 tests in 1 packages: 2 passed, 0 failed, 0 skipped", "\nPASS\n"},
			never:  []string{"quiet"},
		},
		{
			name:   "a failure shows what the test said",
			args:   []string{"cat", "testdata/good.json", "testdata/bad.json"},
			status: 1,
			want:   []string{"--- FAIL: sample/bad TestB/y (0.00s)\n    a_test.go:3: two is not three\n", "2 failed", "\nFAIL\n"},
		},
		{
			name:   "a skipped test fails the run",
			args:   []string{"cat", "testdata/skip.json"},
			status: 1,
			want: []string{"skipped: sample/skip TestC: a_test.go:3: SKIP: needs PostgreSQL: apt-get install postgresql",
				"1 passed, 0 failed, 1 skipped", "FAIL: tests were skipped"},
		},
		{
			name:   "unless that is allowed",
			args:   []string{"-allow-skips", "--", "cat", "testdata/skip.json"},
			status: 0,
			want:   []string{"skipped: sample/skip TestC", "\nPASS\n"},
		},
		{
			name:   "a package that does not build",
			args:   []string{"cat", "testdata/good.json", "testdata/broken.json"},
			status: 1,
			want:   []string{"broken/a_test.go:3:28: undefined: undefined", "FAIL  sample/broken", "1 packages failed"},
		},
		{
			name:   "a panic",
			args:   []string{"cat", "testdata/crash.json"},
			status: 1,
			want:   []string{"--- FAIL: sample/crash TestF", "panic: boom"},
		},
		{
			name:   "a test without an end",
			args:   []string{"cat", "testdata/good.json", "testdata/unfinished.json"},
			status: 1,
			want:   []string{"--- UNFINISHED: sample/crash TestF\nbefore\n", "FAIL  sample/crash"},
		},
		{name: "no test at all", args: []string{"cat", "testdata/none.json"}, status: 1, want: []string{"FAIL: no test ran"}},
		{name: "no output", args: []string{"cat", "testdata/empty.json"}, status: 1, want: []string{"FAIL: no test ran"}},
		{
			name:   "a command that fails without an event",
			args:   []string{"sh", "-c", "cat testdata/good.json; echo out of memory; exit 3"},
			status: 1,
			want:   []string{"out of memory\n", "FAIL: sh: exit status 3"},
		},
		{name: "no such command", args: []string{"./testdata/nothing"}, status: 1, want: []string{"FAIL: run ./testdata/nothing"}},
		{name: "no arguments", status: 2, want: []string{"usage: report"}},
		{name: "unknown flag", args: []string{"-x"}, status: 2, want: []string{"not defined: -x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if status := run(t.Context(), c.args, &stdout, &stderr); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			out := stdout.String() + stderr.String()
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("the report lacks %q", want)
				}
			}
			for _, never := range c.never {
				if strings.Contains(out, never) {
					t.Errorf("the report holds %q", never)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}
