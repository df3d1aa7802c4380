package command

import "sync"

// hub wakes those who wait for a command to move.
type hub struct {
	mu      sync.Mutex
	waiting map[ID]map[chan struct{}]struct{}
}

// watch gives a channel that is signalled when something of the command moved, and how to stop watching.
func (h *hub) watch(id ID) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting == nil {
		h.waiting = map[ID]map[chan struct{}]struct{}{}
	}
	if h.waiting[id] == nil {
		h.waiting[id] = map[chan struct{}]struct{}{}
	}
	h.waiting[id][c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.waiting[id], c)
		if len(h.waiting[id]) == 0 {
			delete(h.waiting, id)
		}
	}
}

// wake signals all who watch one of the commands.
func (h *hub) wake(ids []ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		for c := range h.waiting[id] {
			select {
			case c <- struct{}{}:
			default: // signalled already
			}
		}
	}
}
