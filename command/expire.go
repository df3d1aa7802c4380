package command

import (
	"context"
	"fmt"
	"time"

	"meterline/fault"
)

// dueWatch is the sweep of deadlines: which commands are due, and how far they have been swept for the partitions that are
// owned now. One chunk is ended in a round, so that nothing else waits for a million of them.
type dueWatch struct {
	list  []Command        // to be swept
	after DeviceID         // how far the first of them has been
	done  map[ID]time.Time // swept to the end, and when
	pace  chunkPace
}

func newDueWatch() dueWatch { return dueWatch{done: map[ID]time.Time{}, pace: paceFirst} }

// again forgets: other partitions are owned now.
func (d *dueWatch) again() { d.list, d.after = nil, ""; clear(d.done) }

// The bounds of one look at deadlines.
const (
	dueCommands = 5000
	// Operations may move into a partition after a command was swept there: it is swept again now and then.
	dueAgain = 10 * time.Second
)

// chunkPace is how many operations are ended in one transaction: as many as take no longer than others can wait.
type chunkPace int

const (
	paceFirst, paceLeast, paceMost = 1000, 250, 5000
	// A round of the worker waits for a chunk, and a live read waits for two of them: one until it is sent, and one until its
	// answer is taken over.
	waitBesideLive = 25 * time.Millisecond
	waitAlone      = 100 * time.Millisecond
)

// took learns from a chunk of n operations.
func (p *chunkPace) took(n int, d, wait time.Duration) {
	if d <= 0 || n < int(*p)/2 {
		return // it says nothing about a whole one
	}
	fits := int(float64(n) * float64(wait) / float64(d))
	*p = chunkPace(min(max(fits, int(*p)/2, paceLeast), 2*int(*p), paceMost))
}

// expire writes down what every reader already sees: from its deadline on what is open has expired. It also ends what is
// left of a command whose cancelling was cut short. busy says that there is more.
func (w *Worker) expire(ctx context.Context) (busy bool, err error) {
	if len(w.due.list) == 0 {
		if !dueNow(&w.next.due, dueEvery) {
			return false, nil
		}
		if err := w.lookForDue(ctx); err != nil {
			return false, err
		}
	}
	for began := time.Now(); len(w.due.list) > 0 && time.Since(began) < waitBesideLive; {
		ended, err := w.endDue(ctx)
		if err != nil {
			return false, err
		}
		if ended > 0 {
			break
		}
	}
	return len(w.due.list) > 0, nil
}

func (w *Worker) lookForDue(ctx context.Context) error {
	var except []ID
	for id, at := range w.due.done {
		if time.Since(at) > dueAgain {
			delete(w.due.done, id)
		} else {
			except = append(except, id)
		}
	}
	var err error
	if w.due.list, err = w.opt.Ledger.Due(ctx, except, dueCommands); err != nil {
		return fmt.Errorf("look for deadlines: %w", err)
	}
	return nil
}

// endDue ends a chunk of what is open of the commands at the head of the list. A partition is swept for a deadline only when
// it has been read past it: a result that was appended before it still counts.
func (w *Worker) endDue(ctx context.Context) (ended int, err error) {
	batch, as := w.dueTogether()
	parts := map[int]struct{}{}
	for p := range w.fence {
		if as == Cancelled || w.horizon[p].After(batch[len(batch)-1].ExpiresAt) {
			parts[p] = struct{}{}
		}
	}
	if len(parts) == 0 {
		w.due.list, w.due.after = w.due.list[len(batch):], ""
		return 0, nil
	}
	ids := make([]ID, len(batch))
	for i, c := range batch {
		ids[i] = c.ID
	}
	reason := ""
	if as == Cancelled {
		reason = "cancelled"
	}
	began := time.Now()
	done, after, more, err := w.opt.Ledger.End(ctx, w.fenceOf(parts), ids, as, reason, w.due.after, int(w.due.pace))
	if err != nil {
		return 0, inDoubt(fmt.Errorf("end what is due: %w", err))
	}
	if len(done.Changes) > 0 {
		fault.Point(fault.SweepDeadline)
	}
	for _, c := range done.Changes {
		ended += c.Ended
		if c.Bulk {
			w.opt.Metrics.Ended.WithLabelValues(string(as)).Add(float64(c.Ended))
		}
	}
	w.due.pace.took(ended, time.Since(began), w.patience())
	w.due.after = after
	w.settle(done.Changes)
	w.projector.take(done)
	if !more {
		w.sweptDue(batch, as, len(parts) == len(w.fence), done.Now)
	}
	return ended, nil
}

// patience is how long everything else can wait for a chunk.
func (w *Worker) patience() time.Duration {
	if len(w.flying)+len(w.ready) > 0 {
		return waitBesideLive
	}
	return waitAlone
}

// dueTogether are the commands at the head of the list that end in one transaction: one that is large, or as many small ones
// as fit. They end in the same way, and all of them but a single one were due before every partition was read to.
func (w *Worker) dueTogether() ([]Command, State) {
	read := w.readTo()
	as := w.endOf(w.due.list[0])
	open := w.due.list[0].Counts.Open()
	n := 1
	for ; n < len(w.due.list); n++ {
		c := w.due.list[n]
		open += c.Counts.Open()
		if open > int(w.due.pace) || w.endOf(c) != as || as == Expired && !c.ExpiresAt.Before(read) {
			break
		}
	}
	return w.due.list[:n], as
}

// endOf is how what is open of a command that is due ends.
func (w *Worker) endOf(c Command) State {
	if (!c.CancelledAt.IsZero() || fault.Bug(fault.BugDueByGuess)) && w.opt.Clock.Now().Before(c.ExpiresAt) {
		return Cancelled
	}
	return Expired
}

// readTo is up to when the log has been read in all partitions.
func (w *Worker) readTo() time.Time {
	earliest := w.opt.Clock.Now()
	for p := range w.fence {
		if h := w.horizon[p]; h.Before(earliest) { // zero when it has not been read yet
			earliest = h
		}
	}
	return earliest
}

// sweptDue takes commands off the list that were swept at a moment of the record's clock, and leaves them alone for a while if
// nothing can be left: one that was cancelled is due before its deadline, and what we take for expired need not be so yet.
func (w *Worker) sweptDue(batch []Command, as State, everywhere bool, at time.Time) {
	now := time.Now()
	for _, c := range batch {
		if everywhere && !c.Expanding && (as == Expired && !at.Before(c.ExpiresAt) || as == Cancelled && w.opt.Clock.Now().Add(dueAgain).Before(c.ExpiresAt) || fault.Bug(fault.BugDueByGuess)) {
			w.due.done[c.ID] = now
		}
	}
	w.due.list, w.due.after = w.due.list[len(batch):], ""
}
