package holes_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// childEnv holds the spec of the broker that this process is to be, instead of a test.
const childEnv = "METERLINE_HOLES_CHILD"

// spec says which broker a child process is.
type spec struct {
	Ours  bool   `json:"ours"`
	Hook  string `json:"hook,omitempty"`  // of a plain broker: see hooks
	Log   string `json:"log,omitempty"`   // of ours: a file, or "wrapped", which fails
	Files int    `json:"files,omitempty"` // descriptors the process may have
}

// A controlled broker answers these questions.
type controlled interface {
	address() string
	clients() int // connected, or with a session
	publish(topic string, n int) (failed int)
	stop()
}

// child is a broker in a process of its own.
type child struct {
	at    string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	over  chan struct{} // the process has ended

	mu     sync.Mutex
	stderr bytes.Buffer
}

// Write takes what the process says on stderr.
func (c *child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stderr.Write(p)
}

func (c *child) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stderr.String()
}

// spawn starts a broker in a process of its own, until the end of the test.
func spawn(t testing.TB, s spec) *child {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(os.Args[0]), lines: make(chan string, 10), over: make(chan struct{})}
	if s.Files > 0 {
		c.cmd = exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0"`, s.Files), os.Args[0])
	}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.Stderr = c
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.lines <- lines.Text()
		}
		_ = c.cmd.Wait()
		close(c.over)
	}()
	t.Cleanup(c.kill)
	select {
	case c.at = <-c.lines:
	case <-time.After(2 * waitMost):
		t.Fatalf("the broker did not start: %s", c.said())
	}
	return c
}

// kill ends the process with SIGKILL.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.over
}

// ask gives an order and returns the answer, "" when there was none within the time.
func (c *child) ask(order string, within time.Duration) string {
	_, _ = fmt.Fprintln(c.in, order)
	select {
	case answer := <-c.lines:
		return answer
	case <-c.over:
	case <-time.After(within):
	}
	return ""
}

// number is an answer that is one.
func (c *child) number(t testing.TB, order string) (n int) {
	t.Helper()
	answer := c.ask(order, 2*waitMost)
	if _, err := fmt.Sscan(answer, &n); err != nil {
		t.Fatalf("%s: %q", order, answer)
	}
	return n
}

// dead says whether the process has ended, or does so within the time.
func (c *child) dead(within time.Duration) bool {
	select {
	case <-c.over:
		return true
	case <-time.After(within):
		return false
	}
}

// be is the child process.
func be(text string) int {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	b, err := s.start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(b.address())
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		order, topic, n := "", "", 0
		_, _ = fmt.Sscan(orders.Text(), &order, &topic, &n)
		switch order {
		case "clients":
			fmt.Println(b.clients())
		case "publish":
			fmt.Println(b.publish(topic, n))
		case "heap":
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			fmt.Println(m.HeapAlloc)
		case "stop":
			b.stop()
			fmt.Println("stopped")
		}
	}
	return 0
}

func (s spec) start() (controlled, error) {
	if !s.Ours {
		return newPlain(s.Hook)
	}
	o, err := newOurs(context.Background(), s.Log)
	return o, err
}

// plain is the address of a plain broker in a process of its own.
func plain(t testing.TB) string { return spawn(t, spec{}).at }

func panicOf(stderr string) string {
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "panic: ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
