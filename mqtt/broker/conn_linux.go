package broker

import (
	"syscall"
	"time"
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
