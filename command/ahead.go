package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	sought map[Key]sought   // real-time operations in flight that can be found ahead
	again  time.Time        // when the end of partitions in which nothing is sought is looked for again
}

// sought is where to find the answer to an operation, and until when.
type sought struct {
	partition int
	expires   time.Time // by the record's clock
}

func newAheadWatch(l Log) aheadWatch {
	log, _ := l.(Ahead)
	return aheadWatch{log: log, at: map[int]LogPosition{}, behind: map[int]struct{}{}, sought: map[Key]sought{}}
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

// rest notes that these partitions are not read on for a while: what is sought is looked for ahead.
func (a *aheadWatch) rest(partitions []int) {
	for _, p := range partitions {
		a.behind[p] = struct{}{}
	}
}

// seek notes that an operation was sent.
func (a *aheadWatch) seek(o *Operation, partition int) {
	if _, known := a.at[partition]; known && o.Priority >= RealtimePriority {
		a.sought[o.Key()] = sought{partition, o.ExpiresAt}
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
	for _, s := range a.sought {
		seeking[s.partition] = true
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

// liveFirst takes the answers to real-time work out of a large batch and takes them in before it. What comes while the batch is
// being committed is looked for behind it.
func (w *Worker) liveFirst(ctx context.Context, b *batch) error {
	if w.ahead.log == nil || len(b.facts) <= w.large.facts {
		return nil
	}
	var live []fact
	rest := make([]fact, 0, len(b.facts))
	for _, f := range b.facts {
		if w.isSought(f) {
			live = append(live, f)
		} else {
			rest = append(rest, f)
		}
	}
	taken, err := w.recordAhead(ctx, live)
	if err != nil {
		return err
	}
	if taken {
		b.facts = rest
	}
	for _, s := range b.more {
		if _, behind := w.ahead.behind[s.at.Partition]; !behind && !s.more {
			w.ahead.at[s.at.Partition], w.ahead.behind[s.at.Partition] = s.at, struct{}{}
		}
	}
	return nil
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
		found = append(found, w.pick(b.Entries)...)
	}
	if _, err := w.recordAhead(ctx, found); err != nil {
		return err
	}
	for _, b := range read {
		w.ahead.at[b.Partition] = b.LogPosition
	}
	return nil
}

// recordAhead takes in answers to real-time work ahead of others. When the record refuses them they have to wait for their turn.
func (w *Worker) recordAhead(ctx context.Context, found []fact) (taken bool, err error) {
	if err := w.record(ctx, found, nil); err != nil {
		if errors.Is(err, ErrLost) || errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return false, err
		}
		w.opt.Logger.Error("the record refuses answers that were read ahead: they wait for their turn", "error", err)
		return false, nil
	}
	w.opt.Metrics.Overtook.Add(float64(len(found)))
	return true, nil
}

// pick gives what is about operations that are sought, and who connected: to be sent something an endpoint must be
// known to be there.
func (w *Worker) pick(entries []Uplink) (found []fact) {
	for _, u := range entries {
		if u.Corrupt {
			continue
		}
		u.AppendedAt = u.AppendedAt.Add(w.skew)
		if u.Kind == UplinkConnected {
			w.connected(u, w.opt.Clock.Now())
			continue
		}
		if !w.seeks(u) {
			continue
		}
		for _, f := range factsOf(u) {
			if w.isSought(f) {
				found = append(found, f)
			}
		}
	}
	return found
}

// isSought says whether the fact is about one operation that is sought, and can be taken in ahead of others: past the deadline it
// cannot, since an earlier attempt may have been answered in time, and that answer may be in the backlog.
func (w *Worker) isSought(f fact) bool {
	if len(f.keys) != 1 || f.Kind != UplinkResult && f.Kind != UplinkAck {
		return false
	}
	s, is := w.ahead.sought[f.keys[0]]
	return is && f.AppendedAt.Before(s.expires)
}

// canWait says whether something among the facts is not about what is sought, nor only a hint.
func (w *Worker) canWait(facts []fact) bool {
	return slices.ContainsFunc(facts, func(f fact) bool {
		switch f.Kind {
		case UplinkResult, UplinkAck, UplinkReadings, UplinkEvent:
			return !w.isSought(f)
		}
		return false
	})
}

// seeks says whether the entry may be about an operation that is sought. It does not decode it.
func (w *Worker) seeks(u Uplink) bool {
	e := w.endpoints[u.Endpoint]
	if e == nil || u.Kind != UplinkResult && u.Kind != UplinkAck {
		return false
	}
	for k := range e.flights {
		if _, is := w.ahead.sought[k]; is {
			return true
		}
	}
	return false
}
