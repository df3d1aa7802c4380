package door

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h, which package syscall lacks.
const tcpUserTimeout = 0x12

// userTimeout is how long data may be on its way to a peer that does not acknowledge it.
const userTimeout = 30 * time.Second

// patience sets, on a socket that listens, what accepted connections inherit.
func patience(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(userTimeout/time.Millisecond))
	})
	if err == nil {
		err = failed
	}
	return err
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
