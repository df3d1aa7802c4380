package door

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h, which package syscall lacks.
const tcpUserTimeout = 0x12

// userTimeout is how long data may be on its way to a peer that does not acknowledge it.
const userTimeout = 30 * time.Second

// patient listens for connections whose dead peers are noticed. All of it is set on the socket that listens, and inherited:
// package net would set it on each connection, by four calls.
func patient() *net.ListenConfig {
	return &net.ListenConfig{KeepAlive: -1, Control: patience}
}

func patience(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		for _, o := range []struct{ level, option, value int }{
			{syscall.IPPROTO_TCP, tcpUserTimeout, int(userTimeout / time.Millisecond)},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, int(keepAlive.Idle / time.Second)},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, int(keepAlive.Interval / time.Second)},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, keepAlive.Count},
			{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		} {
			failed = errors.Join(failed, syscall.SetsockoptInt(int(fd), o.level, o.option, o.value))
		}
	})
	return errors.Join(err, failed)
}

// unsent is how many bytes the kernel holds that the peer has not acknowledged.
func unsent(raw syscall.RawConn) (n int, known bool) {
	if raw == nil {
		return 0, false
	}
	var failed error
	err := raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n, err == nil && failed == nil
}
