package testkit

import (
	"net"
	"os"
	"os/exec"
	"testing"
)

func TestListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other := exec.Command("/bin/sh", "-c", "read line")
	leash, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = leash.Close(), other.Wait() }()
	free, err := FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pid  int
		addr string
		want string
	}{
		{os.Getpid(), l.Addr().String(), ""},
		{other.Process.Pid, l.Addr().String(), "somebody else listens there"},
		{os.Getpid(), free, "nobody listens on " + free},
		{os.Getpid(), "localhost:1883", `listen on "localhost:1883": not a host of IPv4 and a port`},
	} {
		said := ""
		if err := listens(c.pid, c.addr); err != nil {
			said = err.Error()
		}
		if said != c.want {
			t.Errorf("%s: %q, want %q", c.addr, said, c.want)
		}
	}
}
