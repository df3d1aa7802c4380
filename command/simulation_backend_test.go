package command_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"meterline/command"
	"meterline/command/commandtest"
	"meterline/fleet"
	"meterline/meterread"
)

// backend is a process with a worker. It may be killed at every call that leaves it, before or after the call did what it
// does, held up there, or be told that it failed, truly or not.
type backend struct {
	world  *world
	name   string
	worker *command.Worker // nil: it is down
	clock  *command.Clock
	hear   func(command.Notice)

	measured         time.Time
	inRound, inCarry bool // of a step that is held up
	busy             bool
}

// crash is what a killed process panics with.
type crash struct{ b *backend }

var errKilled = errors.New("killed")

func isCrash(err error) bool { return errors.Is(err, errKilled) }

func (b *backend) start() {
	w := b.world
	w.made++
	b.clock = command.NewClock(&clockwork{b})
	b.worker = command.NewWorker(command.WorkerOptions{
		Owner: fmt.Sprint("worker ", w.made), Ledger: &book{w.ledger, b}, Log: &uplog{w.log, b}, Presence: &registry{b}, Publisher: &publisher{b},
		Live: &cache{world: w, b: b}, Notices: &notices{world: w, b: b}, Clock: b.clock, Logger: quiet, Metrics: metrics,
		DeliveryLease: w.profile.deliveryLease, RunTimeout: command.ForAll(w.profile.runTimeout),
		Partition: func(e command.DeviceID) int { return fleet.Partition(e, partitions) },
	})
	b.small()
	b.measure()
	b.listen()
}

// small lets even the few uplinks of a schedule be a backlog, until all is calm.
func (b *backend) small() {
	w, most := b.world, 12
	if w.profile.hurried {
		most = 2
	}
	read := 1 + w.draw.IntN(most)
	if w.calm {
		read = 256
	}
	b.worker.Small(read, w.draw.IntN(3), b.beside)
}

// beside is a transaction and what is done beside it. The locks of the record put all that meets into one order or the other:
// what is done beside it comes before it, or after it, when it is not yet known that it has ended.
func (b *backend) beside(hurry func(), change func() (command.Committed, error)) (command.Committed, error) {
	b.some("before", hurry)
	done, err := change()
	b.some("after", hurry)
	return done, err
}

func (b *backend) some(when string, hurry func()) {
	w, worker := b.world, b.worker
	for range w.draw.IntN(3) {
		w.trace.add(b.name, "hurries", when)
		if w.chance(30) {
			w.interlude()
			b.doomed(worker)
		}
		hurry()
	}
}

func (b *backend) measure() {
	_ = b.clock.Measure(context.Background())
	b.measured = time.Now()
}

// listen takes the function that Listen would call.
func (b *backend) listen() {
	ctx, stop := context.WithCancel(context.Background())
	b.hear = nil
	b.worker.Listen(context.WithValue(ctx, stopping{}, stop))
	stop()
}

type stopping struct{}

// alive runs f as this process, which may be killed in it.
func (b *backend) alive(what string, f func() error) {
	err := func() (err error) {
		defer func() {
			switch r := recover().(type) {
			case nil:
			case crash:
				err = errKilled
			default:
				panic(r)
			}
		}()
		return f()
	}()
	b.world.trace.add(b.name, what, outcome(err))
}

func (b *backend) round() {
	if b.worker == nil {
		if b.world.calm || b.world.draw.IntN(4) == 0 {
			b.world.trace.add(b.name, "starts")
			b.start()
		}
		return
	}
	if b.inRound {
		return
	}
	if time.Since(b.measured) > 5*time.Second {
		b.measure()
	}
	b.inRound = true
	worker := b.worker
	b.alive("round", func() (err error) {
		if b.busy, err = worker.Round(context.Background()); err == nil {
			b.world.check.knows(worker)
		}
		return err
	})
	b.inRound = false
}

func (b *backend) carry() {
	if b.worker == nil || b.inCarry || b.world.profile.lazy && b.world.chance(85) {
		return
	}
	b.inCarry = true
	worker := b.worker
	b.alive("carry", func() error {
		_, err := worker.Carry(context.Background(), b.world.draw.IntN(2) == 0)
		return err
	})
	b.inCarry = false
}

// kill ends the process where it is.
func (b *backend) kill() {
	b.worker, b.hear, b.busy = nil, nil, false
	panic(crash{b})
}

// doomed says whether the process was killed while the caller was held up.
func (b *backend) doomed(worker *command.Worker) {
	if b.worker != worker {
		panic(crash{b})
	}
}

// call is a call that leaves the process. f does it; what it tells the caller may be wrong.
func (b *backend) call(site string, f func() error) error {
	w, worker := b.world, b.worker
	if w.calm {
		return f()
	}
	if read := site == "Read" || site == "ReadAhead"; w.away(w.logUnread) && read || w.away(w.logAway) && (read || site == "Sessions" || site == "Gateways") || w.away(w.recordAway) && slices.Contains(inRecord, site) {
		w.trace.add(b.name, site, "is away")
		return fmt.Errorf("simulated: %w", command.ErrUnavailable)
	}
	if w.cover.watched(w.seed) {
		w.cover.exists(place(site))
	}
	if n := w.draw.IntN(1000); n < w.profile.crash {
		b.end(site, "before")
	} else if n < w.profile.crash+w.profile.fail {
		w.trace.add(b.name, site, "fails")
		return fmt.Errorf("simulated: %w", command.ErrUnavailable)
	} else if n < w.profile.crash+w.profile.fail+w.profile.pause {
		w.trace.add(b.name, site, "held up")
		w.interlude()
		b.doomed(worker)
	}
	err := f()
	if n := w.draw.IntN(1000); n < w.profile.crash {
		b.end(site, "after")
	} else if n < w.profile.crash+w.profile.doubt && err == nil {
		w.trace.add(b.name, site, "done, and not told")
		return fmt.Errorf("simulated, after it was done: %w", command.ErrUnavailable)
	} else if n < w.profile.crash+w.profile.doubt+w.profile.pause {
		w.trace.add(b.name, site, "held up after it")
		w.interlude()
		b.doomed(worker)
	}
	return err
}

// inRecord are the calls that go to the record.
var inRecord = []string{"Change", "Ready", "Recover", "Commands", "Arrivals", "Endpoints", "Due", "Timed", "End", "Hold", "Release"}

func (b *backend) end(site, when string) {
	b.world.trace.add(b.name, "killed", when, site)
	b.world.cover.crashed(place(site) + ", " + when)
	b.kill()
}

// place is where in the product a call comes from.
func place(site string) string {
	var at [24]uintptr
	frames := runtime.CallersFrames(at[:runtime.Callers(2, at[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.File, "_test.go") || strings.HasSuffix(f.Function, ").change") || !strings.Contains(f.Function, "meterline/command.") {
			if !more {
				return site
			}
			continue
		}
		return f.Function[strings.LastIndex(f.Function, "/")+1:] + ": " + site
	}
}

// book is the record as a worker reaches it.
type book struct {
	*commandtest.Ledger
	b *backend
}

func (l *book) Change(ctx context.Context, f command.Fence, need command.Need, decide func(*command.Tx) error) (done command.Committed, err error) {
	e := l.b.call("Change", func() error { done, err = l.Ledger.Change(ctx, f, need, decide); return err })
	return done, e
}

func (l *book) Ready(ctx context.Context, heads []command.Head) (ready map[meterread.DeviceID]command.Front, err error) {
	e := l.b.call("Ready", func() error { ready, err = l.Ledger.Ready(ctx, heads); return err })
	return ready, e
}

func (l *book) Recover(ctx context.Context, partitions []int) (r command.Recovered, err error) {
	e := l.b.call("Recover", func() error { r, err = l.Ledger.Recover(ctx, partitions); return err })
	return r, e
}

func (l *book) Commands(ctx context.Context, ids []command.ID) (cs map[command.ID]command.Command, err error) {
	e := l.b.call("Commands", func() error { cs, err = l.Ledger.Commands(ctx, ids); return err })
	return cs, e
}

func (l *book) Arrivals(ctx context.Context, after int64, limit int) (as []command.Arrival, err error) {
	e := l.b.call("Arrivals", func() error { as, err = l.Ledger.Arrivals(ctx, after, limit); return err })
	return as, e
}

func (l *book) Endpoints(ctx context.Context, id command.ID, partitions []int, after meterread.DeviceID) (es []meterread.DeviceID, last meterread.DeviceID, err error) {
	e := l.b.call("Endpoints", func() error { es, last, err = l.Ledger.Endpoints(ctx, id, partitions, after); return err })
	return es, last, e
}

func (l *book) Due(ctx context.Context, except []command.ID, limit int) (cs []command.Command, err error) {
	e := l.b.call("Due", func() error { cs, err = l.Ledger.Due(ctx, except, limit); return err })
	return cs, e
}

func (l *book) Timed(ctx context.Context, from, to time.Time) (ids []command.ID, err error) {
	e := l.b.call("Timed", func() error { ids, err = l.Ledger.Timed(ctx, from, to); return err })
	return ids, e
}

func (l *book) End(ctx context.Context, f command.Fence, ids []command.ID, as command.State, reason string, after meterread.DeviceID,
	limit int) (c command.Committed, last meterread.DeviceID, more bool, err error) {
	e := l.b.call("End", func() error { c, last, more, err = l.Ledger.End(ctx, f, ids, as, reason, after, limit); return err })
	return c, last, more, e
}

func (l *book) Hold(ctx context.Context, owner string, lease, behind time.Duration) (f command.Fence, excess int, err error) {
	e := l.b.call("Hold", func() error { f, excess, err = l.Ledger.Hold(ctx, owner, lease, behind); return err })
	return f, excess, e
}

func (l *book) Release(ctx context.Context, owner string, partitions []int) error {
	return l.b.call("Release", func() error { return l.Ledger.Release(ctx, owner, partitions) })
}

// clockwork is the record's clock as a process reads it: the way there and the way back take their time.
type clockwork struct{ b *backend }

func (c *clockwork) Now(context.Context) (time.Time, error) {
	w := c.b.world
	if !w.calm {
		time.Sleep(w.upTo(40 * time.Millisecond))
	}
	now := w.now()
	if !w.calm {
		time.Sleep(w.upTo(40 * time.Millisecond))
	}
	return now, nil
}

// uplog is the uplink log as a worker reaches it.
type uplog struct {
	*commandtest.Log
	b *backend
}

func (l *uplog) Read(ctx context.Context, from []command.LogPosition, limit int) (bs []command.LogBatch, err error) {
	if !l.b.world.calm {
		limit = 1 + l.b.world.draw.IntN(limit)
	}
	e := l.b.call("Read", func() error { bs, err = l.Log.Read(ctx, from, limit); return err })
	return bs, e
}

func (l *uplog) ReadAhead(ctx context.Context, from []command.LogPosition, limit int) (bs []command.LogBatch, err error) {
	if !l.b.world.calm {
		limit = 1 + l.b.world.draw.IntN(20)
	}
	e := l.b.call("ReadAhead", func() error { bs, err = l.Log.ReadAhead(ctx, from, limit); return err })
	return bs, e
}

func (l *uplog) Stored(ctx context.Context, positions []command.LogPosition) {
	_ = l.b.call("Stored", func() error { l.Log.Stored(ctx, positions); return nil })
}

// cache is the live state as a process reaches it.
type cache struct {
	world *world
	b     *backend // nil: the API's
}

func (c *cache) call(site string, f func() error) error {
	if c.b != nil {
		return c.b.call(site, f)
	}
	return f()
}

func (c *cache) Prepare(ctx context.Context, id command.ID) (string, error) {
	return c.world.live.Prepare(ctx, id)
}

func (c *cache) Fill(ctx context.Context, token string, v command.View) error {
	return c.world.live.Fill(ctx, token, v)
}

func (c *cache) Load(ctx context.Context, id command.ID, page int) (command.View, bool, error) {
	return c.world.live.Load(ctx, id, page)
}

func (c *cache) Apply(ctx context.Context, changes []command.Change) error {
	return c.call("Apply", func() error { return c.world.live.Apply(ctx, changes) })
}

func (c *cache) Forget(ctx context.Context, ids []command.ID) error {
	return c.call("Forget", func() error { return c.world.live.Forget(ctx, ids) })
}

func (c *cache) PutReadings(ctx context.Context, rs []meterread.Reading) error {
	return c.call("PutReadings", func() error { return c.world.live.PutReadings(ctx, rs) })
}

func (c *cache) ForgetReadings(ctx context.Context, devices []meterread.DeviceID) error {
	return c.call("ForgetReadings", func() error { return c.world.live.ForgetReadings(ctx, devices) })
}

// notices carries what one process tells the others, sooner, later or never.
type notices struct {
	world *world
	b     *backend
}

func (n *notices) Notify(_ context.Context, notice command.Notice) error {
	send := func() error {
		for _, to := range n.world.backends {
			if n.world.chance(n.world.profile.shed) {
				continue
			}
			n.world.put(n.world.upTo(20*time.Millisecond), "notice to "+to.name, func() {
				if to.hear != nil {
					to.hear(notice)
				}
			})
		}
		return nil
	}
	if n.b != nil {
		return n.b.call("Notify", send)
	}
	return send()
}

func (n *notices) Listen(ctx context.Context, f func(command.Notice)) error {
	n.b.hear = f
	ctx.Value(stopping{}).(context.CancelFunc)()
	return nil
}

// registry is what Redis knows of sessions and gateways.
type registry struct{ b *backend }

func (r *registry) Sessions(_ context.Context, endpoints []command.DeviceID) (map[command.DeviceID]command.Session, error) {
	found := map[command.DeviceID]command.Session{}
	err := r.b.call("Sessions", func() error {
		for _, e := range endpoints {
			if s, ok := r.b.world.presence[e]; ok {
				found[e] = s
			}
		}
		return nil
	})
	return found, err
}

func (r *registry) Gateways(context.Context) (map[command.Gateway]int64, error) {
	found := map[command.Gateway]int64{}
	err := r.b.call("Gateways", func() error {
		for g, n := range r.b.world.beats {
			found[g] = n
		}
		return nil
	})
	return found, err
}

// publisher hands messages to the gateways.
type publisher struct{ b *backend }

func (p *publisher) Reachable(id string) bool { return p.b.world.gatewayOf(id).up }

func (p *publisher) Publish(_ context.Context, id string, endpoint command.DeviceID, m command.Message, done func(error)) {
	w := p.b.world
	taken := false
	err := p.b.call("Publish", func() error {
		taken = true
		w.check.published(endpoint, m)
		w.gatewayOf(id).take(endpoint, m, done)
		return nil
	})
	if err != nil && !taken {
		w.put(0, "not published", func() { done(err) })
	}
}

// shelf is the record as the API reaches it: commands of many devices are made piece by piece.
type shelf struct {
	*commandtest.Ledger
	world *world
}

func (s *shelf) fails() error {
	if s.world.chance(s.world.profile.fail/10) || s.world.away(s.world.recordAway) {
		return command.ErrUnavailable
	}
	return nil
}

func (s *shelf) Create(ctx context.Context, c command.Command, ttl time.Duration, key command.Idempotency, first int,
	born command.BornFunc) (command.Created, error) {
	if s.world.draw.IntN(3) == 0 {
		first = s.world.draw.IntN(4)
	}
	made, err := s.Ledger.Create(ctx, c, ttl, key, first, born)
	if e := s.fails(); err == nil && e != nil {
		return command.Created{}, e // it is not known what was committed
	}
	return made, err
}

func (s *shelf) Expand(ctx context.Context, limit int, born command.BornFunc) (command.Created, bool, error) {
	if err := s.fails(); err != nil {
		return command.Created{}, false, err
	}
	if !s.world.calm {
		limit = 1 + s.world.draw.IntN(3)
	}
	return s.Ledger.Expand(ctx, limit, born)
}

func (s *shelf) End(ctx context.Context, f command.Fence, ids []command.ID, as command.State, reason string, after meterread.DeviceID,
	_ int) (c command.Committed, last meterread.DeviceID, more bool, err error) {
	if err := s.fails(); err != nil {
		return command.Committed{}, "", false, err
	}
	return s.Ledger.End(ctx, f, ids, as, reason, after, 2)
}
