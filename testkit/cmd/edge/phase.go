//go:build linux

package main

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// rounds are the round trips of one phase: uplinks (until their PUBACK) have odd keys, commands (until the PUBACK of their
// answer) even ones.
type rounds struct {
	uplinks, commands *recorder

	late []time.Duration // by how much uplinks left later than they were due; of the goroutine that sends them
}

func (r *rounds) of(key uint64) *recorder {
	if key%2 == 1 {
		return r.uplinks
	}
	return r.commands
}

// figures of both kinds.
type measured struct {
	Uplinks  figures `json:"uplinks"`
	Commands figures `json:"commands"`
	// Late is how much later than it was due an uplink left the client. It is part of its time, and the fault of whatever
	// else the machine is doing.
	Late figures `json:"late"`
}

// cells for a table: p50, p99 and max of both, and how many never came to an end.
func (m measured) cells() []string {
	return append(append(m.Uplinks.cells(), m.Commands.cells()...), unfinished(m), ms(m.Late.P99))
}

var measuredHead = []string{"uplink p50, ms", "p99", "max", "command p50, ms", "p99", "max", "unfinished", "client late p99, ms"}

// load is what well-behaved devices do.
type load struct {
	devices []*device
	each    time.Duration // an uplink of every device
	pings   int           // commands a second, to all in turn
}

// finishWithin is how long round trips may take that are under way when a phase ends.
const finishWithin = 5 * time.Second

// phase measures what load takes while beside goes on, which ends with its context.
func (f *fleet) phase(ctx context.Context, p *publisher, l load, lasts time.Duration, beside ...func(context.Context)) (measured, error) {
	now := &rounds{uplinks: newRecorder(), commands: newRecorder()}
	f.round.Store(now)
	during, stop := context.WithTimeout(ctx, lasts)
	defer stop()
	extra, stopExtra := context.WithCancel(ctx)
	var all, others sync.WaitGroup
	all.Go(func() {
		every(during, l.each, len(l.devices), func(i int, due time.Time) {
			now.late = append(now.late, time.Since(due))
			l.devices[i].uplink(due)
		})
	})
	pinged := 0
	all.Go(func() {
		every(during, time.Second, l.pings, func(_ int, due time.Time) {
			p.ping(l.devices[pinged%len(l.devices)], due)
			pinged++
		})
	})
	for _, b := range beside {
		others.Go(func() { b(extra) })
	}
	all.Wait()
	now.finish(ctx)
	f.round.Store(nil)
	m := measured{Uplinks: now.uplinks.close(), Commands: now.commands.close(), Late: figuresOf(now.late, 0)}
	stopExtra()
	others.Wait()
	return m, ctx.Err()
}

// finish waits until nothing is under way, for a while.
func (r *rounds) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, finishWithin)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for r.uplinks.pending()+r.commands.pending() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// every calls f count times in each period, evenly, with the time that each call was due, until ctx is done. When it was
// held up it catches up.
func every(ctx context.Context, period time.Duration, count int, f func(i int, due time.Time)) {
	if count == 0 {
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, step := time.Now(), period/time.Duration(count)
	for n := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for due := began.Add(time.Duration(n) * step); !due.After(time.Now()); due = began.Add(time.Duration(n) * step) {
			f(n%count, due)
			n++
		}
	}
}

func unfinished(m measured) string {
	return strconv.Itoa(m.Uplinks.Unfinished + m.Commands.Unfinished)
}
