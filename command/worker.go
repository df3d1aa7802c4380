package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"meterline/fault"
)

// Worker is the one owner of a set of partitions. It dispatches, collects and sweeps for their endpoints in one goroutine,
// so that window, order, attempts and the merging of writes need no locks. Each of its transactions is fenced: when a
// partition has got another owner nothing of it happens, and the worker forgets that partition.
//
// What it keeps in memory can all be read again from the record (see Ledger.Recover); what waits is never scanned.
type Worker struct {
	opt WorkerOptions

	mail mailbox

	// one goroutine only
	fence     Fence
	granted   []int // what was held last, in the record's eyes
	unsettled bool  // something may be held that was not taken over: it is not known how far behind that is
	cursors   map[int]LogPosition
	horizon   map[int]time.Time // per partition: everything appended before it was read, by the record's clock
	skew      time.Duration     // of the log's clock: what to add for the record's
	skewed    bool
	coarse    int              // looks at the log's clock that took too long to tell
	unread    map[int]LogBatch // what was read and did not fit into the batch
	full      map[int]bool     // partitions of which more may be in the log than was read last
	endpoints map[DeviceID]*endpoint
	ready     map[DeviceID]struct{} // endpoints that may have something to send
	timers    timers                // endpoints that will have something to send
	messages  map[string]*message   // on their way, by message id
	flying    map[Key]*endpoint     // operations in flight, and where
	known     int                   // of those, how many are kept as they are in the record
	commands  commandCache
	gateways  gatewayWatch
	arrivals  arrivalWatch
	due       dueWatch
	ahead     aheadWatch
	large     large
	claiming  pace
	taking    pace // entries of the log
	breath    breath
	signal    logSignal
	hurried   error // of what was done beside a large transaction
	beside    beside
	urgent    map[DeviceID]struct{} // endpoints that may have real-time work to send
	strangers map[DeviceID]struct{} // endpoints whose presence has to be looked up; some may be known by now
	next      schedule

	projector projectors
	counts    atomic.Bool // this worker is the one that counts dead letters for the metrics
}

// WorkerOptions are what a Worker stands on.
type WorkerOptions struct {
	Owner     string // unique among living workers
	Ledger    Ledger
	Log       Log
	Presence  Presence
	Publisher Publisher
	Live      Live
	Notices   Notices
	Clock     *Clock
	Readers   *Readers // nil: those that this worker has work of
	Logger    *slog.Logger
	Metrics   *Metrics

	Lease         time.Duration // of a partition; default 6 s: owners that die are replaced within 10 s
	DeliveryLease time.Duration // for a message to be delivered; default 15 s
	Partition     func(endpoint DeviceID) int

	RunTimeout PerKind[time.Duration]   // of silence after that; default DefaultRunTimeout
	RetryAfter PerKind[[]time.Duration] // before the second attempt, the third ..., the last for all further; default DefaultRetryAfter

	Letters    Letters // nil: none is handled again, and none counted
	MaxLetters int     // open dead letters of one endpoint's uplinks; 0 means DefaultMaxLetters
}

// The rhythm of the worker when nothing wakes it.
const (
	holdEvery      = 2 * time.Second
	sweepEvery     = 100 * time.Millisecond
	dueEvery       = 500 * time.Millisecond
	lookEvery      = time.Second
	readEvery      = 100 * time.Millisecond
	backOff        = 250 * time.Millisecond
	backOffMost    = 2 * time.Second
	gatewaySilence = 5 * time.Second
)

// NewWorker makes a Worker that owns nothing yet.
func NewWorker(opt WorkerOptions) *Worker {
	if opt.Lease == 0 {
		opt.Lease = 6 * time.Second
	}
	if opt.DeliveryLease == 0 {
		opt.DeliveryLease = 15 * time.Second
	}
	if opt.RunTimeout.All == 0 {
		opt.RunTimeout.All = DefaultRunTimeout
	}
	if len(opt.RetryAfter.All) == 0 {
		opt.RetryAfter.All = DefaultRetryAfter
	}
	if opt.Metrics == nil {
		opt.Metrics = NewMetrics(nil)
	}
	if opt.Readers == nil {
		opt.Readers = &Readers{}
	}
	w := &Worker{
		opt: opt, fence: Fence{}, cursors: map[int]LogPosition{}, horizon: map[int]time.Time{}, unread: map[int]LogBatch{}, full: map[int]bool{},
		endpoints: map[DeviceID]*endpoint{}, ready: map[DeviceID]struct{}{}, messages: map[string]*message{}, flying: map[Key]*endpoint{},
		commands: commandCache{}, gateways: gatewayWatch{}, arrivals: newArrivalWatch(), due: newDueWatch(), ahead: newAheadWatch(opt.Log),
		urgent: map[DeviceID]struct{}{}, strangers: map[DeviceID]struct{}{}, large: large{read: readLimit, facts: largeFacts},
		claiming: pace{alone: batchMost}, taking: pace{alone: batchMost},
	}
	w.mail.signal = make(chan struct{}, 1)
	w.projector = newProjectors(opt)
	return w
}

// Run owns and works until ctx is done, then gives its partitions back.
func (w *Worker) Run(ctx context.Context) error {
	beside, stop := context.WithCancel(context.WithoutCancel(ctx)) // the last commit is carried, too
	var side sync.WaitGroup
	side.Go(func() { w.projector.run(beside) })
	side.Go(func() { w.listen(beside) })
	side.Go(func() { w.countLetters(beside) })
	wait := backOff
	for ctx.Err() == nil {
		busy, err := w.runOnce(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			if !w.stumble(err) {
				pause(ctx, wait)
			}
			wait = min(2*wait, backOffMost)
			continue
		case !busy:
			w.rest(ctx)
		}
		wait = backOff
	}
	stop()
	side.Wait()
	w.giveBack()
	return nil
}

// runOnce does one round: what arrived by mail, a batch of the uplink log, leases, one claim, and last, since others wait for
// it, a chunk of what is due. busy says that there is more to do at once.
func (w *Worker) runOnce(ctx context.Context) (busy bool, err error) {
	if err := w.hold(ctx); err != nil {
		return false, err
	}
	if len(w.fence) == 0 {
		w.mail.take()
		return false, nil
	}
	defer w.breath.round()
	// One part that cannot go on, such as the uplink log's being away, must not hold up the others.
	var errs []error
	for _, part := range []func(context.Context) (bool, error){w.hurry, w.collect, w.hurry, w.replay, w.sweep, w.hurry, w.dispatch, w.expire} {
		more, err := part(ctx)
		if errors.Is(err, ErrLost) || errors.Is(err, errDoubt) || ctx.Err() != nil {
			return false, err
		}
		busy = busy || more
		errs = append(errs, err)
	}
	return busy, errors.Join(errs...)
}

func (w *Worker) hurryNow(ctx context.Context) error {
	return errors.Join(w.readMail(ctx), w.overtake(ctx), w.dispatchUrgent(ctx))
}

// errDoubt marks errors after which it is not known what is in the record.
var errDoubt = errors.New("it is not known what was committed")

func inDoubt(err error) error {
	if errors.Is(err, ErrUnavailable) && !fault.Bug(fault.BugDoubtIsNo) {
		return fmt.Errorf("%w: %w", errDoubt, err)
	}
	return err
}

// change is Ledger.Change fenced for the partitions.
func (w *Worker) change(ctx context.Context, partitions map[int]struct{}, need Need, decide func(*Tx) error) (Committed, error) {
	done, err := w.opt.Ledger.Change(ctx, w.fenceOf(partitions), need, decide)
	return done, inDoubt(err)
}

// rest waits until something happens or is due.
func (w *Worker) rest(ctx context.Context) {
	if w.signal.unheeded {
		w.signal.unheeded = false
		return
	}
	most := readEvery
	if left := w.breath.left(); left > 0 {
		most = min(most, left)
	}
	wait := time.NewTimer(min(most, max(0, w.timers.until(w.opt.Clock.Now()))))
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-w.mail.signal:
	case <-w.opt.Log.Arrived():
		w.signal.heard()
	case <-wait.C:
	}
}

// stumble takes in an error of a round. A lost partition is looked at again at once, everything else after a while.
func (w *Worker) stumble(err error) (atOnce bool) {
	w.opt.Metrics.Stumbles.Inc()
	if errors.Is(err, ErrLost) {
		w.opt.Logger.Info("a partition has another owner", "owner", w.opt.Owner)
		w.next.hold = time.Time{}
		return true
	}
	w.opt.Logger.Warn("the worker cannot go on, it will try again", "error", err)
	if errors.Is(err, errDoubt) {
		// What is in memory may not be what is in the record: read it again.
		w.forget(w.held())
		w.unsettled = true
		w.next.hold = time.Time{}
	}
	return false
}

// giveBack lets others take over at once.
func (w *Worker) giveBack() {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	if err := w.opt.Ledger.Release(ctx, w.opt.Owner, w.granted); err != nil {
		w.opt.Logger.Warn("cannot give the partitions back: they are taken over when the lease is over", "error", err)
	}
}

// schedule is when the things that are done from time to time are done next, by this process's clock.
type schedule struct {
	hold, sweep, look, due, replay time.Time
}

// dueNow says whether the moment t has come, and sets it to the next.
func dueNow(t *time.Time, every time.Duration) bool {
	now := time.Now()
	if now.Before(*t) {
		return false
	}
	*t = now.Add(every)
	return true
}
