package plain

import (
	"context"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A Hub holds the sessions of service clients and gives messages out to them. All methods may be called at any time from
// any goroutine.
type Hub struct{ o Options }

// New returns a hub without sessions. Its metrics are registered with o.Registerer. Options tells what it announces:
// h.Options().
func New(o Options) *Hub { return &Hub{o: o.withDefaults()} }

// Options are those of the hub, defaults filled in: what CONNACK has to announce is ReceiveMaximum and TopicAliasMaximum.
func (h *Hub) Options() Options { return h.o }

// Connect gives a connection its session and says whether there was one already (Session Present). The newest connection
// of a key wins: an older one has been stopped with packets.ErrSessionTakenOver, its will is published, and it can do
// nothing more to the session when Connect returns. Nothing is sent until Start. End must be called for every Session.
func (h *Hub) Connect(link Link, c Connect) (s *Session, present bool) { return &Session{}, false }

// Publish gives out a message from inside: what devices said. It never waits for a client. Retain, Expires and About are
// heeded; topics are not checked.
func (h *Hub) Publish(m Message) {}

// Interested says whether there is a subscription that Options.Watch takes for one to what is published from inside. It
// costs one load.
func (h *Hub) Interested() bool { return false }

// Disconnect stops all connections whose Who matches, and says how many. Their sessions go on as after any lost
// connection, unless forget is set: then they end.
func (h *Hub) Disconnect(match func(who any) bool, reason packets.Code, forget bool) int { return 0 }

// Run ends sessions and publishes delayed wills when their time has come, and forgets expired messages, until ctx is
// done.
func (h *Hub) Run(ctx context.Context) error { <-ctx.Done(); return nil }
