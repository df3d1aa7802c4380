package state

import (
	"container/list"
	"context"
	"sync"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// memoryLimit is how many operations Memory holds; the commands written longest ago make room.
const memoryLimit = 200_000

// Memory is the live state within one process. Nothing in it blocks, and it fails never.
type Memory struct {
	now func() time.Time

	mu       sync.Mutex
	commands map[command.ID]*list.Element // of *cached
	order    *list.List                   // written longest ago first
	held     int                          // operations in all of them
	latest   map[meterread.DeviceID]*latest
	sessions map[meterread.DeviceID]command.Session
	gateways map[string]beating

	notices broadcast[command.Notice]
	opened  broadcast[command.Session]
}

// NewMemory keeps live state for as long as the process runs.
func NewMemory() *Memory {
	return &Memory{
		now:      time.Now,
		commands: map[command.ID]*list.Element{}, order: list.New(), latest: map[meterread.DeviceID]*latest{},
		sessions: map[meterread.DeviceID]command.Session{}, gateways: map[string]beating{},
	}
}

var (
	_ command.Live     = (*Memory)(nil)
	_ command.Newest   = (*Memory)(nil)
	_ command.Notices  = (*Memory)(nil)
	_ command.Presence = (*Memory)(nil)
)

// Notify tells everybody who listens now.
func (m *Memory) Notify(_ context.Context, n command.Notice) error {
	m.notices.send(n)
	return nil
}

// Listen calls f for every notice until ctx is done. A listener that falls far behind misses some.
func (m *Memory) Listen(ctx context.Context, f func(command.Notice)) error {
	m.notices.listen(ctx, f)
	return nil
}

// broadcast hands what is sent to all who listen.
type broadcast[T any] struct {
	mu        sync.Mutex
	listeners map[chan T]struct{}
}

// backlog is how far a listener may fall behind before it misses something.
const backlog = 1024

func (b *broadcast[T]) send(t T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.listeners {
		select {
		case c <- t:
		default: // lossy by promise
		}
	}
}

func (b *broadcast[T]) listen(ctx context.Context, f func(T)) {
	c := make(chan T, backlog)
	b.mu.Lock()
	if b.listeners == nil {
		b.listeners = map[chan T]struct{}{}
	}
	b.listeners[c] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, c)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-c:
			f(t)
		}
	}
}
