package store

import (
	"context"
	"slices"
	"sync"
)

// priority says who goes first where only one can write.
type priority int

const (
	urgent priority = iota // somebody waits for it: a change, a new command
	bulk                   // a chunk of something large
)

// patience is how many urgent ones may pass a chunk that waits, so that it is not held up for ever.
const patience = 16

// gate lets one in at a time, urgent ones first, otherwise in order of arrival. It stands in front of SQLite's writer,
// where a chunk would otherwise queue before those that somebody waits for.
type gate struct {
	mu     sync.Mutex
	taken  bool
	queues [2][]chan struct{} // by priority
	passed int                // urgent ones that went before a waiting chunk
}

// enter waits for its turn; after nil the caller must leave.
func (g *gate) enter(ctx context.Context, p priority) error {
	g.mu.Lock()
	if !g.taken {
		g.taken = true
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	g.queues[p] = append(g.queues[p], turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.queues[p], turn)
	if i >= 0 {
		g.queues[p] = slices.Delete(g.queues[p], i, i+1)
	}
	g.mu.Unlock()
	if i < 0 { // the turn came at the same moment
		g.leave()
	}
	return ctx.Err()
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := urgent
	if len(g.queues[urgent]) == 0 || (len(g.queues[bulk]) > 0 && g.passed >= patience) {
		p = bulk
	}
	if len(g.queues[p]) == 0 {
		g.taken = false
		return
	}
	if p == urgent && len(g.queues[bulk]) > 0 {
		g.passed++
	} else {
		g.passed = 0
	}
	turn := g.queues[p][0]
	g.queues[p] = g.queues[p][1:]
	close(turn)
}
