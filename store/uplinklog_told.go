package store

import (
	"context"
	"time"

	"github.com/lib/pq"
)

// appendedChannel is the channel of PostgreSQL (NOTIFY) on which every append tells of itself when it is committed.
const appendedChannel = "meterline-uplink"

// How long to wait before a lost connection is made again, first and at most. Until then Run's looking finds what comes.
const (
	hearAgain     = 250 * time.Millisecond
	hearAgainMost = 5 * time.Second
)

// hear signals what gateways tell of their appends, until ctx is done. A gateway is another process: without it a reading would
// wait for the next look.
func (l *UplinkLog) hear(ctx context.Context) {
	listener := pq.NewListener(l.db.url, hearAgain, hearAgainMost, nil)
	defer listener.Close() //nolint:errcheck // closed twice when ctx is done, which is no fault
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	if err := listener.Listen(appendedChannel); err != nil { // it tries until it is closed
		if ctx.Err() == nil {
			l.opt.Logger.Warn("cannot hear of appends to the uplink log, looking for them instead", "error", err)
		}
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-listener.Notify: // nil: something may have been missed
			l.Signal()
		}
	}
}
