//go:build !linux

package door

import (
	"net"
	"syscall"
)

// patient listens for connections whose dead peers are noticed, by keep-alive probes: only Linux has TCP_USER_TIMEOUT.
func patient() *net.ListenConfig { return &net.ListenConfig{KeepAliveConfig: keepAlive} }

// unsent is not known.
func unsent(syscall.RawConn) (int, bool) { return 0, false }
