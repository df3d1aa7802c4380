package broker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fault"
	"meterline/fleet"
)

const (
	windowDirect = 16 // messages in flight to a device, and to an IPC
	windowIPC    = 64
	windowBytes  = 256 << 10        // of payload in flight, or one message: less than a connection may have unread
	outboxLimit  = 256              // messages that wait for the window
	outboxBytes  = 1 << 20          // of payload that waits, or four messages of the largest size
	outboxTotal  = 256 << 20        // of payload that waits for all endpoints of the gateway
	ackPatience  = 20 * time.Second // for the endpoint's PUBACK
	sweepEvery   = time.Second
)

// header is what delivery reads of a command message.
type header struct {
	MessageID   string    `json:"message_id"`
	MessageType string    `json:"message_type"`
	CommandID   string    `json:"command_id"`
	Kind        string    `json:"kind"`
	ExpiresAt   time.Time `json:"expires_at"`
	TraceParent string    `json:"traceparent"`
}

func (h header) expired(now time.Time) bool { return !h.ExpiresAt.IsZero() && !h.ExpiresAt.After(now) }

// message is a command on its way to an endpoint.
type message struct {
	header
	topic   string
	payload []byte
}

// outbox is what a session's endpoint is being sent. Packet ids are ours: they never meet those that the endpoint
// publishes under.
type outbox struct {
	lastID   uint16
	inflight map[uint16]flight
	flying   int // bytes of payload in flight
	waiting  []message
	waits    int  // bytes of payload in waiting
	watched  bool // delivery.watch knows of it
}

type flight struct {
	messageID string
	sent      time.Time
	size      int // bytes of payload
}

// open says whether the window, of so many messages, has room for m.
func (o *outbox) open(window int, m message) bool {
	return len(o.inflight) == 0 || len(o.inflight) < window && o.flying+len(m.payload) <= windowBytes
}

// delivery hands commands to endpoints at QoS 1. It never sends twice on one connection; what is not acknowledged when
// the session ends is told as undeliverable.
type delivery struct {
	log      *slog.Logger
	said     *sparing
	metrics  *metrics
	uplinks  *uplinks
	sessions *registry
	fanout   *fanout
	now      func() time.Time

	most    int          // bytes of payload that may wait for an endpoint
	total   int64        // ... and for all
	waiting atomic.Int64 // bytes that do

	mu    sync.Mutex
	watch map[*session]struct{} // sessions with messages in flight
}

func newDelivery(o Options, u *uplinks, r *registry, f *fanout, m *metrics, said *sparing) *delivery {
	return &delivery{
		log: o.Logger, said: said, metrics: m, uplinks: u, sessions: r, fanout: f, now: time.Now,
		most: max(outboxBytes, 4*o.MaxPayload), total: outboxTotal,
		watch: map[*session]struct{}{},
	}
}

// handle takes a message published to an endpoint's command topic. It does not wait: when it returns, the message is on
// its way to the endpoint, or an undeliverable hint is on its way to the log.
func (d *delivery) handle(by identity, endpoint fleet.DeviceID, topic string, payload []byte) {
	m := message{topic: topic, payload: payload}
	if err := json.Unmarshal(payload, &m.header); err != nil {
		d.log.Debug("a command message without a readable header", "endpoint_id", endpoint, "error", err)
	}
	if m.expired(d.now()) {
		d.metrics.deliveries.WithLabelValues("expired").Inc()
		return
	}
	s := d.sessions.current(endpoint)
	if s != nil && !by.mayCommand(s.who.tenant) {
		d.metrics.refusedTopics.WithLabelValues(by.role.String()).Inc()
		return
	}
	if s == nil {
		d.undeliverable(endpoint, 0, m.MessageID)
		return
	}
	if !d.deliver(s, m) {
		d.undeliverable(endpoint, s.epoch.Load(), m.MessageID)
		return
	}
	d.fanout.command(s.who.tenant, topic, payload)
}

func (d *delivery) undeliverable(endpoint fleet.DeviceID, epoch int64, messageID string) {
	d.metrics.deliveries.WithLabelValues("undeliverable").Inc()
	if messageID != "" {
		d.uplinks.hint(endpoint, epoch, command.UplinkUndeliverable, []byte(messageID))
	}
}

// deliver sends m or lets it wait for the window; false when the session cannot take it.
func (d *delivery) deliver(s *session, m message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.outbox
	if s.ended || !s.subscribed {
		return false
	}
	if len(o.waiting) == 0 && o.open(s.commandWindow(), m) {
		d.send(s, m)
		return true
	}
	return d.hold(o, m)
}

// hold lets m wait. What would be too much, for the endpoint or for the gateway, is refused: devices that take nothing
// are not to use up what others need.
func (d *delivery) hold(o *outbox, m message) bool {
	size := len(m.payload)
	if len(o.waiting) >= outboxLimit || o.waits+size > d.most {
		d.metrics.crowded.WithLabelValues("endpoint").Inc()
		return false
	}
	if d.waiting.Add(int64(size)) > d.total {
		d.waiting.Add(-int64(size))
		d.metrics.crowded.WithLabelValues("gateway").Inc()
		return false
	}
	o.waiting = append(o.waiting, m)
	o.waits += size
	d.metrics.waiting.Add(float64(size))
	return true
}

// unhold says that so many bytes do not wait any more.
func (d *delivery) unhold(o *outbox, size int) {
	o.waits -= size
	d.waiting.Add(-int64(size))
	d.metrics.waiting.Sub(float64(size))
}

// commandWindow is how many messages may be in flight to the endpoint.
func (s *session) commandWindow() int {
	window := windowDirect
	if s.who.kind == fleet.IPC {
		window = windowIPC
	}
	return min(window, s.receiveMaximum)
}

// send publishes m; s.mu is held and the window is open.
func (d *delivery) send(s *session, m message) {
	o := &s.outbox
	if o.inflight == nil {
		o.inflight = map[uint16]flight{}
	}
	id := o.nextID()
	err := m.sendBy(s.link, id, d.now())
	if errors.Is(err, packets.ErrPacketTooLarge) {
		// The endpoint said that it takes no packets as large as this: to tell it as undeliverable would have it sent again
		// at once. So the lease runs out, and the attempts do.
		d.metrics.deliveries.WithLabelValues("too_large").Inc()
		d.said.say(slog.LevelWarn, "too_large", "a command is larger than the endpoint's Maximum Packet Size: it cannot be delivered",
			"endpoint_id", s.who.endpoint, "command_id", m.CommandID)
		return
	}
	// With any other error the connection is over, and the end of the session tells what was in flight.
	o.inflight[id] = flight{messageID: m.MessageID, sent: d.now(), size: len(m.payload)}
	o.flying += len(m.payload)
	d.metrics.deliveries.WithLabelValues("sent").Inc()
	if fault.Bug(fault.BugDeliveredEarly) {
		d.uplinks.delivered(s, m.MessageID)
	}
	if !o.watched {
		o.watched = true
		d.mu.Lock()
		d.watch[s] = struct{}{}
		d.mu.Unlock()
	}
}

// nextID is a packet id that is not in flight; 0 is none (MQTT 5, 2.2.1).
func (o *outbox) nextID() uint16 {
	for {
		o.lastID++
		if _, taken := o.inflight[o.lastID]; o.lastID != 0 && !taken {
			return o.lastID
		}
	}
}

// sendBy sends m; a client of MQTT 5 also gets the header as properties.
func (m message) sendBy(l link, id uint16, now time.Time) error {
	if l.version() < 5 {
		return l.publish(m.topic, id, m.payload)
	}
	return l.send(m.packet(id, now))
}

// packet is m for a client of MQTT 5.
func (m message) packet(id uint16, now time.Time) packets.Packet {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1},
		PacketID:    id,
		TopicName:   m.topic,
		Payload:     m.payload,
	}
	for _, p := range []packets.UserProperty{
		{Key: "command_id", Val: m.CommandID},
		{Key: "kind", Val: m.Kind},
		{Key: "message_type", Val: m.MessageType},
		{Key: "traceparent", Val: m.TraceParent},
	} {
		if mirrored(p.Val) {
			pk.Properties.User = append(pk.Properties.User, p)
		}
	}
	if !m.ExpiresAt.IsZero() {
		left := m.ExpiresAt.Sub(now) // 292 years at most
		seconds := left / time.Second
		if left%time.Second > 0 {
			seconds++
		}
		pk.Properties.MessageExpiryInterval = uint32(min(max(seconds, 1), 1<<31))
	}
	return pk
}

// mirrored says whether a text of the header becomes a property. One that is longer than any of ours, or that MQTT does
// not allow (MQTT 5, 1.5.4), would make the whole packet malformed; it is in the payload all the same.
func mirrored(s string) bool {
	const most = 256
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, unicode.IsControl)
}

// acknowledged handles an endpoint's PUBACK. An id that is not in flight is ignored.
func (d *delivery) acknowledged(s *session, id uint16, reason byte) {
	s.mu.Lock()
	f, ok := s.outbox.inflight[id]
	if ok {
		delete(s.outbox.inflight, id)
		s.outbox.flying -= f.size
		d.next(s)
	}
	s.mu.Unlock()
	if !ok {
		return
	}
	d.metrics.deliverySeconds.Observe(d.now().Sub(f.sent).Seconds())
	if reason >= packets.ErrUnspecifiedError.Code {
		// The endpoint refuses the message as a whole (MQTT 5). It counts as an attempt: nothing is told, the lease runs out.
		d.metrics.deliveries.WithLabelValues("rejected").Inc()
		return
	}
	d.metrics.deliveries.WithLabelValues("delivered").Inc()
	if f.messageID != "" {
		d.uplinks.delivered(s, f.messageID)
	}
}

// next sends what waits, as far as the window goes; s.mu is held.
func (d *delivery) next(s *session) {
	o := &s.outbox
	for len(o.waiting) > 0 && o.open(s.commandWindow(), o.waiting[0]) && !s.ended && s.subscribed {
		m := o.waiting[0]
		o.waiting[0] = message{}
		o.waiting = o.waiting[1:]
		d.unhold(o, len(m.payload))
		if m.expired(d.now()) {
			d.metrics.deliveries.WithLabelValues("expired").Inc()
			continue
		}
		d.send(s, m)
	}
	if len(o.waiting) == 0 {
		o.waiting = nil
	}
}

// end takes back what the session has not delivered, in the order it was handed over, and tells it. Called when the
// session is over (ended) or does not want commands any more; then what is in flight may still be acknowledged. It says
// whether the session was subscribed until now.
func (d *delivery) end(s *session, ended bool) (was bool) {
	s.mu.Lock()
	was = s.subscribed && !s.ended
	var undelivered []string
	if !ended {
		s.subscribed = false
	} else { // it goes on being known whether it was subscribed: whoever takes it over resumes that
		s.ended = true
		flights := slices.SortedFunc(maps.Values(s.outbox.inflight), func(a, b flight) int { return a.sent.Compare(b.sent) })
		for _, f := range flights {
			undelivered = append(undelivered, f.messageID)
		}
		s.outbox.inflight, s.outbox.flying = nil, 0
	}
	for _, m := range s.outbox.waiting {
		undelivered = append(undelivered, m.MessageID)
	}
	d.unhold(&s.outbox, s.outbox.waits)
	s.outbox.waiting = nil
	s.mu.Unlock()
	for _, id := range undelivered {
		d.undeliverable(s.who.endpoint, s.epoch.Load(), id)
	}
	return was
}

// run stops endpoints that do not acknowledge, until ctx is done.
func (d *delivery) run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.sweep(d.now())
		case <-ctx.Done():
			return
		}
	}
}

func (d *delivery) sweep(now time.Time) {
	d.mu.Lock()
	watched := slices.Collect(maps.Keys(d.watch))
	d.mu.Unlock()
	for _, s := range watched {
		if d.stalled(s, now) {
			d.metrics.stopped.WithLabelValues("no_puback").Inc()
			d.said.say(slog.LevelInfo, "no_puback", "endpoint disconnected: it does not acknowledge a command", "endpoint_id", s.who.endpoint,
				"waited", ackPatience, "remote_addr", s.remote)
			s.link.stop(packets.ErrKeepAliveTimeout)
		}
	}
}

// stalled says whether a message of s has waited too long for its PUBACK, and forgets s when nothing is in flight.
func (d *delivery) stalled(s *session, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.outbox.inflight) == 0 {
		s.outbox.watched = false
		d.mu.Lock()
		delete(d.watch, s)
		d.mu.Unlock()
		return false
	}
	for _, f := range s.outbox.inflight {
		if now.Sub(f.sent) > ackPatience {
			return true
		}
	}
	return false
}
