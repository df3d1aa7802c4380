package store

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// noticeSilence sets TCP_USER_TIMEOUT (RFC 5482, tcp(7)) of a socket; a socket of another family has none.
func noticeSilence(_ context.Context, network, _ string, c syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return nil
	}
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(goneAfter.Milliseconds()))
	})
	return errors.Join(err, failed)
}
