package store

import (
	"net"
	"time"
)

// How soon a server whose machine or network is gone without a word is noticed. Without it what waits for an answer would
// wait as long as the kernel sends again, which is a quarter of an hour.
const (
	goneAfter   = 15 * time.Second // nothing that was sent is acknowledged for so long
	probeEvery  = 5 * time.Second  // while an answer is waited for
	probesUntil = 3                // of them without an answer
)

// newDialer dials PostgreSQL.
func newDialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeEvery, Interval: probeEvery, Count: probesUntil},
		ControlContext:  noticeSilence,
	}
}
