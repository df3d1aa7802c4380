package plain

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A subscription of a session. Its options are guarded by the trie's lock, or by the group's if it is shared.
type subscription struct {
	// fixed
	st      *state
	filter  string // as the client wrote it
	inner   string // without $share/name/
	group   *group // nil: not shared
	watched bool   // counts for Interested

	options
	index int // in its node, or its group
}

// options of a subscription [3.8.3.1].
type options struct {
	qos               byte
	noLocal           bool
	retainAsPublished bool
	id                int // Subscription Identifier; 0: none
}

// trie finds subscriptions by topic. Its depth is bounded by Options.Levels.
type trie struct {
	branches atomic.Int64 // nodes below the root

	mu   sync.RWMutex
	root node
}

type node struct {
	children map[string]*node // + and # too
	subs     []*subscription
	groups   []*group
}

func (n *node) empty() bool { return len(n.children) == 0 && len(n.subs) == 0 && len(n.groups) == 0 }

// find returns the node of a filter, made if need be.
func (t *trie) find(filter string) *node {
	n := &t.root
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		child := n.children[level]
		if child == nil {
			if n.children == nil {
				n.children = map[string]*node{}
			}
			child = &node{}
			n.children[strings.Clone(level)] = child
			t.branches.Add(1)
		}
		n = child
	}
	return n
}

// change calls f with the node of a filter and cuts what is empty after it.
func (t *trie) change(filter string, f func(n *node)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(t.find(filter))
	t.branches.Add(-t.root.prune(filter))
}

// prune says how many nodes it has cut.
func (n *node) prune(rest string) (cut int64) {
	level, rest, more := strings.Cut(rest, "/")
	child := n.children[level]
	if child == nil {
		return 0
	}
	if more {
		cut = child.prune(rest)
	}
	if child.empty() {
		cut++
		delete(n.children, level)
		if len(n.children) == 0 {
			n.children = nil // maps do not shrink
		}
	}
	return cut
}

// add puts a subscription in; with the options it has then.
func (t *trie) add(sub *subscription) {
	t.change(sub.inner, func(n *node) {
		sub.index = len(n.subs)
		n.subs = append(n.subs, sub)
	})
}

// alter gives a subscription other options.
func (t *trie) alter(sub *subscription, o options) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sub.options = o
}

func (t *trie) remove(sub *subscription) {
	t.change(sub.inner, func(n *node) {
		n.subs = swapOut(n.subs, sub)
	})
}

// swapOut takes a subscription out of a list it has its index in.
func swapOut(list []*subscription, sub *subscription) []*subscription {
	last := len(list) - 1
	list[sub.index] = list[last]
	list[sub.index].index = sub.index
	list[last] = nil
	return list[:last]
}

// group returns the living group of a shared subscription.
func (t *trie) group(h *Hub, name, inner string) (g *group) {
	t.change(inner, func(n *node) {
		for _, g = range n.groups {
			if g.name == name && !g.dead.Load() {
				return
			}
		}
		g = &group{h: h, name: name, inner: inner, waiting: queue{h: h}}
		n.groups = append(n.groups, g)
	})
	return g
}

func (t *trie) removeGroup(g *group) {
	t.change(g.inner, func(n *node) {
		n.groups = slices.DeleteFunc(n.groups, func(other *group) bool { return other == g })
	})
}

// target is a session that a message is for, by one subscription or several.
type target struct {
	st                *state
	qos               byte
	retainAsPublished bool
	ids               []int
}

// matches are the subscriptions of a topic. A session that has several overlapping ones gets one copy, at the highest QoS
// of them [MQTT-3.3.4-2] and with all their identifiers [MQTT-3.3.4-3] [MQTT-3.3.4-4].
type matches struct {
	origin  string // key of the session that published; "": none
	targets []target
	groups  []*group
	index   map[*state]int // of targets; nil until a second node matches
}

var matchesPool = sync.Pool{New: func() any { return &matches{} }}

// match must be followed by release.
func (t *trie) match(topic, origin string) *matches {
	m := matchesPool.Get().(*matches)
	m.origin = origin
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.root.match(m, topic, true, topic[0] == '$')
	return m
}

func (m *matches) release() {
	clear(m.targets)
	clear(m.groups)
	*m = matches{targets: m.targets[:0], groups: m.groups[:0]}
	if cap(m.targets) < 1<<16 {
		matchesPool.Put(m)
	}
}

// match goes down by the rest of a topic; more is false when there is none left. A wildcard on the first level does not
// match a topic that begins with $ [MQTT-4.7.2-1].
func (n *node) match(m *matches, rest string, more, reserved bool) {
	if !reserved {
		if all := n.children["#"]; all != nil { // the level above it as well [4.7.1.2]
			m.add(all)
		}
	}
	if !more {
		m.add(n)
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	if child := n.children[level]; child != nil {
		child.match(m, rest, more, false)
	}
	if child := n.children["+"]; child != nil && !reserved {
		child.match(m, rest, more, false)
	}
}

func (m *matches) add(n *node) {
	m.groups = append(m.groups, n.groups...)
	if len(n.subs) == 0 {
		return
	}
	if len(m.targets) > 0 && m.index == nil {
		m.index = make(map[*state]int, len(m.targets))
		for i := range m.targets {
			m.index[m.targets[i].st] = i
		}
	}
	for _, sub := range n.subs {
		if !sub.noLocal || sub.st.key != m.origin { // [MQTT-3.8.3-3]
			m.merge(sub)
		}
	}
}

func (m *matches) merge(sub *subscription) {
	i, known := m.index[sub.st]
	if !known {
		i = len(m.targets)
		m.targets = append(m.targets, target{st: sub.st})
		if m.index != nil {
			m.index[sub.st] = i
		}
	}
	t := &m.targets[i]
	t.qos = max(t.qos, sub.qos)
	t.retainAsPublished = t.retainAsPublished || sub.retainAsPublished
	if sub.id > 0 {
		t.ids = append(t.ids, sub.id)
	}
}
