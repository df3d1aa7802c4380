package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain plays the process that is killed in TestServersDieWithTheirProcess when it is told to.
func TestMain(m *testing.M) {
	if os.Getenv("TESTKIT_VICTIM") == "1" {
		victim()
	}
	goleak.VerifyTestMain(m)
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
		Eventually(t, 20*time.Second, func() bool { return state(s.pid) == exited }, "the server to die with its process")
		Eventually(t, 20*time.Second, func() bool {
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
	if !errors.Is(err, errGone) || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("start: %v, want errGone and the last words of the process", err)
	}
	if err := p.signal(syscall.SIGTERM); err == nil {
		t.Error("a process that is down took a signal")
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
