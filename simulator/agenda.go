package simulator

import (
	"container/heap"
	"time"
)

// agenda is what an endpoint has to do later, in order of time; things due at the same time run in the order they were
// put in. One goroutine only.
type agenda struct {
	items agendaHeap
	seq   uint64
}

type appointment struct {
	at  time.Time
	seq uint64
	do  func()
}

func (a *agenda) add(at time.Time, do func()) {
	a.seq++
	heap.Push(&a.items, appointment{at: at, seq: a.seq, do: do})
}

// next says when the first thing is due; false when nothing is.
func (a *agenda) next() (time.Time, bool) {
	if len(a.items) == 0 {
		return time.Time{}, false
	}
	return a.items[0].at, true
}

// run does what is due at now, also what comes to be due by doing it.
func (a *agenda) run(now time.Time) {
	for len(a.items) > 0 && !a.items[0].at.After(now) {
		heap.Pop(&a.items).(appointment).do()
	}
}

type agendaHeap []appointment

func (h agendaHeap) Len() int { return len(h) }
func (h agendaHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h agendaHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *agendaHeap) Push(x any)   { *h = append(*h, x.(appointment)) }
func (h *agendaHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = appointment{} // the closure is not kept alive
	*h = old[:len(old)-1]
	return last
}
