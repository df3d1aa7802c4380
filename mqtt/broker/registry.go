package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"meterline/fleet"
)

// registry is the address book of endpoints' sessions on this gateway. mochi's own is never asked: it may hold two
// clients of one id, or none.
type registry struct {
	buckets [rollCallSlices]bucket // by hash of the endpoint, so that a walk holds up few
}

type bucket struct {
	mu    sync.RWMutex
	slots map[fleet.DeviceID]*slot
}

// slot is the place of one endpoint. It exists while the endpoint has sessions here, or a persistent one it may come
// back to.
type slot struct {
	endpoint fleet.DeviceID
	current  atomic.Pointer[session] // the newest own session, nil when it is over
	foreign  atomic.Int64            // largest epoch that another gateway is known to hold

	order sync.Mutex // held while presence is changed: one after the other
	last  resumable  // guarded by order

	// guarded by the bucket's lock
	sessions map[*session]struct{} // all that are open, suffixed ones included
}

// resumable is what is kept of a persistent session that is over.
type resumable struct {
	subscribed bool
	until      time.Time
}

func newRegistry() *registry {
	r := &registry{}
	for i := range r.buckets {
		r.buckets[i].slots = map[fleet.DeviceID]*slot{}
	}
	return r
}

func (r *registry) bucket(endpoint fleet.DeviceID) *bucket {
	return &r.buckets[fleet.Partition(endpoint, len(r.buckets))]
}

// enter gives s its slot.
func (r *registry) enter(s *session) {
	b := r.bucket(s.who.endpoint)
	b.mu.Lock()
	defer b.mu.Unlock()
	place := b.slots[s.who.endpoint]
	if place == nil {
		place = &slot{endpoint: s.who.endpoint, sessions: map[*session]struct{}{}}
		b.slots[s.who.endpoint] = place
	}
	place.sessions[s] = struct{}{}
	s.slot = place
}

// leave takes s out. The slot stays while the endpoint may resume.
func (r *registry) leave(s *session, resumable bool) {
	b := r.bucket(s.who.endpoint)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(s.slot.sessions, s)
	if len(s.slot.sessions) == 0 && !resumable {
		delete(b.slots, s.who.endpoint)
	}
}

// current is the newest own session of the endpoint, or nil.
func (r *registry) current(endpoint fleet.DeviceID) *session {
	if place := r.slot(endpoint); place != nil {
		return place.current.Load()
	}
	return nil
}

func (r *registry) slot(endpoint fleet.DeviceID) *slot {
	b := r.bucket(endpoint)
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.slots[endpoint]
}

// all lists every open session of the endpoint.
func (r *registry) all(endpoint fleet.DeviceID) []*session {
	b := r.bucket(endpoint)
	b.mu.RLock()
	defer b.mu.RUnlock()
	place := b.slots[endpoint]
	if place == nil {
		return nil
	}
	found := make([]*session, 0, len(place.sessions))
	for s := range place.sessions {
		found = append(found, s)
	}
	return found
}

// slice lists the endpoints' current sessions of one bucket.
func (r *registry) slice(i int) []*session {
	b := &r.buckets[i]
	b.mu.RLock()
	defer b.mu.RUnlock()
	found := make([]*session, 0, len(b.slots))
	for _, place := range b.slots {
		if s := place.current.Load(); s != nil {
			found = append(found, s)
		}
	}
	return found
}

// endpoints lists the endpoints with sessions of any kind in one bucket.
func (r *registry) endpoints(i int) []fleet.DeviceID {
	b := &r.buckets[i]
	b.mu.RLock()
	defer b.mu.RUnlock()
	found := make([]fleet.DeviceID, 0, len(b.slots))
	for id, place := range b.slots {
		if len(place.sessions) > 0 {
			found = append(found, id)
		}
	}
	return found
}

// prune forgets persistent sessions of one bucket that nobody came back to in time.
func (r *registry) prune(i int, now time.Time) {
	b := &r.buckets[i]
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, place := range b.slots {
		if len(place.sessions) > 0 || !place.order.TryLock() {
			continue
		}
		if !place.last.until.After(now) {
			delete(b.slots, id)
		}
		place.order.Unlock()
	}
}
