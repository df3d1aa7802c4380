package command

import (
	"context"
	"time"
)

// The rhythm of what is done beside a large transaction.
const (
	besideEvery = 3 * time.Millisecond   // at most so often when something arrived
	besideLeast = 100 * time.Millisecond // and at least so often
)

// changeBeside is change for a large batch of uplinks: while the record is at work, the worker does what somebody waits for.
// decide must look at nothing but its transaction, since it runs in another goroutine. What goes wrong meanwhile is told by
// the next hurry: the batch comes to its end first.
func (w *Worker) changeBeside(ctx context.Context, partitions map[int]struct{}, need Need, decide func(*Tx) error) (Committed, error) {
	if w.ahead.log == nil { // nothing could overtake the batch
		return w.change(ctx, partitions, need, decide)
	}
	w.beside.begin(need)
	if w.large.beside != nil {
		return w.large.beside(func() { w.hurryOnce(ctx) }, func() (Committed, error) { return w.change(ctx, partitions, need, decide) })
	}
	end := make(chan outcome, 1)
	fence := w.fenceOf(partitions)
	go func() {
		var o outcome
		defer func() {
			o.panicked = recover()
			end <- o
		}()
		o.done, o.err = w.opt.Ledger.Change(ctx, fence, need, decide)
	}()
	o := w.hurryUntil(ctx, end)
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.done, inDoubt(o.err)
}

// outcome is how a transaction ended.
type outcome struct {
	done     Committed
	err      error
	panicked any
}

// hurryUntil does what somebody waits for until the transaction has ended.
func (w *Worker) hurryUntil(ctx context.Context, end <-chan outcome) outcome {
	tick := time.NewTicker(besideEvery)
	defer tick.Stop()
	arrived, last := false, time.Now()
	for {
		select {
		case o := <-end:
			return o
		case <-w.opt.Log.Arrived():
			w.signal.heard()
			arrived = true
			continue
		case <-w.mail.signal:
		case <-tick.C:
			if !arrived && time.Since(last) < besideLeast {
				continue
			}
		}
		w.hurryOnce(ctx)
		arrived, last = false, time.Now()
	}
}

// beside is what has to be known while a large transaction is at work, and until memory is in line with it. The zero beside
// says that there is none.
type beside struct {
	newer     map[Key]int64         // versions that operations were moved to, or seen at, beside it
	touched   map[DeviceID]struct{} // devices of its operations: it may have put one in flight again, so nothing is sent to them
	postponed map[DeviceID]struct{} // endpoints to which that happened
}

func (b *beside) begin(need Need) {
	b.newer, b.touched = map[Key]int64{}, make(map[DeviceID]struct{}, len(need.Operations)+len(need.Known))
	if b.postponed == nil {
		b.postponed = map[DeviceID]struct{}{}
	}
	for _, k := range need.Operations {
		b.touched[k.DeviceID] = struct{}{}
	}
	for _, o := range need.Known {
		b.touched[o.DeviceID] = struct{}{}
	}
}

// postpone says whether a device is touched, and then notes its endpoint.
func (b *beside) postpone(d, endpoint DeviceID) bool {
	_, touched := b.touched[d]
	if touched {
		b.postponed[endpoint] = struct{}{}
	}
	return touched
}

// alone ends what was done beside a large transaction: memory is in line with it.
func (w *Worker) alone() {
	for id := range w.beside.postponed {
		w.wake(id)
		w.hasten(id)
	}
	w.beside = beside{}
}

// knows notes a version of an operation that memory is in line with. What a large transaction did that is being settled later may
// be older.
func (w *Worker) knows(k Key, version int64) {
	if w.beside.newer != nil {
		w.beside.newer[k] = max(w.beside.newer[k], version)
	}
}

func (w *Worker) hurryOnce(ctx context.Context) {
	if w.hurried == nil {
		w.hurried = w.hurryNow(ctx)
	}
}

// largeFacts is what others need not wait for: less is committed by itself.
const largeFacts = 64

// large says what is large, and how that is committed beside other work; simulations have it otherwise.
type large struct {
	read   int                                                                     // entries of a partition: it may have more
	facts  int                                                                     // of a batch: others need not wait for more than so many
	beside func(hurry func(), change func() (Committed, error)) (Committed, error) // nil: in another goroutine
}

// hurry does what somebody waits for, and is done between and beside all that is large: it reads the mail, takes in the
// answers to real-time work and sends more of it.
func (w *Worker) hurry(ctx context.Context) (busy bool, err error) {
	if err := w.hurried; err != nil {
		w.hurried = nil
		return false, err
	}
	err = w.hurryNow(ctx)
	return len(w.urgent) > 0, err
}
