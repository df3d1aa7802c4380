package command

import (
	"context"
	"errors"
	"sync"
)

// errPanicked is what others get whose reading panicked.
var errPanicked = errors.New("the reading panicked")

// turns lets those who want the same reading of a command share it. Nobody is given a reading that began before they asked:
// it could show less than they, or whoever sent them, have seen already. So while one is under way, all who come wait
// together for the next.
type turns struct {
	mu     sync.Mutex
	queues map[ID]*queueOfTurns
}

type queueOfTurns struct {
	running chan struct{} // holds one while a reading is under way
	next    *sharedTurn   // that may still be joined
	users   int
}

type sharedTurn struct {
	over chan struct{}
	view View
	err  error
}

// take gives what read gives, or gave to another.
func (t *turns) take(ctx context.Context, id ID, read func() (View, error)) (View, error) {
	t.mu.Lock()
	q := t.queues[id]
	if q == nil {
		if t.queues == nil {
			t.queues = map[ID]*queueOfTurns{}
		}
		q = &queueOfTurns{running: make(chan struct{}, 1)}
		t.queues[id] = q
	}
	q.users++
	turn, first := q.next, q.next == nil
	if first {
		turn = &sharedTurn{over: make(chan struct{})}
		q.next = turn
	}
	t.mu.Unlock()
	if first {
		t.run(q, turn, read)
	}
	defer t.leave(id, q)
	select {
	case <-turn.over:
		return turn.view, turn.err
	case <-ctx.Done():
		return View{}, ctx.Err()
	}
}

func (t *turns) leave(id ID, q *queueOfTurns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(t.queues, id)
	}
}

func (t *turns) run(q *queueOfTurns, turn *sharedTurn, read func() (View, error)) {
	q.running <- struct{}{}
	defer func() { <-q.running }()
	t.mu.Lock()
	q.next = nil
	t.mu.Unlock()
	defer close(turn.over)
	turn.err = errPanicked
	turn.view, turn.err = read()
}
