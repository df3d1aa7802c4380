package command

import (
	"context"
	"sync"
	"time"

	"meterline/meterread"
)

// projectors carry what was committed: one what somebody waits for, the other all else, however much that is. A command is
// always carried by the same, since its priority never changes.
type projectors struct {
	live, rest *projector
	metrics    *Metrics
}

func newProjectors(opt WorkerOptions) projectors {
	return projectors{live: newProjector(opt), rest: newProjector(opt), metrics: opt.Metrics}
}

// run carries until ctx is done, and then what is left.
func (p projectors) run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { p.live.carryOn(ctx) })
	both.Go(func() { p.rest.carryOn(ctx) })
	both.Wait()
}

// take takes in what a transaction did. It does not block.
func (p projectors) take(c Committed) {
	p.metrics.moved(c)
	live, rest := Committed{Now: c.Now}, Committed{Now: c.Now}
	waited := map[meterread.CommandID]struct{}{}
	for _, change := range c.Changes {
		if change.Command.Priority < RealtimePriority {
			rest.Changes = append(rest.Changes, change)
			continue
		}
		live.Changes = append(live.Changes, change)
		waited[change.Command.ID] = struct{}{}
	}
	if len(waited) == 0 {
		p.rest.take(c)
		return
	}
	for _, r := range c.Readings {
		if _, is := waited[r.CommandID]; is {
			live.Readings = append(live.Readings, r)
		} else {
			rest.Readings = append(rest.Readings, r)
		}
	}
	p.live.take(live)
	p.rest.take(rest)
}

// tell wakes the owners of endpoints that operations moved to.
func (p projectors) tell(arrived []Arrived) { p.live.tell(arrived) }

// behind is for how long something has been waiting to be carried: what was committed before that has been.
func (p projectors) behind() time.Duration { return max(p.live.behind(), p.rest.behind()) }

// forget makes the live state drop what may have changed unseen, nobody knows when. Which of the two would carry it is not known
// either; to drop it twice costs a look at the record.
func (p projectors) forget(ids []ID, devices []DeviceID) {
	p.live.forget(ids, devices)
	p.rest.forget(ids, devices)
}
