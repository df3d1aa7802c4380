package command

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"time"

	"meterline/fault"
)

// backoff is how long an operation whose lease is over waits until it is sent again: by the number of its attempts, give or
// take a fifth. It spreads what became due together by what the operation is, so that the same history always goes the same way.
func backoff(o *Operation, after []time.Duration) time.Duration {
	d := after[min(max(o.Attempts, 1), len(after))-1]
	h := fnv.New32a()
	_, _ = h.Write([]byte(strconv.FormatInt(o.Seq, 10) + "/" + string(o.DeviceID) + "/" + strconv.Itoa(o.Attempts)))
	return d + time.Duration((float64(h.Sum32())/(1<<32)*0.4-0.2)*float64(d))
}

// sweep is the only way back: leases that are over, gateways that are gone, and a look at what no notice told of. Deadlines
// are swept at the end of a round: see expire.
func (w *Worker) sweep(ctx context.Context) (busy bool, err error) {
	if dueNow(&w.next.sweep, sweepEvery) {
		if err := w.sweepLeases(ctx); err != nil {
			return false, err
		}
	}
	if dueNow(&w.next.look, lookEvery) {
		if err := w.lookAround(ctx); err != nil {
			return false, err
		}
		if err := w.sweepGateways(ctx); err != nil {
			return false, err
		}
	}
	return false, nil
}

// sweepLeases judges leases by the log: a lease is over only when its partition has been read past that moment, so answers
// that wait in a backlog are never asked for again.
func (w *Worker) sweepLeases(ctx context.Context) error {
	var need Need
	parts := map[int]struct{}{}
	for _, m := range w.messages {
		if !m.lease.Before(w.readPast(m.endpoint.partition)) {
			continue
		}
		for k := range m.keys {
			need.Operations = append(need.Operations, k)
		}
		parts[m.endpoint.partition] = struct{}{}
		if len(need.Operations) >= claimMost {
			break
		}
	}
	if len(need.Operations) == 0 {
		return nil
	}
	fault.Point(fault.SweepLeases)
	keys := map[Key]struct{}{}
	for _, k := range need.Operations {
		keys[k] = struct{}{}
	}
	need.Devices = devicesOf(keys)
	if fault.Bug(fault.BugSweepUnfenced) {
		clear(parts)
	}
	died := 0
	var moved []Arrived
	done, err := w.change(ctx, parts, need, func(tx *Tx) error {
		died, moved = 0, moved[:0]
		for _, k := range need.Operations {
			o := tx.Operations[k]
			if o != nil && !o.State.Open() && fault.Bug(fault.BugEndedRequeued) {
				o.State = Sent
			}
			switch {
			case o == nil || !o.State.InFlight():
			case !tx.Now.Before(o.ExpiresAt): // everybody sees it as expired: the deadline's own sweep writes it
			case o.Attempts >= o.MaxAttempts:
				o.must(o.Die(tx.Now))
				if !fault.Bug(fault.BugNoLetter) {
					tx.DeadLetters = append(tx.DeadLetters, deadOperation(o, tx.Now))
				}
				died++
			default:
				o.must(o.Requeue(tx.Now, tx.Now.Add(backoff(o, w.opt.RetryAfter.Of(o.Kind))), !fault.Bug(fault.BugAttemptForgiven), "no answer"))
				moved = w.follow(tx, o, moved)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sweep leases: %w", err)
	}
	fault.Point(fault.SweepLeasesDone)
	w.opt.Metrics.Died.Add(float64(died))
	w.settle(done.Changes)
	for _, k := range need.Operations { // those that are gone from the record, too
		if e := w.flying[k]; e != nil {
			w.land(e, k)
		}
	}
	w.projector.take(done)
	w.projector.tell(moved)
	return nil
}

// readPast is the moment up to which everything that was appended to the partition has been taken over.
func (w *Worker) readPast(partition int) time.Time {
	if fault.Bug(fault.BugLeaseByClock) {
		return w.opt.Clock.Now()
	}
	return w.horizon[partition]
}

func deadOperation(o *Operation, now time.Time) DeadLetter {
	return DeadLetter{
		Tenant: o.Tenant, Source: LetterOperation, Cause: CodeAttemptsUsedUp, Detail: fmt.Sprintf("%d attempts without an answer", o.Attempts),
		EndpointID: o.EndpointID, DeviceID: o.DeviceID, CommandID: o.CommandID, ReceivedAt: now, CreatedAt: now, Status: LetterOpen, Attempt: 1,
		Key: "operation/" + string(o.CommandID) + "/" + string(o.DeviceID),
	}
}

// reload brings memory in line with operations that others ended.
func (w *Worker) reload(ctx context.Context, list []ID) error {
	if len(list) == 0 {
		return nil
	}
	ended := make(map[ID]struct{}, len(list))
	for _, id := range list {
		ended[id] = struct{}{}
	}
	var need Need
	parts := map[int]struct{}{}
	for k, e := range w.flying {
		if _, is := ended[k.CommandID]; is {
			need.Operations = append(need.Operations, k)
			parts[e.partition] = struct{}{}
		}
	}
	if len(need.Operations) == 0 {
		return nil
	}
	over := map[Key]int64{}
	_, err := w.change(ctx, parts, need, func(tx *Tx) error {
		clear(over)
		for _, k := range need.Operations {
			if o := tx.Operations[k]; o == nil {
				over[k] = math.MaxInt64
			} else if !o.State.InFlight() {
				over[k] = o.Version
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at ended operations: %w", err)
	}
	for k, version := range over {
		if e := w.flying[k]; e != nil {
			w.land(e, k)
		}
		w.knows(k, version)
	}
	return nil
}
