package store

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Connections to PostgreSQL end by themselves when its machine is gone.
func TestAServerThatIsGoneIsNoticed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := newDialer().DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]int{
		unix.TCP_USER_TIMEOUT: int(goneAfter.Milliseconds()), unix.TCP_KEEPIDLE: int(probeEvery.Seconds()),
		unix.TCP_KEEPINTVL: int(probeEvery.Seconds()), unix.TCP_KEEPCNT: probesUntil,
	}
	err = raw.Control(func(fd uintptr) {
		for option, value := range want {
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil || got != value {
				t.Errorf("option %d is %d, want %d: %v", option, got, value, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
