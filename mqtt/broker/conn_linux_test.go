package broker

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// What an accepted connection has, so that a dead peer is noticed.
func TestAcceptedConnectionsHaveTheirOptions(t *testing.T) {
	r := start(t)
	r.connect(t, dev("d1"))
	s := r.Broker.registry.all("d1")[0]
	w := s.link.(wireLink).wire
	raw, err := w.socket.Conn.(*net.TCPConn).SyscallConn()
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
