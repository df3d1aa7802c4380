package door

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
)

// turns bounds how many TLS handshakes compute at once: half the processors, so that a flood of them leaves the other
// half to the clients that are in. Those who wait have their turns address by address, so that a flood delays its own
// address, not a good device. A handshake gives its turn back while it waits for its peer.
type turns struct {
	mu    sync.Mutex
	free  int
	lines map[netip.Prefix]*line
	round []*line // addresses with somebody waiting, whose turn is next first
}

type line struct {
	address netip.Prefix
	waiting []chan struct{}
}

func newTurns() *turns {
	return &turns{free: max(1, runtime.GOMAXPROCS(0)/2), lines: map[netip.Prefix]*line{}}
}

// take waits for a turn. The error is that of ctx; then there is no turn to give back.
func (t *turns) take(ctx context.Context, address netip.Prefix) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	l := t.lines[address]
	if l == nil {
		l = &line{address: address}
		t.lines[address] = l
		t.round = append(t.round, l)
	}
	mine := make(chan struct{}, 1)
	l.waiting = append(l.waiting, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	for i, c := range l.waiting {
		if c == mine {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...) // give skips a line that is empty
			t.mu.Unlock()
			return ctx.Err()
		}
	}
	t.mu.Unlock()
	t.give() // it was our turn after all
	return ctx.Err()
}

// give hands a turn to the next in line.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.round) > 0 {
		l := t.round[0]
		t.round = t.round[1:]
		if len(l.waiting) == 0 {
			delete(t.lines, l.address)
			continue
		}
		next := l.waiting[0]
		l.waiting = l.waiting[1:]
		if len(l.waiting) > 0 {
			t.round = append(t.round, l)
		} else {
			delete(t.lines, l.address)
		}
		next <- struct{}{}
		return
	}
	t.free++
}
