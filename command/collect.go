package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"meterline/fault"
)

// The bounds of one batch: what is taken over in one transaction.
const (
	readLimit  = 256       // entries per partition
	shortBatch = 64        // entries of a partition that is not behind
	batchBytes = 512 << 10 // of their payloads
	readWithin = 2 * time.Second
)

// errLogAway says that the uplink log could not be read. Nothing that is known has become doubtful by it.
var errLogAway = errors.New("the uplink log cannot be read")

// collect takes the next entries of the uplink log over into the record: readings, operations and the log's position in
// one transaction; then it tells the log. busy says that there may be more.
func (w *Worker) collect(ctx context.Context) (busy bool, err error) {
	spare := w.opt.Readers.there() && !w.pressed()
	if spare && w.ahead.log != nil && w.breath.left() > 0 {
		w.ahead.rest(w.held()) // only answers to real-time work are looked for meanwhile
		return false, nil
	}
	if !w.signal.due(&w.signal.took, w.opt.Log.Arrived()) && len(w.ahead.sought) == 0 { // an answer may be there before its signal
		return false, nil
	}
	w.signal.unheeded = false
	batches, err := w.readLog(ctx)
	if err != nil {
		w.signal.took.again()
		return false, err
	}
	b := batch{most: w.taking.most(spare), horizons: map[int]time.Time{}}
	inOrder(batches)
	for _, read := range batches {
		if len(read.Entries) == 0 && read.Generation == w.cursors[read.Partition].Generation {
			w.horizon[read.Partition] = read.Horizon
			w.ahead.read(read.LogPosition, false)
			continue
		}
		more := w.full[read.Partition]
		if rest := b.add(read, w.ahead.done); len(rest.Entries) > 0 {
			w.unread[read.Partition], more = rest, true
		} else {
			delete(w.unread, read.Partition)
		}
		busy = busy || more
		b.more = append(b.more, seen{read.LogPosition, more})
	}
	if busy {
		w.signal.took.again()
	}
	if len(b.positions) == 0 {
		return busy, nil
	}
	fault.Point(fault.CollectRead)
	bulk := w.bulk(b.facts)
	err = w.liveFirst(ctx, &b, bulk)
	if err == nil {
		began := time.Now()
		err = w.takeIn(ctx, &b)
		took := time.Since(began)
		w.taking.took(len(b.facts), took)
		if bulk > 0 {
			w.breath.took(took)
		}
		w.alone()
	}
	if err != nil {
		clear(w.unread) // read again from where the record is
		w.signal.took.again()
		return false, err
	}
	for _, s := range b.more {
		w.ahead.read(s.at, s.more)
	}
	maps.Copy(w.horizon, b.horizons)
	return busy, nil
}

// pressed says that the log is to be taken over whoever reads in real time.
func (w *Worker) pressed() bool {
	log, can := w.opt.Log.(Pressing)
	return can && log.Presses()
}

// readLog reads what comes next in each partition: what was read before and did not fit, else from the log. All times are
// the record's.
func (w *Worker) readLog(ctx context.Context) ([]LogBatch, error) {
	var batches []LogBatch
	var from []LogPosition
	for _, p := range w.held() {
		c, known := w.cursors[p]
		if !known {
			continue
		}
		if rest, ok := w.unread[p]; ok {
			batches = append(batches, rest)
		} else {
			from = append(from, c)
		}
	}
	if len(from) == 0 {
		return batches, nil
	}
	limit, stop := context.WithTimeout(ctx, readWithin)
	defer stop()
	before := w.opt.Clock.Now()
	read, err := w.opt.Log.Read(limit, from, w.large.read)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLogAway, err)
	}
	if w.tooCoarse(before) {
		w.signal.took.again()
		return batches, nil
	}
	for i := range read {
		w.full[read[i].Partition] = len(read[i].Entries) >= w.large.read
		w.translate(&read[i], before)
	}
	return append(batches, read...), nil
}

// tooCoarse says whether a first look at the log's clock took so long that it tells nothing: answers would be taken to have come
// seconds before or after their deadlines. A log that is always slow is taken as it is.
func (w *Worker) tooCoarse(before time.Time) bool {
	if w.skewed || w.opt.Clock.Now().Sub(before) < slowTrip || w.coarse >= coarseMost {
		return false
	}
	w.coarse++
	return true
}

// coarseMost is how many looks at the log's clock may be thrown away.
const coarseMost = 3

// translate puts a batch's times into the record's clock. The log's clock was read after before and no later than now: the
// horizon is put as early as that allows, so that no lease is judged over too soon. When entries were appended is put by the
// last sample that was quick enough to tell.
func (w *Worker) translate(read *LogBatch, before time.Time) {
	earliest := before.Sub(read.Now)
	if trip := w.opt.Clock.Now().Sub(before); trip < slowTrip || !w.skewed {
		w.skew, w.skewed = earliest+trip/2, true
	}
	read.Horizon = read.Horizon.Add(min(earliest, w.skew))
	for i := range read.Entries {
		read.Entries[i].AppendedAt = read.Entries[i].AppendedAt.Add(w.skew)
	}
}

// batch is what one transaction takes over.
type batch struct {
	most      int // facts
	facts     []fact
	positions []LogPosition
	horizons  map[int]time.Time
	bytes     int
	more      []seen // of each partition
}

// seen is how far a partition has been seen, and whether there is more.
type seen struct {
	at   LogPosition
	more bool
}

// inOrder puts short batches first: what has just come must not wait for partitions with a backlog, which take turns.
func inOrder(batches []LogBatch) {
	slices.SortStableFunc(batches, func(a, b LogBatch) int {
		if short := min(len(a.Entries), shortBatch) - min(len(b.Entries), shortBatch); short != 0 {
			return short
		}
		return a.Horizon.Compare(b.Horizon)
	})
}

func (b *batch) full() bool { return len(b.facts) >= b.most || b.bytes >= batchBytes }

// add takes in what still fits, at least one entry when it is the first, and gives the rest back. What was done ahead is passed over.
func (b *batch) add(read LogBatch, done func(generation string, u Uplink) bool) (rest LogBatch) {
	for i, u := range read.Entries {
		if b.full() {
			rest = read
			rest.Entries = read.Entries[i:]
			if i == 0 {
				return rest
			}
			read.Position = read.Entries[i-1].Position
			for _, unread := range rest.Entries { // a log of two is not in order of time
				if unread.AppendedAt.Before(read.Horizon) {
					read.Horizon = unread.AppendedAt
				}
			}
			break
		}
		if done(read.Generation, u) {
			continue
		}
		b.facts = append(b.facts, factsOf(u)...)
		b.bytes += len(u.Payload)
	}
	b.positions = append(b.positions, read.LogPosition)
	b.horizons[read.Partition] = read.Horizon
	return rest
}

// takeIn commits a batch. When the record refuses it, and not because it is away or the partition lost, one of its facts
// must be to blame: halving finds it, and it is buried as a dead letter so that the others go on.
func (w *Worker) takeIn(ctx context.Context, b *batch) error {
	err := w.record(ctx, b.facts, b.positions)
	if err == nil || !toBlame(ctx, err) {
		return err
	}
	w.opt.Logger.Error("the record refuses a batch of uplinks: looking for the one to blame", "error", err, "entries", len(b.facts))
	if err := w.halve(ctx, b.facts, err); err != nil {
		return err
	}
	return w.record(ctx, nil, b.positions)
}

func (w *Worker) halve(ctx context.Context, facts []fact, why error) error {
	if len(facts) == 0 {
		return nil
	}
	if len(facts) == 1 {
		return w.record(ctx, []fact{facts[0].buried(CauseRefused, why.Error())}, nil)
	}
	for _, half := range [][]fact{facts[:len(facts)/2], facts[len(facts)/2:]} {
		err := w.record(ctx, half, nil)
		if err != nil && !toBlame(ctx, err) {
			return err
		}
		if err != nil {
			if err := w.halve(ctx, half, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// record commits facts and positions in one transaction, and then brings memory, the live state and the log up to date.
func (w *Worker) record(ctx context.Context, facts []fact, positions []LogPosition) error {
	if len(positions) == 0 && len(facts) == 0 {
		return nil
	}
	need, parts := w.needOf(facts), map[int]struct{}{}
	for _, p := range positions {
		parts[p.Partition] = struct{}{}
	}
	for _, f := range facts {
		parts[f.Partition] = struct{}{}
	}
	if fault.Bug(fault.BugPositionAlone) {
		if _, err := w.change(ctx, parts, Need{}, func(tx *Tx) error { tx.Positions = positions; return nil }); err != nil {
			return err
		}
	}
	need.Replays = replaysOf(facts)
	done, left, err := w.judgeAll(ctx, parts, need, facts, positions)
	if err != nil {
		return fmt.Errorf("take uplinks over: %w", err)
	}
	fault.Point(fault.CollectCommitted)
	for _, p := range positions {
		w.cursors[p.Partition] = p
	}
	w.hear(facts, done.Now)
	w.settle(done.Changes)
	w.opt.Metrics.collected(facts, done)
	w.opt.Metrics.buried(left.letters)
	if len(positions) > 0 {
		fault.Point(fault.CollectTrimming)
		w.opt.Log.Stored(ctx, positions)
	}
	w.projector.take(done)
	w.projector.tell(left.moved)
	return nil
}

// judgeAll commits what follows from the facts. It judges again, after a rollback, when that shows that more has to be known
// of senders (rare: dead letters are), or that a fact panics, which is then buried alone.
func (w *Worker) judgeAll(ctx context.Context, parts map[int]struct{}, need Need, facts []fact, positions []LogPosition) (Committed, findings, error) {
	var j judge
	var left findings
	named, counted := false, map[DeviceID]struct{}{}
	decide := func(tx *Tx) error {
		left.moved = left.moved[:0]
		j = judge{tx: tx, runTimeout: w.opt.RunTimeout, room: letterRoom{most: w.opt.MaxLetters},
			follow: func(o *Operation) { left.moved = w.follow(tx, o, left.moved) }}
		for i, f := range facts {
			j.take(i, f)
		}
		fault.Point(fault.CollectJudged)
		tx.Positions = positions
		left.letters = buried{kept: map[string]int{}, dropped: j.room.dropped, again: j.room.again, replays: len(tx.Replays)}
		for _, l := range tx.DeadLetters {
			left.letters.kept[l.Cause]++
		}
		for id := range j.room.uncounted {
			if _, asked := counted[id]; !asked {
				return errJudgeAgain
			}
		}
		if len(j.panicked) > 0 || j.nameless && !named {
			return errJudgeAgain
		}
		return nil
	}
	change := w.change
	if len(positions) > 0 && w.bulk(facts) > w.large.facts {
		change = w.changeBeside
	}
	for range judgeMost {
		done, err := change(ctx, parts, need, decide)
		if !errors.Is(err, errJudgeAgain) {
			return done, left, err
		}
		for i, said := range j.panicked {
			w.opt.Logger.Error("an uplink panicked its handler and is put aside", "endpoint_id", facts[i].Endpoint, "kind", facts[i].Kind, "panic", said)
			facts[i] = facts[i].buried(CausePanic, said)
		}
		if !named {
			named = true
			need.Devices = append(need.Devices, senders(facts)...)
		}
		for id := range j.room.uncounted {
			counted[id] = struct{}{}
			need.Letters = append(need.Letters, id)
		}
	}
	return Committed{}, left, fmt.Errorf("%w, after %d times", errJudgeAgain, judgeMost)
}

// judgeMost is how often a batch is judged. Each time more is known and fewer of its facts panic.
const judgeMost = 20

// errJudgeAgain rolls a transaction back that has to be judged again.
var errJudgeAgain = errors.New("to be judged again")

// findings are what a transaction did that the worker has to know: about dead letters, and what follows its device to another
// endpoint.
type findings struct {
	letters buried
	moved   []Arrived
}

// buried is what a transaction did about dead letters: by cause how many it kept and how many it did not, and which of those
// that it handled again were bad again.
type buried struct {
	kept, dropped map[string]int
	again         map[string]bool
	replays       int
}
