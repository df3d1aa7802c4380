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
	sought map[Key]sought   // real-time operations in flight that can be found ahead
	taken  map[int]overtaken
	again  time.Time // when the end of partitions in which nothing is sought is looked for again
}

// overtaken are entries of a partition that were taken in ahead as a whole: when their turn comes there is nothing left to do.
type overtaken struct {
	generation string
	entries    map[Position]struct{}
}

// mostOvertaken bounds what is remembered of a partition: what is taken in again changes nothing.
const mostOvertaken = 10_000

// sought is where to find the answer to an operation, and until when.
type sought struct {
	partition int
	expires   time.Time // by the record's clock
}

func newAheadWatch(l Log) aheadWatch {
	log, _ := l.(Ahead)
	return aheadWatch{log: log, at: map[int]LogPosition{}, behind: map[int]struct{}{}, sought: map[Key]sought{}, taken: map[int]overtaken{}}
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
	delete(a.taken, partition)
}

// took notes entries that were taken in ahead.
func (a *aheadWatch) took(at LogPosition, entries []Position) {
	if len(entries) == 0 {
		return
	}
	t := a.taken[at.Partition]
	if t.generation != at.Generation {
		t = overtaken{at.Generation, map[Position]struct{}{}}
		a.taken[at.Partition] = t
	}
	for _, e := range entries[:min(len(entries), mostOvertaken-len(t.entries))] {
		t.entries[e] = struct{}{}
	}
}

// done says whether an entry whose turn has come was taken in ahead, and forgets it.
func (a *aheadWatch) done(generation string, u Uplink) bool {
	t := a.taken[u.Partition]
	_, is := t.entries[u.entry()]
	if !is || t.generation != generation {
		return false
	}
	delete(t.entries, u.entry())
	return true
}

// places are from where to read ahead in the partitions that are behind. Where nothing is sought, or must be taken in yet, it is
// the end, now and then.
func (a *aheadWatch) places(take bool) []LogPosition {
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

// liveFirst takes the answers to real-time work out of a batch with much that can wait (bulk of its facts), and takes them in before
// it. What comes while the batch is being committed is looked for behind it.
func (w *Worker) liveFirst(ctx context.Context, b *batch, bulk int) error {
	if w.ahead.log == nil || bulk <= w.large.facts {
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
	if w.ahead.log == nil || len(w.ahead.behind) == 0 || !w.signal.due(&w.signal.overtook, w.opt.Log.Arrived()) {
		return nil
	}
	from := w.ahead.places(w.skewed)
	if len(from) == 0 {
		return nil
	}
	limit, stop := context.WithTimeout(ctx, readWithin)
	defer stop()
	read, err := w.ahead.log.ReadAhead(limit, from, aheadLimit)
	if err != nil {
		w.signal.overtook.again()
		return fmt.Errorf("%w: %w", errLogAway, err)
	}
	var found []fact
	whole := make([][]Position, len(read))
	for i, b := range read {
		if len(b.Entries) >= aheadLimit {
			w.signal.overtook.again()
		}
		var some []fact
		some, whole[i] = w.pick(b.Entries)
		found = append(found, some...)
	}
	taken, err := w.recordAhead(ctx, found)
	if err != nil {
		return err
	}
	for i, b := range read {
		w.ahead.at[b.Partition] = b.LogPosition
		if taken {
			w.ahead.took(b.LogPosition, whole[i])
		}
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
// known to be there. whole are the entries of which nothing else is left.
func (w *Worker) pick(entries []Uplink) (found []fact, whole []Position) {
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
		before, facts := len(found), factsOf(u)
		for _, f := range facts {
			if w.isSought(f) {
				found = append(found, f)
			}
		}
		if len(found)-before == len(facts) {
			whole = append(whole, u.entry())
		}
	}
	return found, whole
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

// bulk is how many of the facts can wait: they are not about what is sought, nor only a hint.
func (w *Worker) bulk(facts []fact) (n int) {
	for _, f := range facts {
		switch f.Kind {
		case UplinkResult, UplinkAck, UplinkReadings, UplinkEvent:
			if !w.isSought(f) {
				n++
			}
		}
	}
	return n
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
