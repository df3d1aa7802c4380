package plain

import (
	"container/list"
	"sync"
)

// registry finds sessions by key, and knows which are without connection for longest.
type registry struct {
	mu sync.Mutex
	// guarded by mu
	states map[string]*state
	away   list.List // of *state, the longest first
}

func (r *registry) find(key string) *state {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[key]
}

// here notes that a session has a connection.
func (r *registry) here(st *state) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states[st.key] = st
	r.leaveList(st)
}

// gone notes that a session has none.
func (r *registry) gone(st *state) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if st.away == nil && r.states[st.key] == st {
		st.away = r.away.PushBack(st)
	}
}

func (r *registry) remove(st *state) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaveList(st)
	if r.states[st.key] == st {
		delete(r.states, st.key)
	}
}

func (r *registry) leaveList(st *state) {
	if st.away != nil {
		r.away.Remove(st.away)
		st.away = nil
	}
}

// surplus is the session that is away for longest, if more than most are.
func (r *registry) surplus(most int) *state {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away.Len() <= most {
		return nil
	}
	return r.away.Front().Value.(*state)
}

func (r *registry) all() []*state {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*state, 0, len(r.states))
	for _, st := range r.states {
		all = append(all, st)
	}
	return all
}

func (r *registry) count() (sessions, away int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.states), r.away.Len()
}
