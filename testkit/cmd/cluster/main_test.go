package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"meterline/testkit"
)

// screen is what the command prints, read while it runs.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

var pidOf = regexp.MustCompile(`(?m)^(gateway-\d|backend-\d|redis|postgres) +(\d+|down)\b`)

// A person starts it, kills and starts what they like, and ends it; nothing is left.
func TestAPersonPlays(t *testing.T) {
	_ = testkit.Redis(t) // without the servers all of this is skipped
	orders, say := io.Pipe()
	var out screen
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--backends", "1", "--simulate", "10", "--logs", t.TempDir()}, orders, &out, &out)
	}()
	wait := func(what string, n int) {
		t.Helper()
		testkit.Eventually(t, 3*time.Minute, func() bool { return strings.Count(out.String(), what) >= n }, what)
	}
	wait("PROCESS", 1)
	pids := map[int]bool{}
	for _, m := range pidOf.FindAllStringSubmatch(out.String(), -1) {
		pid, err := strconv.Atoi(m[2])
		if err != nil {
			t.Errorf("%s is down", m[1])
		}
		pids[pid] = true
	}
	if len(pids) != 5 {
		t.Fatalf("%d processes:\n%s", len(pids), out.String())
	}
	for i, order := range []string{"kill gateway 2", "start gateway-2", "pause redis", "resume redis", "hold backend 1", "heal backend 1", "flush"} {
		if _, err := io.WriteString(say, order+"\n"); err != nil {
			t.Fatal(err)
		}
		wait("done in", i+1)
	}
	_, _ = io.WriteString(say, "kill the cat\njump gateway 1\nkill gateway 1\nstatus\n")
	wait(`there is no "the-cat"`, 1)
	wait(`there is no order "jump"`, 1)
	wait("PROCESS", 2)
	if !regexp.MustCompile(`gateway-1 +down`).MatchString(out.String()) {
		t.Errorf("the gateway is not down:\n%s", out.String())
	}
	interrupt()
	select {
	case status := <-ended:
		if status != 0 {
			t.Errorf("status %d:\n%s", status, out.String())
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	for pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--gateways", "0"}, {"--backends", "x"}, {"--uplink", "paper"}, {"--simulate", "-1"}, {"--roles", "work/cook"}, {"now"}} {
		var out bytes.Buffer
		if status := run(t.Context(), args, strings.NewReader(""), io.Discard, &out); status != 2 || out.Len() == 0 {
			t.Errorf("%v: status %d, said %q", args, status, out.String())
		}
	}
}

// opens is a screen on which the first line opens the way for what is being started.
type opens struct {
	screen
	way string
}

func (o *opens) Write(p []byte) (int, error) {
	_ = os.WriteFile(o.way, nil, 0o600)
	return o.screen.Write(p)
}

// A start that cannot succeed yet says once what it waits for, and goes on.
func TestAStartSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := &opens{way: filepath.Join(dir, "postgres")}
	app := testkit.NewApp(testkit.AppOptions{
		Name: "backend-1", Dir: dir, Argv: []string{"/bin/sh", "-c", "test -e postgres && touch up && exec sleep 60; echo starting; echo no PostgreSQL; exit 1"},
		Ready: func(context.Context) error { _, err := os.Stat(filepath.Join(dir, "up")); return err },
	})
	t.Cleanup(func() { _ = app.Kill() })
	postgres, up := filepath.Join(dir, "postgres"), filepath.Join(dir, "up")
	if err := errors.Join(os.WriteFile(postgres, nil, 0o600), app.Start(), app.Kill(), os.Remove(postgres), os.Remove(up)); err != nil {
		t.Fatal(err)
	}
	if err := (&console{out: out}).starting("backend-1", app.Process)(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "backend-1 ended, and is started again for up to 1m0s. It said: no PostgreSQL\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
