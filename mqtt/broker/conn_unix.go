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

// discardMost bounds what discard reads: whoever sends that much at once gets his RST.
const discardMost = 64 << 10

// discard throws away what the kernel has received, without waiting, and without waiting for a Read of somebody else.
func discard(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		var waste [4 << 10]byte
		for left := discardMost; left > 0; {
			n, _, err := syscall.Recvfrom(int(fd), waste[:], syscall.MSG_DONTWAIT)
			if n <= 0 || err != nil {
				return
			}
			left -= n
		}
	})
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
