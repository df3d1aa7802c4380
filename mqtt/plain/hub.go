package plain

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A Hub holds the sessions of service clients and gives messages out to them. All methods may be called at any time from
// any goroutine.
type Hub struct {
	// fixed
	o       Options
	metrics metrics
	seed    maphash.Seed

	stripes   [256]sync.Mutex // by key: what connects and ends a session is done one after the other
	registry  registry
	trie      trie
	retained  retained
	timetable timetable

	watched       atomic.Int64 // subscriptions that Options.Watch picked
	subscriptions atomic.Int64
	inflight      atomic.Int64
	queued        atomic.Int64
	queuedBytes   atomic.Int64
}

// New returns a hub without sessions. Its metrics are registered with o.Registerer.
func New(o Options) *Hub {
	h := &Hub{o: o.withDefaults(), seed: maphash.MakeSeed()}
	h.retained.h = h
	h.registry.states = map[string]*state{}
	h.timetable.wake = make(chan struct{}, 1)
	h.metrics = newMetrics(h)
	return h
}

// Options are those of the hub, defaults filled in: ReceiveMaximum and TopicAliasMaximum are for CONNACK to announce.
func (h *Hub) Options() Options { return h.o }

// Interested says whether there is a subscription that Options.Watch takes for one to what is published from inside. It
// costs one load.
func (h *Hub) Interested() bool { return h.watched.Load() > 0 }

// Publish gives out a message from inside: what devices said. It never waits for a client. Retain, Expires and About are
// heeded; a topic that is none is nobody's.
func (h *Hub) Publish(m Message) {
	if !validTopic(m.Topic) {
		return
	}
	m.origin = ""
	if m.Retain && !h.retained.store(&m) {
		h.metrics.refused.retained.Inc()
		h.retained.drop(m.Topic)
	}
	h.route(&m)
}

func (h *Hub) stripe(key string) *sync.Mutex {
	return &h.stripes[maphash.String(h.seed, key)%uint64(len(h.stripes))]
}

// Connect gives a connection its session and says whether there was one already (Session Present). The newest connection
// of a key wins: an older one has been stopped with packets.ErrSessionTakenOver, its will is published, and it can do
// nothing more to the session when Connect returns. Nothing is sent until Start. End must be called for every Session.
func (h *Hub) Connect(link Link, c Connect) (s *Session, present bool) {
	s = newSession(h, link, &c)
	if old, ok := h.holder(c.Key).(Leaver); ok {
		old.Leave()
	}
	present, will := h.occupy(s, &c)
	h.publishWill(will)
	return s, present
}

// holder is the link that has the session of a key, or nil.
func (h *Hub) holder(key string) Link {
	st := h.registry.find(key)
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn == nil || st.conn.stopped {
		return nil
	}
	return st.conn.link
}

// occupy makes s the connection of its session. It returns the will that is due, if there is one.
func (h *Hub) occupy(s *Session, c *Connect) (present bool, will *lastWords) {
	stripe := h.stripe(c.Key)
	stripe.Lock()
	defer stripe.Unlock()
	st, will := h.vacate(c)
	if present = st != nil; !present {
		st = &state{h: h, key: c.Key}
		st.queue.h = h
	}
	s.st = st
	h.attach(s, c)
	return present, will
}

// vacate takes the session of a key from the connection that has it. It returns the session if it may be resumed, and
// ends it otherwise; and the will that is due, if there is one. It asks for the stripe.
func (h *Hub) vacate(c *Connect) (*state, *lastWords) {
	st := h.registry.find(c.Key)
	if st == nil {
		return nil, nil
	}
	if old := st.evictConnection(); old != nil { // [MQTT-3.1.4-3]
		h.metrics.takenOver.Inc()
		h.detach(old)
	}
	now := h.o.Now()
	if c.Clean || st.ended(now) { // [MQTT-3.1.2-4]
		will := st.takeWill(time.Time{}) // the session ends, and the will's delay with it [3.1.3.2.2]
		h.discard(st)
		return nil, will
	}
	return st, st.takeWill(now)
}

// evictConnection stops the connection of a session, if it has one.
func (st *state) evictConnection() *Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn != nil {
		st.conn.stop(packets.ErrSessionTakenOver)
	}
	return st.conn
}

// attach gives the session to a connection. It asks for the stripe.
func (h *Hub) attach(s *Session, c *Connect) {
	st := s.st
	h.registry.here(st)
	h.timetable.clear(st)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.conn, st.who, st.until = s, c.Who, c.Until
	st.ends, st.will = time.Time{}, nil // a delayed will that is not yet due is not sent [MQTT-3.1.3-9]
	switch {
	case c.Version >= 5:
		st.expiry = seconds(c.SessionExpiry)
	case c.Clean: // of 3.1.1 [MQTT-3.1.2-6]
		st.expiry = 0
	default:
		st.expiry = h.o.Session311
	}
}

// end is Session.End. quiet leaves the will out.
func (h *Hub) end(s *Session, quiet bool) {
	st := s.st
	stripe := h.stripe(st.key)
	stripe.Lock()
	if quiet {
		st.mu.Lock()
		s.will = nil
		st.mu.Unlock()
	}
	if !h.detach(s) {
		stripe.Unlock()
		return
	}
	will := h.settle(st)
	stripe.Unlock()
	for _, g := range st.groups() {
		g.rebalance()
	}
	h.publishWill(will)
	h.evict()
}

// detach takes the session from its connection, and is false if that is another by now. It asks for the stripe.
func (h *Hub) detach(s *Session) bool {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn != s {
		return false
	}
	now := h.o.Now()
	st.conn = nil
	st.out.disconnected()
	h.metrics.dropped.away.Add(float64(st.queue.drop(func(d *delivery) bool { return d.qos == 0 })))
	if st.ends = (time.Time{}); st.expiry != forever {
		st.ends = now.Add(st.expiry)
	}
	if !st.until.IsZero() && (st.ends.IsZero() || st.until.Before(st.ends)) {
		st.ends = st.until
	}
	st.will, s.will = s.will, nil
	if st.will != nil {
		st.willAt = now.Add(time.Duration(st.will.Delay) * time.Second)
		if !st.ends.IsZero() && st.ends.Before(st.willAt) { // whichever is first [3.1.3.2.2]
			st.willAt = st.ends
		}
	}
	return true
}

// settle does for a session that is away what is due: its will is returned, or it ends. Otherwise it has an appointment.
// It asks for the stripe.
func (h *Hub) settle(st *state) *lastWords {
	now := h.o.Now()
	will := st.takeWill(now)
	if st.ended(now) { // [MQTT-4.1.0-2]
		h.discard(st)
		return will
	}
	h.timetable.set(st, st.next())
	h.registry.gone(st)
	return will
}

// ended says whether the time of a session without connection is over.
func (st *state) ended(now time.Time) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.conn == nil && !st.ends.IsZero() && !now.Before(st.ends)
}

// next is when something is to be done for a session that is away; zero: never.
func (st *state) next() time.Time {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.will != nil {
		return st.willAt // never after the end
	}
	return st.ends
}

// discard ends a session that has no connection. What it had not acknowledged of shared subscriptions goes to others, but
// for QoS 2 [MQTT-4.8.2-5]. It asks for the stripe.
func (h *Hub) discard(st *state) {
	h.registry.remove(st)
	h.timetable.clear(st)
	st.mu.Lock()
	st.dead = true
	subs := st.subs
	back := map[*group][]delivery{}
	lost := st.queue.len()
	for e := st.out.publishes.first; e != nil; e = e.next {
		if e.group != nil && e.qos == 1 {
			back[e.group] = append(back[e.group], e.delivery)
		} else {
			lost++
		}
	}
	h.metrics.dropped.ended.Add(float64(lost))
	h.inflight.Add(-int64(len(st.out.entries) + st.in.len))
	st.queue.empty()
	st.subs, st.shares, st.out, st.in, st.will = nil, nil, outbox{}, idset{}, nil
	st.mu.Unlock()
	for _, sub := range subs {
		h.booked(sub, -1)
		if sub.group == nil {
			h.trie.remove(sub)
			continue
		}
		sub.group.leave(sub, back[sub.group])
		delete(back, sub.group)
	}
	for g, deliveries := range back { // it had left these groups before
		g.giveBack(deliveries)
	}
}

func (st *state) isAway() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.conn == nil && !st.dead
}

// Run ends sessions and publishes delayed wills when their time has come, and forgets expired messages, until ctx is
// done.
func (h *Hub) Run(ctx context.Context) error {
	sweep := time.NewTicker(time.Minute)
	defer sweep.Stop()
	for {
		next := time.NewTimer(h.runOnce())
		select {
		case <-ctx.Done():
			next.Stop()
			return nil
		case <-sweep.C:
			h.retained.sweep(h.o.Now())
		case <-next.C:
		case <-h.timetable.wake:
		}
		next.Stop()
	}
}

// runOnce does what is due, and says for how long nothing is.
func (h *Hub) runOnce() time.Duration {
	for {
		st, wait := h.timetable.due(h.o.Now())
		if st == nil {
			return wait
		}
		stripe := h.stripe(st.key)
		stripe.Lock()
		var will *lastWords
		if st.isAway() {
			if will = h.settle(st); !st.isAway() {
				h.metrics.ended.expired.Inc()
			}
		}
		stripe.Unlock()
		h.publishWill(will)
	}
}
