package broker

import (
	"context"
	"log/slog"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/semaphore"

	"meterline/fleet"
	"meterline/mqtt/plain"
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
	hub     *plain.Hub // set before the first subscriber can be there

	queue chan news
	room  *semaphore.Weighted
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
	}
}

// offer gives out what endpoints published. Without subscribers it costs one load.
func (f *fanout) offer(batch []entry) {
	if !f.hub.Interested() {
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
	if f.hub.Interested() {
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
	f.metrics.stopped.WithLabelValues("fanout").Add(float64(f.hub.DisconnectWatchers(packets.ErrQuotaExceeded)))
}

// run gives out until ctx is done.
func (f *fanout) run(ctx context.Context) {
	for {
		select {
		case n := <-f.queue:
			f.room.Release(int64(len(n.payload)) + 1)
			f.hub.Publish(plain.Message{Topic: n.topic, Payload: n.payload, QoS: n.qos, About: n.about})
		case <-ctx.Done():
			return
		}
	}
}
