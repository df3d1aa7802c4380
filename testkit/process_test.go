package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain plays another process when a test has started it as one.
func TestMain(m *testing.M) {
	if os.Getenv("TESTKIT_VICTIM") == "1" {
		victim()
	}
	if os.Getenv("TESTKIT_PORTS") == "1" {
		takePorts()
	}
	NoGoroutineLeft(m)
}

// victim starts both servers, prints "pid directory" of each and waits for its end.
func victim() {
	pg, err1 := StartPostgres()
	rd, err2 := StartRedis()
	if err := errors.Join(err1, err2); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, p := range []*process{pg.proc, rd.proc} {
		fmt.Println(p.cmd.Process.Pid, p.home.path)
	}
	select {}
}

func TestServersDieWithTheirProcess(t *testing.T) {
	t.Parallel()
	_, err := postgresBin()
	need(t, err)
	_ = Redis(t) // skipped without it
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "TESTKIT_VICTIM=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var servers [2]struct {
		pid  int
		home string
	}
	lines := bufio.NewScanner(out)
	for i := range servers {
		if !lines.Scan() {
			t.Fatalf("the process ended before it had started its servers: %v", cmd.Wait())
		}
		pid, home, _ := strings.Cut(lines.Text(), " ")
		servers[i].home = home
		if servers[i].pid, err = strconv.Atoi(pid); err != nil {
			t.Fatal(err)
		}
		if state(servers[i].pid) != running {
			t.Fatalf("server %d is not running", servers[i].pid)
		}
	}

	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for _, s := range servers {
		Eventually(t, time.Minute, func() bool { return state(s.pid) == exited }, "the server to die with its process")
		Eventually(t, time.Minute, func() bool {
			_, err := os.Stat(s.home)
			return errors.Is(err, os.ErrNotExist)
		}, "its directory to be removed")
	}
}

func TestCloseRemovesEverything(t *testing.T) {
	t.Parallel()
	s, err := StartRedis()
	need(t, err)
	pid, home := s.proc.cmd.Process.Pid, s.proc.home.path
	if err := s.proc.pause(); err != nil { // also a paused server can be taken down
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if state(pid) != exited {
		t.Error("the server is still running")
	}
	if _, err := os.Stat(home); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	t.Parallel()
	h, err := newHome("broken", nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{name: "broken", argv: []string{"/bin/sh", "-c", "echo no such luck >&2; exit 3"}, home: h,
		dieWith: syscall.SIGKILL, stopWith: syscall.SIGTERM,
		ready: func(context.Context) error { return errors.New("no answer") }}
	err = p.start()
	if !errors.Is(err, errGone) || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("start: %v, want errGone, the status and the last words of the process", err)
	}
	if err := p.restart(nil); !errors.Is(err, errGone) {
		t.Errorf("start again: %v, want errGone, and not to insist on what was never ready", err)
	}
	if err := p.signal(syscall.SIGTERM); err == nil {
		t.Error("a process that is down took a signal")
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}

// What answers in the place of a process that has ended is not believed to be it.
func TestStartDoesNotBelieveAStranger(t *testing.T) {
	t.Parallel()
	p := &process{name: "late", argv: []string{"/bin/sh", "-c", "echo address already in use >&2; exit 1"},
		home: &home{path: t.TempDir()}, dieWith: syscall.SIGKILL, stopWith: syscall.SIGTERM}
	p.ready = func(ctx context.Context) error { // the stranger answers, but not before the process has ended
		return poll(ctx, func() error {
			if state(p.cmd.Process.Pid) != exited {
				return errors.New("it is there")
			}
			return nil
		})
	}
	if err := p.start(); !errors.Is(err, errGone) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("start: %v, want errGone and the last words of the process", err)
	}
}

func TestEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := NewApp(AppOptions{Name: "mortal", Dir: dir, Ready: func(context.Context) error { return nil }, Argv: []string{
		"/bin/sh", "-c", "echo hello; until [ -e over ]; do sleep 0.05; done; echo the end of it >&2; exit 3"}})
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	if err := a.Ended(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	over := filepath.Join(dir, "over")
	if err := os.WriteFile(over, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Minute, func() bool { return a.PID() == 0 }, "the process to end by itself")
	for _, do := range []func() error{func() error { return nil }, a.Kill, a.Stop} {
		if err := do(); err != nil {
			t.Error(err)
		}
		err := a.Ended()
		if err == nil || !strings.Contains(err.Error(), "mortal") || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the end of it") {
			t.Errorf("%v, want name, status and last words", err)
		}
	}

	if err := errors.Join(os.Remove(over), a.Start()); err != nil {
		t.Fatal(err)
	}
	if err := a.Ended(); err != nil {
		t.Errorf("of a process that was started again: %v", err)
	}
	if err := a.Kill(); err != nil {
		t.Error(err)
	}
	if err := a.Ended(); err != nil {
		t.Errorf("of a process that was killed: %v", err)
	}
}

func TestLastWords(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("goroutine 7 [select]:\n", lastWordsBytes)
	for name, c := range map[string]struct{ log, want, wantNot string }{
		"an end":           {many + "the end\n", "the end", ""},
		"a crash":          {"hello\npanic: no such luck\n\n" + many, "panic: no such luck", "hello"},
		"the start before": {"", "", "before"},
	} {
		p := &process{name: "p", home: &home{path: t.TempDir()}, from: int64(len("before\n"))}
		if err := os.WriteFile(p.logFile(), []byte("before\n"+c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		said := p.lastWords()
		if !strings.Contains(said, c.want) || c.wantNot != "" && strings.Contains(said, c.wantNot) || len(said) > lastWordsBytes {
			t.Errorf("%s: %q", name, said)
		}
	}
}
