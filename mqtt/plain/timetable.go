package plain

import (
	"container/heap"
	"sync"
	"time"
)

// timetable has at most one appointment for each session that is away: when its will is due, or its end.
type timetable struct {
	wake chan struct{} // there is a new first appointment

	mu sync.Mutex
	// guarded by mu
	appointments appointments
}

type appointment struct {
	at    time.Time
	st    *state
	index int
}

// idle is how long Run sleeps when there is nothing to do.
const idle = time.Hour

// set makes an appointment in the place of any other; a zero time is none.
func (t *timetable) set(st *state, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel(st)
	if at.IsZero() {
		return
	}
	st.due = &appointment{at: at, st: st}
	heap.Push(&t.appointments, st.due)
	if st.due.index == 0 {
		select {
		case t.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
}

func (t *timetable) clear(st *state) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel(st)
}

func (t *timetable) cancel(st *state) {
	if st.due != nil {
		heap.Remove(&t.appointments, st.due.index)
		st.due = nil
	}
}

// due takes out the first session whose time has come; if there is none it says how long until then.
func (t *timetable) due(now time.Time) (*state, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.appointments) == 0 {
		return nil, idle
	}
	first := t.appointments[0]
	if wait := first.at.Sub(now); wait > 0 {
		return nil, min(wait, idle)
	}
	t.cancel(first.st)
	return first.st, 0
}

// appointments are a heap by time.
type appointments []*appointment

func (a appointments) Len() int           { return len(a) }
func (a appointments) Less(i, j int) bool { return a[i].at.Before(a[j].at) }

func (a appointments) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

func (a *appointments) Push(x any) {
	last := x.(*appointment)
	last.index = len(*a)
	*a = append(*a, last)
}

func (a *appointments) Pop() any {
	last := (*a)[len(*a)-1]
	(*a)[len(*a)-1] = nil
	*a = (*a)[:len(*a)-1]
	return last
}
