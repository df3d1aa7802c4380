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

// descriptors is how many files the process may have open; 0: not known.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	const unlimited = 1 << 30
	if uint64(limit.Cur) > unlimited {
		return 0
	}
	return int(limit.Cur)
}
