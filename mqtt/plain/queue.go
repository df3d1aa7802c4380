package plain

import "time"

// A delivery is a message on its way to one session, or to one of a group.
type delivery struct {
	m      *Message
	ids    []int // Subscription Identifiers
	group  *group
	qos    byte // the lesser of the message's and the subscription's
	retain bool
}

// queue holds deliveries in order. Whoever has it guards it.
type queue struct {
	h      *Hub // whose totals it counts in
	items  []delivery
	head   int
	bytes  int
	qos0   int       // how many are at QoS 0
	purged time.Time // when expired ones were looked for last
}

func (q *queue) len() int { return len(q.items) - q.head }

// offer puts d in within the limits. When they are reached what is expired goes first; then d itself is refused, so that
// what was kept before stays without gaps. A client that is connected may always have as much in its queue as in flight,
// so that those who are away cannot use up what it needs.
func (q *queue) offer(d delivery, connected bool) bool {
	if !q.fits(&d, connected) {
		if now := q.h.o.Now(); now.Sub(q.purged) >= time.Second { // not for every message that a full queue refuses
			q.purged = now
			q.dropExpired(now)
		}
		if !q.fits(&d, connected) {
			return false
		}
	}
	q.items = append(q.items, d)
	q.count(&d, 1)
	return true
}

func (q *queue) fits(d *delivery, connected bool) bool {
	weight := d.m.weight()
	if q.len() >= q.h.o.Queue || q.bytes+weight > q.h.o.QueueBytes {
		return false
	}
	return connected && q.bytes+weight <= q.h.o.InflightBytes ||
		q.h.queuedBytes.Load()+int64(weight) <= int64(q.h.o.TotalBytes)
}

// pushFront puts back what was taken out; for that there is always room.
func (q *queue) pushFront(back []delivery) {
	q.items = append(back, q.items[q.head:]...)
	q.head = 0
	for i := range back {
		q.count(&back[i], 1)
	}
}

func (q *queue) peek() *delivery { return &q.items[q.head] }

func (q *queue) pop() delivery {
	d := q.items[q.head]
	q.items[q.head] = delivery{}
	q.count(&d, -1)
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = nil, 0 // a queue is empty most of its life: it costs nothing then
	case q.head >= 1024 && q.head > len(q.items)/2:
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return d
}

func (q *queue) count(d *delivery, sign int) {
	weight := sign * d.m.weight()
	q.bytes += weight
	q.h.queuedBytes.Add(int64(weight))
	q.h.queued.Add(int64(sign))
	if d.qos == 0 {
		q.qos0 += sign
	}
}

// drop takes out what f says, and says how many that were.
func (q *queue) drop(f func(d *delivery) bool) (dropped int) {
	kept := q.items[:0]
	for i := q.head; i < len(q.items); i++ {
		d := q.items[i]
		if f(&d) {
			q.count(&d, -1)
			dropped++
			continue
		}
		kept = append(kept, d)
	}
	clear(q.items[len(kept):])
	q.items, q.head = kept, 0
	if len(kept) == 0 {
		q.items = nil
	}
	return dropped
}

func (q *queue) dropExpired(now time.Time) {
	q.h.metrics.expired.Add(float64(q.drop(func(d *delivery) bool { return d.m.expired(now) })))
}

// empty drops everything.
func (q *queue) empty() { q.drop(func(*delivery) bool { return true }) }
