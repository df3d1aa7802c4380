package command

import (
	"context"
	"errors"
	"sync"
	"time"
)

// mailbox takes what other goroutines have to tell the worker. It is bounded by what is on its way: publishes in flight
// and the notices of one round.
type mailbox struct {
	signal chan struct{}

	mu sync.Mutex
	in letters
}

type letters struct {
	arrived []Arrived
	ended   []ID
	unsent  []string // ids of messages that the gateway did not take over
	replays bool     // dead letters wait to be handled again
}

// mostNotices bounds what is kept of notices in one round. Beyond it they are dropped: the worker looks for itself.
const mostNotices = 10_000

func (m *mailbox) put(f func(*letters)) {
	m.mu.Lock()
	f(&m.in)
	m.mu.Unlock()
	select {
	case m.signal <- struct{}{}:
	default: // it will look anyway
	}
}

func (m *mailbox) take() letters {
	m.mu.Lock()
	defer m.mu.Unlock()
	in := m.in
	m.in = letters{}
	return in
}

// listen takes notices in until ctx is done.
func (w *Worker) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.opt.Notices.Listen(ctx, func(n Notice) {
			if len(n.Arrived) == 0 && len(n.Ended) == 0 && !n.Replays {
				return
			}
			w.mail.put(func(l *letters) {
				l.replays = l.replays || n.Replays
				if len(l.arrived)+len(l.ended) < mostNotices {
					l.arrived = append(l.arrived, n.Arrived...)
					l.ended = append(l.ended, n.Ended...)
				}
			})
		})
		if err != nil && ctx.Err() == nil {
			w.opt.Logger.Warn("cannot listen to notices, looking once a second instead", "error", err)
			pause(ctx, time.Second)
		}
	}
}

// pause waits for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// readMail acts on what others told since the last round.
func (w *Worker) readMail(ctx context.Context) error {
	in := w.mail.take()
	if in.replays {
		w.replaySoon()
	}
	for _, a := range in.arrived {
		w.arrivals.heard(a)
		if len(a.Endpoints) == 0 {
			w.arrivals.unseen[a.CommandID] = "" // look them up
		}
		for _, e := range a.Endpoints {
			if a.Urgent {
				w.hasten(e)
			} else {
				w.wake(e)
			}
		}
	}
	if err := errors.Join(w.takeBack(ctx, in.unsent), w.reload(ctx, in.ended)); err != nil {
		w.mail.put(func(l *letters) { // not lost: what is done already changes nothing
			l.unsent, l.ended = append(l.unsent, in.unsent...), append(l.ended, in.ended...)
		})
		return err
	}
	return nil
}
