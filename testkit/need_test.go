package testkit

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// recorder notes how a test ended instead of ending this one.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.failed = fmt.Sprint(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

// record runs f as a test of its own would.
func record(t *testing.T, f func(testing.TB)) (r *recorder, finished bool) {
	r = &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
		finished = true
	}()
	<-done
	return r, finished
}

func TestNeed(t *testing.T) {
	gone := fmt.Errorf("start: %w", &missing{server: "PostgreSQL", install: "postgresql"})
	for _, c := range []struct {
		name, require   string
		err             error
		skipped, failed string
		finished        bool
	}{
		{name: "installed", finished: true},
		{name: "missing", err: gone, skipped: "SKIP: needs PostgreSQL: apt-get install postgresql"},
		{name: "missing, required", require: "1", err: gone, failed: "needs PostgreSQL: apt-get install postgresql"},
		{name: "broken is never a reason to skip", err: errors.New("disk full"), failed: "disk full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(EnvRequire, c.require)
			r, finished := record(t, func(tb testing.TB) { need(tb, c.err) })
			if r.skipped != c.skipped || !strings.Contains(r.failed, c.failed) || finished != c.finished ||
				(c.failed == "") != (r.failed == "") {
				t.Errorf("skipped %q, failed %q, finished %t", r.skipped, r.failed, finished)
			}
		})
	}
}

func TestEventually(t *testing.T) {
	t.Parallel()
	calls := 0
	_, finished := record(t, func(tb testing.TB) {
		Eventually(tb, time.Minute, func() bool { calls++; return calls == 3 }, "the third call")
	})
	if !finished || calls != 3 {
		t.Errorf("finished %t after %d calls, want true after 3", finished, calls)
	}
	r, finished := record(t, func(tb testing.TB) {
		Eventually(tb, time.Millisecond, func() error { return errors.New("still dark") }, "the light")
	})
	if finished || r.failed != "wait 1ms for the light: still dark" {
		t.Errorf("finished %t, failed %q", finished, r.failed)
	}
	_, finished = record(t, func(tb testing.TB) {
		Eventually(tb, 0, func() bool { return true }, "what is so already")
	})
	if !finished {
		t.Error("a condition that holds was not asked")
	}
}

// The context of a test is over before it cleans up.
func TestEventuallyWaitsInACleanup(t *testing.T) {
	t.Parallel()
	calls := 0
	t.Run("cleans up", func(t *testing.T) {
		t.Cleanup(func() {
			Eventually(t, time.Minute, func() bool { calls++; return calls == 3 }, "the third call")
		})
	})
	if calls != 3 {
		t.Errorf("asked %d times, want 3", calls)
	}
}

func TestDatabaseName(t *testing.T) {
	t.Parallel()
	for _, test := range []string{"TestX", "", "Test/with ünïcode'; DROP TABLE", strings.Repeat("long", 50)} {
		a, b := databaseName(test), databaseName(test)
		if a == b || len(a) > 63 || strings.Trim(a, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("database names of %q: %s and %s", test, a, b)
		}
	}
}
