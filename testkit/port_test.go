package testkit

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
)

// Of a few hundred ports each, processes that did not know of one another would have dozens twice: 45 on average, of the
// 12000 there are.
const (
	portTakers   = 4
	portsOfTaker = 300
)

// takePorts prints ports that it has taken and lives until its standard input is closed.
func takePorts() {
	for range portsOfTaker {
		port, err := freePort()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(port)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func TestNoTwoProcessesGetThePort(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	type taker struct {
		cmd   *exec.Cmd
		out   io.Reader
		ports []int
	}
	var all []*taker
	for range portTakers {
		c := &taker{cmd: exec.Command(self)}
		c.cmd.Env = append(os.Environ(), "TESTKIT_PORTS=1")
		c.cmd.Stderr = os.Stderr
		leash, err := c.cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if c.out, err = c.cmd.StdoutPipe(); err != nil {
			t.Fatal(err)
		}
		if err := c.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = leash.Close(), c.cmd.Wait() })
		all = append(all, c)
	}
	owner := map[int]int{}
	for i, c := range all {
		for lines := bufio.NewScanner(c.out); len(c.ports) < portsOfTaker && lines.Scan(); {
			port, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			if other, twice := owner[port]; twice {
				t.Errorf("port %d was given to process %d and to process %d", port, other, i)
			}
			owner[port], c.ports = i, append(c.ports, port)
		}
		if len(c.ports) < portsOfTaker {
			t.Fatalf("process %d has %d ports", i, len(c.ports))
		}
	}

	free := func(port int) bool { return reserve(port) == nil }
	for i, c := range all {
		if slices.ContainsFunc(c.ports, free) {
			t.Errorf("a port of process %d, which lives, was given once more", i)
		}
	}
	_, _ = all[0].cmd.Process.Kill(), all[0].cmd.Wait()
	if !slices.ContainsFunc(all[0].ports, free) { // any: another test may have taken one meanwhile
		t.Error("the ports of a process that was killed are still taken")
	}
}

func TestPortOfAStranger(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if reserve(port) == nil {
		t.Error("a port that somebody listens on was given")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
