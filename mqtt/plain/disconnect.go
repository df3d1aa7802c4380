package plain

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// What the hub ends although its clients have not asked for it.

// Disconnect stops the connections of all whose Who matches, and says how many there were. match is called with locks
// held. Their sessions go on as after any lost connection, unless forget is set: then they end, also those of clients
// that are away.
func (h *Hub) Disconnect(match func(who any) bool, reason packets.Code, forget bool) (stopped int) {
	for _, st := range h.registry.all() {
		hit, was := st.stop(reason, func() bool { return !st.dead && match(st.who) })
		if was {
			stopped++
		}
		if hit && forget {
			h.forget(st, was)
		}
	}
	return stopped
}

// stop stops the connection of a session that is meant, and says whether it is and whether it had one.
func (st *state) stop(reason packets.Code, meant func() bool) (hit, stopped bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !meant() {
		return false, false
	}
	if st.conn == nil {
		return true, false
	}
	st.conn.stop(reason)
	return true, true
}

// forget ends a session. Its connection, which has been stopped, has none from then on. was says whether there was one: by now
// it may have gone by itself.
func (h *Hub) forget(st *state, was bool) {
	stripe := h.stripe(st.key)
	stripe.Lock()
	st.mu.Lock()
	c, dead := st.conn, st.dead
	st.mu.Unlock()
	var will *lastWords
	if !dead {
		if c != nil {
			h.detach(c)
		}
		if !was {
			h.metrics.ended.forgotten.Inc()
		}
		will = st.takeWill(time.Time{})
		h.discard(st)
	}
	stripe.Unlock()
	h.publishWill(will)
}

// DisconnectWatchers stops the connections of all who have a subscription that Options.Watch picked, and says how many
// there were: for when something from inside could not be given to them.
func (h *Hub) DisconnectWatchers(reason packets.Code) (stopped int) {
	for _, st := range h.registry.all() {
		if _, was := st.stop(reason, st.watches); was {
			stopped++
		}
	}
	return stopped
}

// watches asks for st.mu.
func (st *state) watches() bool {
	for _, sub := range st.subs {
		if sub.watched {
			return true
		}
	}
	return false
}

// evict ends the sessions that are away for longest when there are too many of them.
func (h *Hub) evict() {
	for st := h.registry.surplus(h.o.Offline); st != nil; st = h.registry.surplus(h.o.Offline) {
		stripe := h.stripe(st.key)
		stripe.Lock()
		var will *lastWords
		if st.isAway() {
			will = st.takeWill(time.Time{})
			h.discard(st)
			h.metrics.ended.evicted.Inc()
		}
		stripe.Unlock()
		h.publishWill(will)
	}
}
