package command

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Ahead is what a Log may be able to do besides: read past a backlog.
type Ahead interface {
	// ReadAhead is Log.Read for somebody who has not read everything before: a position of another generation than the log's
	// own, or none, counts as the end as it is now. Of the batches only positions and entries count.
	ReadAhead(ctx context.Context, from []LogPosition, limit int) ([]LogBatch, error)
}

// The bounds of reading ahead.
const (
	aheadLimit = 1000 // entries per partition
	aheadAgain = 250 * time.Millisecond
)

// aheadWatch lets what somebody waits for overtake a backlog. Order is kept per device and priority, so the answers to
// real-time operations need not wait for what came before them at other priorities: they are looked for ahead of the
// place up to which the log has been taken over, taken in, and found as answered already when their turn in the log comes.
//
// Only operations that were sent after the place from which is read ahead are looked for: of those every ack and every part
// of the answer is seen, in order.
type aheadWatch struct {
	log    Ahead // nil: the log cannot
	at     map[int]LogPosition
	behind map[int]struct{} // partitions with more than one batch to read
	sought map[Key]int      // real-time operations in flight that can be found ahead, and their partitions
	again  time.Time        // when the end of partitions in which nothing is sought is looked for again
}

func newAheadWatch(l Log) aheadWatch {
	log, _ := l.(Ahead)
	return aheadWatch{log: log, at: map[int]LogPosition{}, behind: map[int]struct{}{}, sought: map[Key]int{}}
}

// read notes how far a partition has been taken over, and whether there is more.
func (a *aheadWatch) read(at LogPosition, more bool) {
	if more {
		a.behind[at.Partition] = struct{}{}
		return
	}
	delete(a.behind, at.Partition)
	a.at[at.Partition] = at
}

// seek notes that an operation was sent.
func (a *aheadWatch) seek(o *Operation, partition int) {
	if _, known := a.at[partition]; known && o.Priority >= RealtimePriority {
		a.sought[o.Key()] = partition
	}
}

// forget drops what is known of a partition.
func (a *aheadWatch) forget(partition int) {
	delete(a.at, partition)
	delete(a.behind, partition)
}

// places are from where to read ahead in the partitions that are behind. Where nothing is sought, or must be taken in yet, it is
// the end, now and then.
func (a *aheadWatch) places(take bool) []LogPosition {
	if a.log == nil || len(a.behind) == 0 {
		return nil
	}
	seeking := map[int]bool{}
	for _, p := range a.sought {
		seeking[p] = true
	}
	look := dueNow(&a.again, aheadAgain)
	var from []LogPosition
	for p := range a.behind {
		at, known := a.at[p]
		switch {
		case known && seeking[p] && take:
			from = append(from, at)
		case known && seeking[p]:
		case look || !known:
			from = append(from, LogPosition{Partition: p})
		}
	}
	return from
}

// overtake takes in what came for real-time operations in flight, past the backlog of their partitions. Until the log's clock is
// known nobody can say whether an answer came in time; but from where to look for it has to be known before anything is sent.
func (w *Worker) overtake(ctx context.Context) error {
	from := w.ahead.places(w.skewed)
	if len(from) == 0 {
		return nil
	}
	limit, stop := context.WithTimeout(ctx, readWithin)
	defer stop()
	read, err := w.ahead.log.ReadAhead(limit, from, aheadLimit)
	if err != nil {
		return fmt.Errorf("%w: %w", errLogAway, err)
	}
	var found []fact
	for _, b := range read {
		found = append(found, w.sought(b.Entries)...)
	}
	if err := w.record(ctx, found, nil); err != nil {
		if errors.Is(err, ErrLost) || errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		w.opt.Logger.Error("the record refuses answers that were read ahead: they wait for their turn", "error", err)
	}
	for _, b := range read {
		w.ahead.at[b.Partition] = b.LogPosition
	}
	w.opt.Metrics.Overtook.Add(float64(len(found)))
	return nil
}

// sought picks out what is about operations that are sought, and who connected: to be sent something an endpoint must be
// known to be there.
func (w *Worker) sought(entries []Uplink) (found []fact) {
	for _, u := range entries {
		if u.Corrupt {
			continue
		}
		u.AppendedAt = u.AppendedAt.Add(w.skew)
		if u.Kind == UplinkConnected {
			w.connected(u, w.opt.Clock.Now())
			continue
		}
		e := w.endpoints[u.Endpoint]
		if e == nil || (u.Kind != UplinkResult && u.Kind != UplinkAck) || !w.seeks(e) {
			continue
		}
		for _, f := range factsOf(u) {
			if len(f.keys) == 1 && w.isSought(f.keys[0]) {
				found = append(found, f)
			}
		}
	}
	return found
}

func (w *Worker) isSought(k Key) bool { _, is := w.ahead.sought[k]; return is }

// seeks says whether an operation of the endpoint is sought.
func (w *Worker) seeks(e *endpoint) bool {
	for k := range e.flights {
		if w.isSought(k) {
			return true
		}
	}
	return false
}
