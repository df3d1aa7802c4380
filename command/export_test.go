package command

import "context"

// What a simulation steps through by hand, where the product has goroutines.

// Round is one turn of Run, but for its waiting.
func (w *Worker) Round(ctx context.Context) (busy bool, err error) {
	if busy, err = w.runOnce(ctx); err != nil {
		w.stumble(err)
	}
	return busy, err
}

// Listen is what Run does beside its turns, until ctx is done.
func (w *Worker) Listen(ctx context.Context) { w.listen(ctx) }

// Carry carries what waits for the live state. With force it does not let it pile up first.
func (w *Worker) Carry(ctx context.Context, force bool) (did bool, err error) {
	for _, p := range []*projector{w.projector.live, w.projector.rest} {
		p.mu.Lock()
		idle := len(p.changes)+len(p.readings)+len(p.arrived)+len(p.stale)+len(p.unread) == 0
		p.mu.Unlock()
		if !idle && (force || p.wait() <= 0) {
			return true, p.runOnce(ctx)
		}
	}
	return false, nil
}

// ExpandOnce makes some operations of a command that is being expanded.
func (e *Expander) ExpandOnce(ctx context.Context) (bool, error) { return e.runOnce(ctx) }

// Small makes the worker take few entries for many, and lets beside say what is done beside their transactions, and when.
func (w *Worker) Small(read, facts int, beside func(hurry func(), change func() (Committed, error)) (Committed, error)) {
	w.large = large{read, facts, beside}
}

// ForgetOvertaken makes the worker meet again what was taken in ahead, as a new owner does.
func (w *Worker) ForgetOvertaken() { clear(w.ahead.taken) }

// Overtaken is how many entries are to be passed over in their turn.
func (w *Worker) Overtaken() (n int) {
	for _, t := range w.ahead.taken {
		n += len(t.entries)
	}
	return n
}

// Holds is what the worker believes: its fence, and what is in flight.
func (w *Worker) Holds() (Fence, map[Key]bool) {
	flying := map[Key]bool{}
	for k := range w.flying {
		flying[k] = true
	}
	return w.fence, flying
}
