//go:build !linux

package door

import "syscall"

// patience does nothing: only Linux has TCP_USER_TIMEOUT. Keep-alive probes notice a dead peer all the same.
func patience(_, _ string, _ syscall.RawConn) error { return nil }

// unsent is not known.
func unsent(syscall.RawConn) (int, bool) { return 0, false }
