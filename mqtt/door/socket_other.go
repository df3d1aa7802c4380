//go:build !unix

package door

import "syscall"

// writeNow takes nothing: where there is no non-blocking write, everything goes by the backlog.
func writeNow(syscall.RawConn, []byte) (int, error) { return 0, nil }

// descriptors is how many files the process may have open; 0: not known.
func descriptors() int { return 0 }

// narrow does nothing.
func narrow(syscall.RawConn) {}

// arrived is not known.
func arrived(syscall.RawConn) bool { return false }

// discard does nothing.
func discard(syscall.RawConn) {}
