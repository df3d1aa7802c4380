package broker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/semaphore"

	"meterline/fleet"
)

const (
	fanoutQueue  = 8192     // messages
	fanoutWeight = 32 << 20 // bytes
)

// fanout gives appended uplinks, and commands that were handed over, to the service clients that subscribed to them. It
// stands beside the guarantees: nobody ever waits for it. When it cannot keep up, its subscribers are disconnected, so
// that they know of the gap.
type fanout struct {
	log     *slog.Logger
	metrics *metrics
	server  *mochi.Server // set before the first subscriber can be there
	origin  *mochi.Client // a client inside the broker; it publishes past the ACL

	queue   chan news
	room    *semaphore.Weighted
	current atomic.Pointer[news] // being given out; mayReceive looks at it

	interested atomic.Int32 // len(filters)
	mu         sync.Mutex
	filters    map[string]map[string]struct{} // per mochi client id: its filters that may match below meterline/
}

// news is one message to give out.
type news struct {
	topic   string
	payload []byte
	qos     byte
	about   fleet.Tenant
}

func newFanout(o Options, m *metrics) *fanout {
	return &fanout{
		log: o.Logger, metrics: m,
		queue: make(chan news, fanoutQueue), room: semaphore.NewWeighted(fanoutWeight),
		filters: map[string]map[string]struct{}{},
	}
}

func (f *fanout) attach(server *mochi.Server) {
	f.server = server
	f.origin = server.NewClient(nil, mochi.LocalListener, "$uplinks", true)
}

// offer gives out what endpoints published. Without subscribers it costs one load.
func (f *fanout) offer(batch []entry) {
	if f.interested.Load() == 0 {
		return
	}
	for i := range batch {
		e := &batch[i]
		if e.barrier != nil || e.from == nil || e.uplink.Kind.Hint() || e.lost() {
			continue
		}
		n := news{topic: topicOf(e.uplink), payload: e.uplink.Payload, about: e.from.who.tenant}
		if e.id != 0 {
			n.qos = 1
		}
		f.put(n)
	}
}

// command gives out a command that was handed over to an endpoint of the tenant.
func (f *fanout) command(about fleet.Tenant, topic string, payload []byte) {
	if f.interested.Load() != 0 {
		f.put(news{topic: topic, payload: payload, qos: 1, about: about})
	}
}

func (f *fanout) put(n news) {
	weight := int64(len(n.payload)) + 1
	if f.room.TryAcquire(weight) {
		select {
		case f.queue <- n:
			return
		default:
			f.room.Release(weight)
		}
	}
	f.metrics.shed.WithLabelValues("fanout").Inc()
	f.disconnect()
}

// disconnect stops every subscriber: each has missed something.
func (f *fanout) disconnect() {
	f.mu.Lock()
	ids := make([]string, 0, len(f.filters))
	for id := range f.filters {
		ids = append(ids, id)
	}
	f.mu.Unlock()
	for _, id := range ids {
		if client, ok := f.server.Clients.Get(id); ok && !client.Closed() {
			f.metrics.stopped.WithLabelValues("fanout").Inc()
			mochiLink{client}.stop(packets.ErrQuotaExceeded)
		}
	}
}

// run gives out until ctx is done.
func (f *fanout) run(ctx context.Context) {
	for {
		select {
		case n := <-f.queue:
			f.room.Release(int64(len(n.payload)) + 1)
			f.give(&n)
		case <-ctx.Done():
			return
		}
	}
}

func (f *fanout) give(n *news) {
	f.current.Store(n)
	defer f.current.Store(nil)
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: n.qos},
		TopicName:   n.topic,
		Payload:     n.payload,
		PacketID:    uint16(n.qos), // mochi wants one at QoS 1; each subscriber gets its own
	}
	if err := f.server.InjectPacket(f.origin, pk); err != nil {
		f.metrics.shed.WithLabelValues("fanout").Inc()
		f.log.Warn("cannot give out a message", "topic", n.topic, "error", err)
	}
}

// mayReceive says whether the client may be given a message below meterline/. Only run gives such messages out, so only
// for the one it is at is the answer yes.
func (f *fanout) mayReceive(who identity, topic string) bool {
	n := f.current.Load()
	return n != nil && n.topic == topic && who.mayReceive(topic, n.about)
}

// subscribed and unsubscribed keep the books on who may want news.
func (f *fanout) subscribed(client, filter string) {
	if !mayMatchOurs(filter) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.filters[client] == nil {
		f.filters[client] = map[string]struct{}{}
	}
	f.filters[client][filter] = struct{}{}
	f.interested.Store(int32(len(f.filters)))
}

func (f *fanout) unsubscribed(client, filter string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	filters, ok := f.filters[client]
	if !ok {
		return
	}
	delete(filters, filter)
	if len(filters) == 0 {
		delete(f.filters, client)
	}
	f.interested.Store(int32(len(f.filters)))
}
