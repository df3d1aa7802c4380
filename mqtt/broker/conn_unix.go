//go:build unix

package broker

import (
	"errors"
	"syscall"
)

// writeNow writes what the kernel takes without waiting.
func writeNow(raw syscall.RawConn, p []byte) (n int, err error) {
	rawErr := raw.Write(func(fd uintptr) bool {
		for n < len(p) {
			m, e := syscall.Write(int(fd), p[n:])
			switch {
			case m > 0:
				n += m
			case errors.Is(e, syscall.EINTR):
			case errors.Is(e, syscall.EAGAIN), e == nil:
				return true
			default:
				err = e
				return true
			}
		}
		return true
	})
	if err == nil {
		err = rawErr
	}
	return n, err
}
