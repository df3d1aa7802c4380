package plain

import (
	"strings"
	"sync"
	"time"
)

// retained holds the last retained message of each topic [3.3.1.3]. Its depth is bounded by Options.Levels.
type retained struct {
	h *Hub

	mu sync.RWMutex
	// guarded by mu
	root  leaf
	count int
	bytes int
}

// leaf is one level of a topic.
type leaf struct {
	children map[string]*leaf
	m        *Message // nil: none
}

// store keeps a message, or forgets the topic's when it is empty [MQTT-3.3.1-6] [MQTT-3.3.1-7]. It is false when there is
// no room for it; the topic has then what it had.
func (r *retained) store(m *Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(m.Payload) == 0 {
		r.root.remove(m.Topic, r.forget)
		return true
	}
	if levels(m.Topic) > r.h.o.Levels {
		return false
	}
	old := r.root.get(m.Topic)
	count, bytes := r.count+1, r.bytes+m.weight()
	if old != nil {
		count, bytes = count-1, bytes-old.weight()
	}
	if old == nil && count > r.h.o.Retained || bytes > r.h.o.RetainedBytes {
		return false
	}
	r.count, r.bytes = count, bytes
	r.root.put(m.Topic, m)
	return true
}

// drop forgets what a topic has: a newer one was given out that there is no room for, and the old one must not outlive it
// [MQTT-3.3.1-5].
func (r *retained) drop(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.root.remove(topic, r.forget)
}

func (r *retained) forget(m *Message) {
	r.count--
	r.bytes -= m.weight()
}

// match finds the messages for a filter. Those that have expired are left out.
func (r *retained) match(filter string, now time.Time) (found []*Message) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.root.match(filter, true, true, func(m *Message) {
		if !m.expired(now) {
			found = append(found, m)
		}
	})
	return found
}

// sweep forgets what has expired.
func (r *retained) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.root.sweep(now, func(m *Message) {
		r.forget(m)
		r.h.metrics.expired.Inc()
	})
}

func (r *retained) size() (count, bytes int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count, r.bytes
}

func (l *leaf) get(topic string) *Message {
	for rest, more := topic, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if l = l.children[level]; l == nil {
			return nil
		}
	}
	return l.m
}

func (l *leaf) put(topic string, m *Message) {
	for rest, more := topic, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		child := l.children[level]
		if child == nil {
			if l.children == nil {
				l.children = map[string]*leaf{}
			}
			child = &leaf{}
			l.children[strings.Clone(level)] = child
		}
		l = child
	}
	l.m = m
}

func (l *leaf) remove(rest string, gone func(*Message)) {
	level, rest, more := strings.Cut(rest, "/")
	child := l.children[level]
	if child == nil {
		return
	}
	if more {
		child.remove(rest, gone)
	} else if child.m != nil {
		gone(child.m)
		child.m = nil
	}
	l.cut(level, child)
}

func (l *leaf) cut(level string, child *leaf) {
	if child.m == nil && len(child.children) == 0 {
		delete(l.children, level)
		if len(l.children) == 0 {
			l.children = nil // maps do not shrink
		}
	}
}

func (l *leaf) sweep(now time.Time, gone func(*Message)) {
	if l.m != nil && l.m.expired(now) {
		gone(l.m)
		l.m = nil
	}
	for level, child := range l.children {
		child.sweep(now, gone)
		l.cut(level, child)
	}
}

// match goes down by the rest of a filter; first is the first level, where wildcards leave out what begins with $
// [MQTT-4.7.2-1].
func (l *leaf) match(rest string, more, first bool, f func(*Message)) {
	if !more {
		if l.m != nil {
			f(l.m)
		}
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	switch level {
	case "#":
		l.all(first, f)
	case "+":
		for name, child := range l.children {
			if !first || !strings.HasPrefix(name, "$") {
				child.match(rest, more, false, f)
			}
		}
	default:
		if child := l.children[level]; child != nil {
			child.match(rest, more, false, f)
		}
	}
}

// all is what # matches: the level above it too.
func (l *leaf) all(first bool, f func(*Message)) {
	if l.m != nil {
		f(l.m)
	}
	for name, child := range l.children {
		if !first || !strings.HasPrefix(name, "$") {
			child.all(false, f)
		}
	}
}
