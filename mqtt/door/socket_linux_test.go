package door

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What an accepted connection has, so that a dead peer is noticed.
func TestAcceptedConnectionsHaveTheirOptions(t *testing.T) {
	r := begin(t)
	if err := says(from(t, "127.0.0.1", r.address("tcp")), "+"); err != nil {
		t.Fatal(err)
	}
	c := r.all()[0]
	c.Narrow()
	raw, err := c.socket.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]struct{ level, option, want int }{
		"TCP_USER_TIMEOUT, ms": {syscall.IPPROTO_TCP, tcpUserTimeout, int(userTimeout / time.Millisecond)},
		"SO_KEEPALIVE":         {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		"TCP_KEEPIDLE, s":      {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 30},
		"TCP_KEEPINTVL, s":     {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 10},
		"TCP_KEEPCNT":          {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
		"TCP_NODELAY":          {syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
		"SO_SNDBUF":            {syscall.SOL_SOCKET, syscall.SO_SNDBUF, 2 * sendBuffer},
		"SO_RCVBUF":            {syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2 * receiveBuffer},
	} {
		var got int
		var failed error
		if err := raw.Control(func(fd uintptr) { got, failed = syscall.GetsockoptInt(int(fd), o.level, o.option) }); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		if got != o.want {
			t.Errorf("%s is %d, want %d", name, got, o.want)
		}
	}
}

// A network that takes a little every second takes something, although the kernel wakes nobody for so little.
func TestASlowNetworkIsNotStalled(t *testing.T) {
	for began := time.Now(); ; {
		cause, late := trickle(t)
		switch {
		case cause == "":
			return
		case late < drainTimeout/4: // or else the machine took so little, and it is tried again
			t.Fatalf("given up: %s, although something was taken every %v", cause, tricklePause+late)
		case time.Since(began) > waitMost:
			t.Fatalf("given up: %s; the machine kept the test waiting for %v", cause, late)
		}
	}
}

const tricklePause = 250 * time.Millisecond

// trickle has a client take a little again and again, for more than twice as long as one may take nothing, and then nothing. It
// returns why it was given up before, "" if it was not, and how much later than it should it took something at most.
func trickle(t *testing.T) (cause string, late time.Duration) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	tight := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { // before it connects: windows do not shrink
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	far, err := tight.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var drains sync.WaitGroup
	gaveUp := make(chan string, 1)
	c := newSocket(near, 1<<20, &drains, func(cause string) { gaveUp <- cause })
	defer func() {
		drains.Wait()
		_ = c.Close()
	}()
	narrow(c.raw)
	began := time.Now()
	last := began
	if _, err := c.Write(make([]byte, 200<<10)); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(tricklePause)
	defer tick.Stop()
	for time.Since(began) < 2*drainTimeout+time.Second {
		_, err := io.ReadFull(far, make([]byte, 1<<10))
		late = max(late, time.Since(last)-tricklePause)
		last = time.Now()
		select {
		case cause := <-gaveUp:
			return cause, late
		default:
		}
		if err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	if cause := <-gaveUp; cause != "stalled" { // now it takes nothing any more
		t.Error(cause)
	}
	return "", late
}
