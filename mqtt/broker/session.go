package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"meterline/command"
	"meterline/mqtt/plain"
)

// session is one admitted connection.
type session struct {
	// fixed after admission
	link   link
	who    identity
	remote string
	since  time.Time

	hello *connect // until it is answered

	// fixed after admission, of endpoints only
	shard          *shard
	window         *semaphore.Weighted // uplinks taken and not yet acknowledged
	receiveMaximum int                 // commands in flight at once
	clean          bool                // asked for a clean start

	// set before CONNACK
	slot    *slot          // of endpoints
	plain   *plain.Session // of service clients and backends
	resumed bool
	epoch   atomic.Int64 // 0: not the endpoint's own session, or not open yet

	expiry  atomic.Int64 // seconds it is kept when the connection is over; its reader sets it
	failed  atomic.Bool  // an uplink could not be appended: what it sent after that must not be either
	excused atomic.Bool  // its connect does not count as flapping

	// guarded by mu
	mu         sync.Mutex
	ended      bool
	subscribed bool // to its commands
	outbox     outbox

	// of its reader alone
	left    bool      // said goodbye
	toldOff time.Time // when a security event was appended last

	// of its shard's committer alone
	acks  []uint16
	units int64

	// guarded by the queue of its shard
	held []string // ids of delivered messages that wait to ride with the next uplink
}

// own says whether this is the session that commands are sent to and presence is about.
func (s *session) own() bool { return s.who.role == roleEndpoint && !s.who.suffixed }

// isSubscribed says whether commands can reach the session.
func (s *session) isSubscribed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subscribed
}

// presence is what other processes see of the session.
func (s *session) presence(g command.Gateway) command.Session {
	return command.Session{
		Endpoint:    s.who.endpoint,
		Gateway:     g.ID,
		Incarnation: g.Incarnation,
		Epoch:       s.epoch.Load(),
		Since:       s.since,
		RemoteAddr:  s.remote,
	}
}
