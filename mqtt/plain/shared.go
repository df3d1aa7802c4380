package plain

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A group is the sessions of one shared subscription [4.8.2]. Each message goes to one of them: in turn to those that
// can take it at once, and when there is none it waits here until one can, be it that it acknowledges something, that it
// comes back or that it joins. So nothing is stuck with a member that is slow or away. What a member that went away had
// not acknowledged at QoS 1 moves to another that is connected.
type group struct {
	// fixed
	h     *Hub
	name  string
	inner string

	dead  atomic.Bool  // without members, and not to be joined any more
	stuck atomic.Int64 // messages that wait

	mu sync.Mutex
	// guarded by mu
	members []*subscription
	turn    int
	waiting queue
}

// put gives a message to the group. It is false if nobody in it could ever have it.
func (g *group) put(m *Message) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := delivery{m: m, group: g, qos: m.QoS}
	if g.waiting.len() > 0 {
		g.drain()
	}
	switch {
	case !g.concerns(m):
		return false
	case g.waiting.len() == 0 && g.hand(d):
	case m.QoS == 0 || !g.awaited(m):
		g.h.metrics.dropped.share.Inc()
	case !g.waiting.offer(d, false):
		g.h.metrics.dropped.queue.Inc()
	default:
		// From here on acknowledgements look here. One that came just before has not, so we look once more.
		g.stuck.Store(int64(g.waiting.len()))
		g.drain()
	}
	return true
}

// hand gives d to the next member that can take it now.
func (g *group) hand(d delivery) bool {
	for i := range g.members {
		turn := (g.turn + i) % len(g.members)
		sub := g.members[turn]
		to := d
		to.qos = min(d.m.QoS, sub.qos)
		to.retain = d.m.Retain && sub.retainAsPublished
		if sub.id > 0 {
			to.ids = []int{sub.id}
		}
		if sub.st.tryGive(to) {
			g.turn = turn + 1
			return true
		}
	}
	return false
}

// concerns says whether there is a member that may have a message at all.
func (g *group) concerns(m *Message) bool {
	if m.About == nil {
		return len(g.members) > 0
	}
	return slices.ContainsFunc(g.members, func(sub *subscription) bool { return sub.st.mayEver(m) })
}

// awaited says whether a message may wait for one of the members.
func (g *group) awaited(m *Message) bool {
	return slices.ContainsFunc(g.members, func(sub *subscription) bool { return sub.st.mayHold(m, sub.qos) })
}

// drain hands out what waits, as far as it goes. While something waits, stuck must say so.
func (g *group) drain() {
	now := g.h.o.Now()
	for g.waiting.len() > 0 {
		if d := g.waiting.peek(); !d.m.expired(now) && !g.hand(*d) {
			break
		} else if d.m.expired(now) {
			g.h.metrics.expired.Inc()
		}
		g.waiting.pop()
	}
	g.stuck.Store(int64(g.waiting.len()))
}

// resume hands out what waits, after a member has got room.
func (g *group) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drain()
}

// rebalance moves what members that are away have not acknowledged to those that are there, if there are any.
func (g *group) rebalance() {
	g.mu.Lock()
	defer g.mu.Unlock()
	there := false
	for _, sub := range g.members {
		sub.st.mu.Lock()
		there = there || sub.st.open()
		sub.st.mu.Unlock()
	}
	if !there {
		return
	}
	for _, sub := range g.members {
		g.takeBack(sub.st.surrender(g))
	}
	g.drain()
}

// takeBack puts messages before those that wait; they are older.
func (g *group) takeBack(back []delivery) {
	if len(back) == 0 {
		return
	}
	for i := range back {
		back[i].qos = back[i].m.QoS
		back[i].ids = nil
	}
	g.h.metrics.moved.Add(float64(len(back)))
	g.waiting.pushFront(back)
	g.stuck.Store(int64(g.waiting.len()))
}

// leave takes a member out, and gives what it had not acknowledged to the others.
func (g *group) leave(sub *subscription, back []delivery) {
	g.mu.Lock()
	g.members = swapOut(g.members, sub)
	if len(g.members) == 0 {
		g.dead.Store(true)
		g.h.metrics.dropped.share.Add(float64(g.waiting.len()))
		g.waiting.empty()
		g.stuck.Store(0)
	}
	g.mu.Unlock()
	g.giveBack(back)
	if g.dead.Load() {
		g.h.trie.removeGroup(g)
	}
}

// giveBack hands messages that a session cannot deliver any more to the members that are left.
func (g *group) giveBack(back []delivery) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.members) == 0 {
		g.h.metrics.dropped.share.Add(float64(len(back)))
		return
	}
	g.takeBack(back)
	g.drain()
}
