package plain

import (
	"container/list"
	"math"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// state is the session of a key: what outlives connections [4.1].
type state struct {
	h   *Hub
	key string

	away *list.Element // in the hub's list of those without connection; guarded by the registry's lock
	due  *appointment  // in the timetable; guarded by its lock

	mu sync.Mutex
	// guarded by mu
	conn        *Session // nil: away
	dead        bool     // the session has ended
	who         any
	expiry      time.Duration // after the connection; forever: never
	until       time.Time     // and not longer than that; zero: it does not matter
	ends        time.Time     // when it is away: when the session ends; zero: never
	will        *Will         // when it is away: delayed until willAt
	willAt      time.Time
	subs        map[string]*subscription // by filter
	shares      []*subscription          // those of them that are shared
	filterBytes int
	out         outbox
	queue       queue
	in          idset // QoS 2 publishes that came and are not released
}

// forever is how long a session lives whose expiry interval is 0xFFFFFFFF [3.1.2.11.2].
const forever = time.Duration(math.MaxInt64)

func seconds(interval uint32) time.Duration {
	if interval == math.MaxUint32 {
		return forever
	}
	return time.Duration(interval) * time.Second
}

// open says whether packets can be sent. It asks for st.mu.
func (st *state) open() bool { return st.conn != nil && st.conn.started && !st.conn.stopped }

// give delivers d now, or later. It is for one session: what it cannot have is lost, and counted.
func (st *state) give(d delivery) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.dead || !st.mayReceive(d.m) {
		return
	}
	m := &st.h.metrics
	switch {
	case st.open() && st.direct(&d):
		st.send(d)
	case !st.open() && d.qos == 0: // not kept for who is away
		m.dropped.away.Inc()
	case st.queue.offer(d, st.open()):
	default:
		m.dropped.queue.Inc()
		if st.open() { // it would not know of the gap
			st.conn.stop(packets.ErrQuotaExceeded)
			m.slow.Inc()
		}
	}
}

// tryGive delivers d only if that can be done at once. It is for messages of groups, which wait in the group.
func (st *state) tryGive(d delivery) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.dead || !st.open() || !st.mayReceive(d.m) || !st.direct(&d) {
		return false
	}
	st.send(d)
	return true
}

// mayHold says whether a message of a group may wait for this member.
func (st *state) mayHold(m *Message, qos byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return !st.dead && (qos > 0 || st.open()) && st.mayReceive(m)
}

func (st *state) mayEver(m *Message) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.mayReceive(m)
}

// mayReceive asks the rules. It asks for st.mu, as all below does.
func (st *state) mayReceive(m *Message) bool {
	return m.About == nil || st.h.o.Rules.MayReceive(st.who, m)
}

// direct says whether d may be sent now, without overtaking what waits. At QoS 0 it overtakes messages that wait for
// acknowledgements of others: order is owed per topic and QoS [MQTT-4.6.0-6].
func (st *state) direct(d *delivery) bool {
	if !st.conn.room() {
		return false
	}
	if d.qos == 0 {
		return st.queue.qos0 == 0
	}
	return st.queue.len() == 0 && st.out.unsent == nil && st.window()
}

// window says whether another message may be in flight [MQTT-3.3.4-9].
func (st *state) window() bool {
	c := st.conn
	return c.inflight < c.most && (c.inflight == 0 || c.inflightBytes < st.h.o.InflightBytes)
}

// send sends d for the first time.
func (st *state) send(d delivery) {
	now := st.h.o.Now()
	if d.m.expired(now) { // [MQTT-3.3.2-5]
		st.h.metrics.expired.Inc()
		return
	}
	if d.qos == 0 {
		st.conn.publish(&d, 0, false, now)
		return
	}
	e := st.out.add(d)
	st.h.inflight.Add(1)
	st.transmit(e, false, now)
}

// transmit sends the PUBLISH of an entry on the connection of now.
func (st *state) transmit(e *entry, again bool, now time.Time) {
	e.sent = true
	st.conn.inflight++
	st.conn.inflightBytes += e.weight
	if !st.conn.publish(&e.delivery, e.id, again, now) {
		st.finish(e) // as if it had been delivered [MQTT-3.1.2-25]
	}
}

// finish ends the flow of an entry.
func (st *state) finish(e *entry) {
	if e.sent && st.conn != nil {
		st.conn.inflight--
		st.conn.inflightBytes -= e.weight
	}
	st.out.remove(e)
	st.h.inflight.Add(-1)
}

// release turns the PUBLISH of an entry into PUBREL: its message can be forgotten [4.3.3].
func (st *state) release(e *entry) {
	if e.sent {
		st.conn.inflightBytes -= e.weight
	} else { // it was answered before we came to sending it again
		st.conn.inflight++
		e.sent = true
	}
	e.weight = 0
	st.out.release(e)
}

// batch is how many messages are sent before others get their turn at a session.
const batch = 64

// flush sends what waits, as far as the client takes it.
func (st *state) flush(c *Session) {
	turn := func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return st.conn == c && st.flushSome()
	}
	for turn() {
		continue
	}
}

// flushSome sends some of what waits and says whether there may be more to send. It asks for st.mu.
func (st *state) flushSome() bool {
	for range batch {
		if !st.open() || !st.conn.room() {
			return false
		}
		switch e := st.out.unsent; {
		case e != nil:
			if !st.window() {
				return false
			}
			if !st.mayReceive(e.m) { // not any more
				st.finish(e)
				continue
			}
			st.out.unsent = e.next
			st.h.metrics.redelivered.Inc()
			st.transmit(e, true, st.h.o.Now())
		case st.queue.len() == 0 || st.queue.peek().qos > 0 && !st.window():
			return false
		default:
			if d := st.queue.pop(); st.mayReceive(d.m) {
				st.send(d)
			}
		}
	}
	return true
}

// surrender takes out of the session, if it is away, the messages of a group that are not acknowledged. Those at QoS 2
// stay: they may go to nobody else once they were sent [MQTT-4.8.2-4] [MQTT-4.8.2-5].
func (st *state) surrender(g *group) (back []delivery) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn != nil {
		return nil
	}
	var next *entry
	for e := st.out.publishes.first; e != nil; e = next {
		if next = e.next; e.group == g && e.qos == 1 {
			back = append(back, e.delivery)
			st.finish(e)
		}
	}
	return back
}

// groups of the session's shared subscriptions.
func (st *state) groups() []*group {
	st.mu.Lock()
	defer st.mu.Unlock()
	all := make([]*group, 0, len(st.shares))
	for _, sub := range st.shares {
		all = append(all, sub.group)
	}
	return all
}

// stuckGroups are those in which messages wait, if the session can take any. It asks for st.mu.
func (st *state) stuckGroups() (stuck []*group) {
	if st.queue.len() > 0 || !st.open() {
		return nil
	}
	for _, sub := range st.shares {
		if sub.group.stuck.Load() > 0 {
			stuck = append(stuck, sub.group)
		}
	}
	return stuck
}
