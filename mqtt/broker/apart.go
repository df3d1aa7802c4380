package broker

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A gateway that cannot announce itself is taken for dead by the backends: what is connected to it gets no commands, and may
// not notice for as long as it has nothing to say. So its links are ended, first after apartAfter, that they may find a
// gateway that is not cut off. Those that come back are let in and ended again each time twice as late: when all gateways
// are cut off, because what they share is away, there is nothing better to be found.
const (
	apartAfter = 7 * time.Second // with a beat that waits for its timeout: within 10 s
	apartMost  = 2 * time.Minute
)

// apart is since when a gateway has been cut off. The heartbeat's goroutine only.
type apart struct {
	since time.Time     // the last time that links were ended, or when it began; zero: it is not
	wait  time.Duration // until links are ended
}

// failed says whether the links are to be ended, now that another announcement has failed.
func (a *apart) failed(now time.Time) bool {
	switch {
	case a.since.IsZero():
		a.since, a.wait = now, apartAfter
		return false
	case now.Sub(a.since) < a.wait:
		return false
	}
	a.since, a.wait = now, min(2*a.wait, apartMost)
	return true
}

// told says whether links were ended since it was last announced.
func (a *apart) told() bool { return a.wait > apartAfter }

// cutOff notes that the gateway could not be announced, and ends its links when that has been so for too long.
func (p *presence) cutOff(now time.Time) {
	if !p.apart.failed(now) {
		return
	}
	ended := 0
	for i := range rollCallSlices {
		for _, s := range p.registry.slice(i) {
			p.metrics.stopped.WithLabelValues("cut_off").Inc()
			p.uplinks.flapping.excuse(s)
			s.link.stop(packets.ErrServerUnavailable)
			ended++
		}
	}
	p.log.Error("backends take this gateway for dead: its devices are disconnected, so that they find another", "clients", ended)
}
