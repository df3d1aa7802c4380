package command

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"meterline/fault"
	"meterline/meterread"
)

// projector carries what was committed into the live state and tells those who wait, in its own goroutine, so that the
// worker never waits for it. It folds what piles up: the beginning and the end of an operation are carried at once, what
// lies between at most every 250 ms.
type projector struct {
	live    Live
	notices Notices
	metrics *Metrics
	logger  *slog.Logger
	signal  chan struct{}

	mu       sync.Mutex
	changes  map[ID][]*run // runs that join on, in the order of their commits
	folded   int           // operations in them
	readings []meterread.Reading
	arrived  []Arrived             // operations that moved to other endpoints
	stale    map[ID]struct{}       // to be forgotten by the live state
	unread   map[DeviceID]struct{} // whose newest readings are to be forgotten
	urgent   bool
	since    time.Time // when the oldest change that waits came
	carrying time.Time // when the oldest came of what is being carried; zero: nothing is
	owed     time.Time // when the oldest came of what is stale or unread
}

const (
	foldFor  = 250 * time.Millisecond
	carryFor = 5 * time.Second // a live state that stands still is not waited for longer
	// mostFolded bounds what waits for a live state that is away: beyond it commands are read from the record again.
	mostFolded = 50_000
	// mostReadings bounds the readings that wait for it.
	mostReadings = 4 * mostFolded
)

func newProjector(opt WorkerOptions) *projector {
	p := &projector{live: opt.Live, notices: opt.Notices, metrics: opt.Metrics, logger: opt.Logger, signal: make(chan struct{}, 1), stale: map[ID]struct{}{}, unread: map[DeviceID]struct{}{}}
	p.clear()
	return p
}

func (p *projector) clear() {
	p.changes, p.folded = map[ID][]*run{}, 0
	p.readings, p.arrived, p.urgent = nil, nil, false
}

// run is a number of changes of one command that join on.
type run struct {
	change Change
	ops    map[DeviceID]*Operation
}

// take takes in what a transaction did. It does not block.
func (p *projector) take(c Committed) {
	if len(c.Changes) == 0 && len(c.Readings) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.changes) == 0 && len(p.readings) == 0 {
		p.since = time.Now()
	}
	for _, change := range c.Changes {
		p.fold(change)
	}
	if len(p.readings)+len(c.Readings) <= mostReadings {
		p.readings = append(p.readings, c.Readings...)
	} else { // the live state stands still: those devices are read from the record
		for _, r := range c.Readings {
			p.unread[r.DeviceID] = struct{}{}
		}
	}
	p.urgent = p.urgent || len(p.readings) > mostFolded
	p.poke()
}

func (p *projector) poke() {
	select {
	case p.signal <- struct{}{}:
	default:
	}
}

// fold adds a change to those that wait. Where another owner's lies between, a new run begins: the live state puts the
// runs of several owners in their order. When too much waits the command is read from the record again.
func (p *projector) fold(c Change) {
	id := c.Command.ID
	runs := p.changes[id]
	if len(runs) == 0 || runs[len(runs)-1].change.Command.Version != c.From {
		runs = append(runs, &run{change: Change{From: c.From}, ops: map[DeviceID]*Operation{}})
		p.changes[id] = runs
	}
	last := runs[len(runs)-1]
	last.change.Command, last.change.Bulk = c.Command, last.change.Bulk || c.Bulk || c.Command.Counts.Total > LiveLimit
	if p.folded+len(c.Operations) > mostFolded {
		last.change.Bulk = true
	}
	p.urgent = p.urgent || c.Bulk
	for _, o := range c.Operations {
		p.urgent = p.urgent || !o.State.Open()
		if !last.change.Bulk {
			last.ops[o.DeviceID] = o
			p.folded++
		}
	}
}

// tell wakes the owners of endpoints that operations moved to.
func (p *projector) tell(arrived []Arrived) {
	if len(arrived) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrived, p.urgent = append(p.arrived, arrived...), true
	p.poke()
}

// behind is for how long something has been waiting to be carried: what was committed before that has been.
func (p *projector) behind() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fault.Bug(fault.BugNeverBehind) {
		return 0
	}
	return time.Since(p.oldest())
}

// oldest is when the oldest came of all that has not been carried yet. The caller holds the mutex.
func (p *projector) oldest() time.Time {
	oldest := time.Now()
	if !p.carrying.IsZero() && p.carrying.Before(oldest) {
		oldest = p.carrying
	}
	if len(p.changes)+len(p.readings) > 0 && p.since.Before(oldest) {
		oldest = p.since
	}
	if len(p.stale)+len(p.unread) > 0 && p.owed.Before(oldest) {
		oldest = p.owed
	}
	return oldest
}

// longAgo is when what was taken over may have come.
var longAgo = time.Unix(0, 0)

// forget makes the live state drop what may have changed unseen, nobody knows when.
func (p *projector) forget(ids []ID, devices []DeviceID) {
	if len(ids)+len(devices) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.stale[id] = struct{}{}
	}
	for _, d := range devices {
		p.unread[d] = struct{}{}
	}
	p.urgent, p.owed = true, longAgo
	p.poke()
}

// run carries until ctx is done, and then once more what was left.
func (p *projector) carryOn(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-p.signal:
			p.settle(ctx)
		}
		if err := p.runOnce(ctx); err != nil && ctx.Err() == nil {
			p.logger.Warn("the live state is behind: what changed is forgotten there and read from the record", "error", err)
			pause(ctx, time.Second)
			p.poke()
		}
	}
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	_ = p.runOnce(last)
}

// settle lets changes pile up until they have to be carried.
func (p *projector) settle(ctx context.Context) {
	for wait := p.wait(); wait > 0; wait = p.wait() {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-p.signal:
			t.Stop()
		case <-t.C:
			return
		}
	}
}

// wait is how long what waits may still be folded.
func (p *projector) wait() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.urgent {
		return 0
	}
	return foldFor - time.Since(p.since)
}

func (p *projector) runOnce(ctx context.Context) error {
	p.mu.Lock()
	changes, readings, stale, arrived := p.changes, p.readings, p.stale, p.arrived
	unread := slices.Collect(maps.Keys(p.unread))
	p.carrying = p.oldest()
	p.stale, p.unread = map[ID]struct{}{}, map[DeviceID]struct{}{}
	p.clear()
	p.mu.Unlock()

	var list []Change
	var moved, drop []ID
	for id, runs := range changes {
		moved = append(moved, id)
		if _, is := stale[id]; is {
			continue
		}
		for _, r := range runs {
			for _, o := range r.ops {
				r.change.Operations = append(r.change.Operations, o)
			}
			list = append(list, r.change)
		}
	}
	for id := range stale {
		drop = append(drop, id)
	}
	limit, stop := context.WithTimeout(ctx, carryFor)
	defer stop()
	fault.Point(fault.ProjectTaken)
	err := p.carry(limit, list, drop, readings)
	fault.Point(fault.ProjectCarried)
	if len(unread) > 0 { // after carry: what it put in may lack what the owner before had committed
		err = errors.Join(err, p.live.ForgetReadings(limit, unread))
	}
	p.carried(err, drop, list, unread)
	if len(moved)+len(arrived) > 0 {
		limit, stop := context.WithTimeout(ctx, carryFor)
		defer stop()
		err = errors.Join(err, p.notices.Notify(limit, Notice{Moved: moved, Arrived: arrived}))
	}
	return err
}

// carry does all it can, whatever fails. The live state itself drops readings that could not be put in once it is back.
func (p *projector) carry(ctx context.Context, list []Change, drop []ID, readings []meterread.Reading) error {
	var errs []error
	if len(drop) > 0 {
		errs = append(errs, p.live.Forget(ctx, drop))
	}
	if len(list) > 0 {
		errs = append(errs, p.live.Apply(ctx, list))
	}
	for part := range slices.Chunk(readings, mostFolded) {
		errs = append(errs, p.live.PutReadings(ctx, part))
	}
	return errors.Join(errs...)
}

// carried notes the end of carrying. What could not be carried is kept as stale.
func (p *projector) carried(err error, drop []ID, list []Change, unread []DeviceID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := p.carrying
	p.carrying = time.Time{}
	if err == nil {
		return
	}
	if len(p.stale)+len(p.unread) == 0 || since.Before(p.owed) {
		p.owed = since
	}
	for _, d := range unread {
		p.unread[d] = struct{}{}
	}
	for _, id := range drop {
		p.stale[id] = struct{}{}
	}
	for _, c := range list {
		p.stale[c.Command.ID] = struct{}{}
	}
}
