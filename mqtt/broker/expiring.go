package broker

import "time"

// evictSample is how many entries are looked at to find one that makes room.
const evictSample = 8

// expiring is a map of limited size whose entries end by themselves. When it is full, the one that ends first of a few
// drawn at random makes room: keys that others choose cannot make it grow. It is not safe for concurrent use.
type expiring[K comparable, V any] struct {
	most    int
	entries map[K]lasting[V]
}

type lasting[V any] struct {
	value V
	ends  time.Time
}

func newExpiring[K comparable, V any](most int) *expiring[K, V] {
	return &expiring[K, V]{most: most, entries: map[K]lasting[V]{}}
}

// get is the value of k unless it has ended.
func (e *expiring[K, V]) get(k K, now time.Time) (v V, ok bool) {
	l, ok := e.entries[k]
	if !ok {
		return v, false
	}
	if !l.ends.After(now) {
		delete(e.entries, k)
		return v, false
	}
	return l.value, true
}

func (e *expiring[K, V]) put(k K, v V, ends time.Time) {
	if _, there := e.entries[k]; !there && len(e.entries) >= e.most {
		e.evict()
	}
	e.entries[k] = lasting[V]{v, ends}
}

func (e *expiring[K, V]) drop(k K) { delete(e.entries, k) }

// evict relies on Go beginning each walk over a map somewhere else.
func (e *expiring[K, V]) evict() {
	var first K
	var ends time.Time
	looked := 0
	for k, l := range e.entries {
		if looked == 0 || l.ends.Before(ends) {
			first, ends = k, l.ends
		}
		if looked++; looked == evictSample {
			break
		}
	}
	delete(e.entries, first)
}

// count is how many of the values that have not ended are as f says.
func (e *expiring[K, V]) count(now time.Time, f func(V) bool) (n int) {
	for _, l := range e.entries {
		if l.ends.After(now) && f(l.value) {
			n++
		}
	}
	return n
}
