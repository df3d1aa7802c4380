//go:build unix

package door

import (
	"sync"
	"syscall"
)

// attempt is a write that does not wait. It is borrowed: a function made for each write would be thrown away with it.
type attempt struct {
	p     []byte
	n     int
	err   error
	write func(fd uintptr) bool // once
}

var attempts = sync.Pool{New: func() any {
	a := &attempt{}
	a.write = a.once
	return a
}}

func (a *attempt) once(fd uintptr) bool {
	for a.n < len(a.p) {
		m, err := syscall.Write(int(fd), a.p[a.n:])
		switch {
		case m > 0:
			a.n += m
		case err == syscall.EINTR:
		case err == syscall.EAGAIN, err == nil:
			return true
		default:
			a.err = err
			return true
		}
	}
	return true
}

// writeNow writes what the kernel takes without waiting.
func writeNow(raw syscall.RawConn, p []byte) (n int, err error) {
	a := attempts.Get().(*attempt)
	a.p = p
	err = raw.Write(a.write)
	if a.err != nil {
		err = a.err
	}
	n = a.n
	a.p, a.n, a.err = nil, 0, nil
	attempts.Put(a)
	return n, err
}

const (
	// sendBuffer and receiveBuffer are what the kernel may hold of an endpoint's connection; Linux takes twice as much,
	// for its own needs too. Left alone, it takes 4 MiB for a client that does not read: memory that nobody sees, and a
	// command of 256 KiB vanishes in it, so that only the missing PUBACK tells after 20 s. Like this the command does not
	// fit, and the connection ends 2 s after the client took its last byte. What lies in the client's own receive buffer
	// looks to TCP as if it had been read (nothing is unacknowledged): for small commands there is no way to tell sooner.
	// The price: 50 KB are on their way at once, 500 KB/s at a round trip of 100 ms. Service clients are left alone.
	sendBuffer    = 32 << 10
	receiveBuffer = 64 << 10
)

// narrow bounds what the kernel holds of a connection.
func narrow(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer)
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
	})
}

// arrived says whether there is something to read, the end of the stream included.
func arrived(raw syscall.RawConn) (something bool) {
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		something = err == nil
	})
	return something
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
