package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Letters is the dead letters as the worker sees them. The row of a letter that is to be handled again is its place in the
// queue: it waits there for the owner of its sender's partition, who handles it and takes it out in one transaction. So each
// is handled once, whoever dies when.
type Letters interface {
	// Replays lists the dead letters of the partitions that wait to be handled again, oldest first, with their partition:
	// up to limit, at least one, and not more than a batch's bytes.
	Replays(ctx context.Context, partitions []int, limit int) ([]Replay, error)
	// OpenLetters counts the open dead letters of all tenants, by cause.
	OpenLetters(ctx context.Context) (map[string]int, error)
}

// Replay is a dead letter that waits to be handled again by the owner of the partition.
type Replay struct {
	DeadLetter
	Partition int
}

// replayMost is how many dead letters are handled again in one transaction.
const replayMost = 100

// replay handles again what waits for that. busy says that there may be more.
func (w *Worker) replay(ctx context.Context) (busy bool, err error) {
	if w.opt.Letters == nil || !dueNow(&w.next.replay, lookEvery) {
		return false, nil
	}
	waiting, err := w.opt.Letters.Replays(ctx, w.held(), replayMost)
	if err != nil {
		return false, fmt.Errorf("look for dead letters to be handled again: %w", err)
	}
	if len(waiting) == 0 {
		return false, nil
	}
	w.replaySoon()
	return true, w.handleAgain(ctx, waiting)
}

// replaySoon makes the next round look for dead letters to be handled again.
func (w *Worker) replaySoon() { w.next.replay = w.next.replay.Add(-lookEvery) }

// handleAgain takes letters over as if their uplinks came now. When the record refuses them they are tried one by one, and
// the one to blame becomes a dead letter again. All that one letter says goes into one transaction.
func (w *Worker) handleAgain(ctx context.Context, letters []Replay) error {
	var facts []fact
	for _, l := range letters {
		facts = append(facts, l.facts()...)
	}
	err := w.record(ctx, facts, nil)
	if err == nil || !toBlame(ctx, err) {
		return err
	}
	if len(letters) > 1 {
		for i := range letters {
			if err := w.handleAgain(ctx, letters[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	f := fact{Uplink: letters[0].uplink(), again: &letters[0].DeadLetter}
	return w.record(ctx, []fact{f.buried(CauseRefused, err.Error())}, nil)
}

// toBlame says whether an error of the record is about what it was given.
func toBlame(ctx context.Context, err error) bool {
	return ctx.Err() == nil && !errors.Is(err, ErrLost) && !errors.Is(err, ErrUnavailable)
}

// uplink is the uplink of the letter as it was: its sender, its session, and when it was appended. So what has ended since
// makes its results late.
func (r *Replay) uplink() Uplink {
	at := r.ReceivedAt
	if at.IsZero() {
		at = r.CreatedAt
	}
	return Uplink{Partition: r.Partition, Endpoint: r.EndpointID, Epoch: r.Epoch, Gateway: r.Gateway, Kind: r.Kind, Payload: r.Payload,
		Position: Position("dead-letter/" + r.ID), AppendedAt: at}
}

// facts are what the letter says. There is at least one: it must be taken out of the queue.
func (r *Replay) facts() []fact {
	u := r.uplink()
	facts := factsOf(u)
	if len(facts) == 0 { // a message without a result
		facts = []fact{{Uplink: u}}
	}
	for i := range facts {
		facts[i].again = &r.DeadLetter
		facts[i].devices = append(facts[i].devices, u.Endpoint)
	}
	return facts
}

// readmit says whether a letter is to be handled again: nobody has done so yet, and the name of its sender belongs to the
// same tenant still.
func (j *judge) readmit(f fact) bool {
	if _, waits := j.tx.Replays[f.again.ID]; !waits {
		return false
	}
	if d, known := j.tx.Devices[f.Endpoint]; known && d.Tenant != f.again.Tenant {
		j.bury(f.buried(CauseUnknownDevice, "the sender's name is another tenant's now"))
		return false
	}
	return true
}

// replaysOf lists the letters that the facts handle again.
func replaysOf(facts []fact) []string {
	var ids []string
	for _, f := range facts {
		if f.again != nil {
			ids = append(ids, f.again.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
