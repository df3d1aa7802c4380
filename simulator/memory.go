package simulator

import (
	"time"

	"meterline/meterread"
)

// How long an endpoint remembers an operation: until its deadline and an hour, and at least a day.
const (
	rememberPast  = time.Hour
	rememberLeast = 24 * time.Hour
)

type operationKey struct {
	command meterread.CommandID
	device  meterread.DeviceID
}

// remembered is what an endpoint knows of one operation.
type remembered struct {
	key     operationKey
	until   time.Time
	attempt int     // the highest that asked
	result  *result // nil: in progress
}

// memory is bounded: when it is full the oldest operation that has ended is forgotten. One goroutine only.
type memory struct {
	bound int
	known map[operationKey]*remembered
	order []*remembered // oldest first
	stats *Stats
}

func newMemory(bound int, stats *Stats) *memory {
	return &memory{bound: bound, known: map[operationKey]*remembered{}, stats: stats}
}

// find tells what is known of an operation; nil: nothing.
func (m *memory) find(k operationKey, now time.Time) *remembered {
	r := m.known[k]
	if r != nil && r.result != nil && now.After(r.until) {
		return nil
	}
	return r
}

// begin remembers an operation that was taken up.
func (m *memory) begin(k operationKey, attempt int, expires, now time.Time) *remembered {
	m.makeRoom(now)
	r := &remembered{key: k, until: expires.Add(rememberPast), attempt: attempt}
	if least := now.Add(rememberLeast); r.until.Before(least) {
		r.until = least
	}
	m.known[k] = r
	m.order = append(m.order, r)
	return r
}

// makeRoom forgets what is over at the old end, and one more when the memory is full. Operations in progress are never
// forgotten, so the bound may be passed while there are more of them.
func (m *memory) makeRoom(now time.Time) {
	for range len(m.order) {
		oldest := m.order[0]
		switch {
		case oldest.result == nil && len(m.order) < m.bound:
			return
		case oldest.result == nil:
			m.order = append(m.order[1:], oldest)
			continue
		case now.After(oldest.until):
		case len(m.order) >= m.bound:
			m.stats.forgotten.Add(1)
		default:
			return
		}
		m.order[0] = nil
		m.order = m.order[1:]
		if m.known[oldest.key] == oldest {
			delete(m.known, oldest.key)
		}
	}
}
