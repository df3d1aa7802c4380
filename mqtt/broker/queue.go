package broker

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"meterline/command"
)

const (
	queueWeight   = 32 << 20               // bytes of entries in one queue, their overhead included
	entryOverhead = 4 << 10                // bytes an entry counts beside its payload: 8192 small entries fill a queue
	rideTime      = 100 * time.Millisecond // how long a delivered hint waits for an uplink to ride with
)

// entry is an uplink on its way to the log.
type entry struct {
	uplink command.Uplink
	from   *session // who waits for it; nil: nobody
	id     uint16   // packet id to acknowledge; 0: none
	units  int64    // of the session's window
	taken  time.Time
	weight int64 // of the queue; 0: nothing was reserved

	barrier chan struct{} // not an uplink: closed when everything before it has been dealt with
}

// riders is a session that has held hints, and when they go on their own.
type riders struct {
	session *session
	due     time.Time
}

// queue holds what one committer is going to append, in order. It is bounded by weight: put waits, in order of arrival,
// offer does not.
type queue struct {
	room *semaphore.Weighted
	wake chan struct{} // something was put in; capacity 1

	mu      sync.Mutex
	entries []entry
	riders  []riders // in order of due
	load    int64    // weight reserved
}

func newQueue() *queue {
	return &queue{room: semaphore.NewWeighted(queueWeight), wake: make(chan struct{}, 1)}
}

func weigh(u command.Uplink) int64 { return int64(len(u.Payload)) + entryOverhead }

// put waits for room and adds e. It fails only when ctx is done.
func (q *queue) put(ctx context.Context, e entry) error {
	e.weight = weigh(e.uplink)
	if err := q.room.Acquire(ctx, e.weight); err != nil {
		return err
	}
	q.add(e)
	return nil
}

// offer adds e unless the queue is more than share full (0 to 1).
func (q *queue) offer(e entry, share float64) bool {
	if !q.reserve(&e, share) {
		return false
	}
	q.add(e)
	return true
}

func (q *queue) reserve(e *entry, share float64) bool {
	e.weight = weigh(e.uplink)
	q.mu.Lock()
	full := float64(q.load+e.weight) > share*queueWeight
	q.mu.Unlock()
	return !full && q.room.TryAcquire(e.weight)
}

// add takes e in; held hints of its session go before it.
func (q *queue) add(e entry) {
	q.mu.Lock()
	q.load += e.weight
	if e.from != nil {
		q.release(e.from)
	}
	q.entries = append(q.entries, e)
	q.mu.Unlock()
	q.signal()
}

// hold keeps a delivered hint of s for at most rideTime, so that it is appended together with the next uplink of s, and
// before it. It is false when there is no room.
func (q *queue) hold(s *session, messageID string, share float64, now time.Time) bool {
	e := s.hint(command.UplinkDelivered, []byte(messageID))
	if !q.reserve(&e, share) {
		return false
	}
	q.mu.Lock()
	q.load += e.weight
	if len(s.held) == 0 {
		q.riders = append(q.riders, riders{session: s, due: now.Add(rideTime)})
	}
	s.held = append(s.held, messageID)
	first := len(q.riders) == 1
	q.mu.Unlock()
	if first {
		q.signal() // the committer must set its alarm
	}
	return true
}

// release moves the held hints of s into the queue; q.mu is held.
func (q *queue) release(s *session) {
	for _, id := range s.held {
		e := s.hint(command.UplinkDelivered, []byte(id))
		e.weight = weigh(e.uplink)
		q.entries = append(q.entries, e)
	}
	s.held = s.held[:0]
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits until there is something and returns all of it. The second result is false when ctx is done.
func (q *queue) take(ctx context.Context) ([]entry, bool) {
	for {
		entries, alarm := q.swap(time.Now())
		if len(entries) > 0 {
			return entries, true
		}
		var timer <-chan time.Time
		if !alarm.IsZero() {
			timer = time.After(time.Until(alarm))
		}
		select {
		case <-q.wake:
		case <-timer:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// more returns what has come, without waiting.
func (q *queue) more() []entry {
	entries, _ := q.swap(time.Now())
	return entries
}

// swap takes what is there, and says when the next held hint is due.
func (q *queue) swap(now time.Time) (entries []entry, alarm time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.riders) > 0 && !q.riders[0].due.After(now) {
		q.release(q.riders[0].session)
		q.riders = q.riders[1:]
	}
	if len(q.riders) > 0 {
		alarm = q.riders[0].due
	} else {
		q.riders = nil
	}
	entries, q.entries = q.entries, nil
	return entries, alarm
}

// done gives back the room of entries that have been dealt with.
func (q *queue) done(entries []entry) {
	var weight int64
	for i := range entries {
		weight += entries[i].weight
		entries[i].weight = 0
	}
	q.mu.Lock()
	q.load -= weight
	q.mu.Unlock()
	if weight > 0 {
		q.room.Release(weight)
	}
}

// flush waits until everything that was put in before it, held hints included, has been dealt with.
func (q *queue) flush(ctx context.Context) error {
	b := make(chan struct{})
	q.mu.Lock()
	for _, r := range q.riders {
		q.release(r.session)
	}
	q.riders = nil
	q.entries = append(q.entries, entry{barrier: b})
	q.mu.Unlock()
	q.signal()
	select {
	case <-b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
