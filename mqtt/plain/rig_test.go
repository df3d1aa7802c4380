package plain

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// wire is a Link that keeps what it is given.
type wire struct {
	mu      sync.Mutex
	sent    []packets.Packet
	stopped []packets.Code
	refuse  func(packets.Packet) error // nil: nothing
	full    bool                       // has no room
}

func (w *wire) Send(pk packets.Packet) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.stopped) > 0 {
		return errors.New("closed")
	}
	if w.refuse != nil {
		if err := w.refuse(pk); err != nil {
			return err
		}
	}
	pk.Payload = slices.Clone(pk.Payload)
	w.sent = append(w.sent, pk)
	return nil
}

func (w *wire) Stop(reason packets.Code) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = append(w.stopped, reason)
}

func (w *wire) Room() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.full
}

func (w *wire) setFull(full bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full = full
}

// client drives one connection. What it does is done when it returns: the hub has no goroutines of its own.
type client struct {
	t *testing.T
	*wire
	s       *Session
	present bool
	version byte
	id      uint16
}

// rig is a hub with clients.
type rig struct {
	*Hub
	t *testing.T
}

func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	return &rig{Hub: New(o), t: t}
}

func (r *rig) link(w *wire, c Connect) *client {
	r.t.Helper()
	k := &client{t: r.t, wire: w, version: c.Version}
	k.s, k.present = r.Connect(w, c)
	k.s.Start()
	return k
}

// v5 and v4 connect with a clean start; resume5 and resume4 without, and with a session that stays.
func (r *rig) v5(key string) *client {
	r.t.Helper()
	return r.link(&wire{}, Connect{Key: key, Version: 5, Clean: true, Who: key})
}

func (r *rig) v4(key string) *client {
	r.t.Helper()
	return r.link(&wire{}, Connect{Key: key, Version: 4, Clean: true, Who: key})
}

func (r *rig) resume5(key string) *client {
	r.t.Helper()
	return r.link(&wire{}, Connect{Key: key, Version: 5, SessionExpiry: math.MaxUint32, Who: key})
}

func (r *rig) resume4(key string) *client {
	r.t.Helper()
	return r.link(&wire{}, Connect{Key: key, Version: 4, Who: key})
}

// both runs a test with clients of both versions.
func both(t *testing.T, f func(t *testing.T, r *rig, fresh, resume func(key string) *client)) {
	t.Run("3.1.1", func(t *testing.T) {
		r := newRig(t, Options{})
		f(t, r, r.v4, r.resume4)
	})
	t.Run("5", func(t *testing.T) {
		r := newRig(t, Options{})
		f(t, r, r.v5, r.resume5)
	})
}

func (c *client) nextID() uint16 {
	c.id++
	return c.id
}

// do gives the hub a packet that must not end the connection.
func (c *client) do(pk packets.Packet) {
	c.t.Helper()
	pk.ProtocolVersion = c.version
	if err := c.s.Packet(pk); err != nil {
		c.t.Fatalf("%s: %v", packets.PacketNames[pk.FixedHeader.Type], err)
	}
}

// fails gives the hub a packet that must end the connection.
func (c *client) fails(pk packets.Packet, want packets.Code) {
	c.t.Helper()
	pk.ProtocolVersion = c.version
	err := c.s.Packet(pk)
	var got packets.Code
	if !errors.As(err, &got) || got.Code != want.Code {
		c.t.Errorf("%s: %v, want %#x", packets.PacketNames[pk.FixedHeader.Type], err, want.Code)
	}
}

// take returns the next packet the client was sent.
func (c *client) take() (pk packets.Packet, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sent) == 0 {
		return pk, false
	}
	pk, c.sent = c.sent[0], c.sent[1:]
	return pk, true
}

func (c *client) expect(kind byte) packets.Packet {
	c.t.Helper()
	pk, ok := c.take()
	if !ok || pk.FixedHeader.Type != kind {
		c.t.Fatalf("got %s %s, want %s", packets.PacketNames[pk.FixedHeader.Type], describe(pk), packets.PacketNames[kind])
	}
	return pk
}

// pick takes the first packet of a kind out of the others, which may come before it.
func (c *client) pick(kind byte) packets.Packet {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.sent, func(pk packets.Packet) bool { return pk.FixedHeader.Type == kind })
	if i < 0 {
		c.t.Fatalf("no %s", packets.PacketNames[kind])
	}
	pk := c.sent[i]
	c.sent = slices.Delete(c.sent, i, i+1)
	return pk
}

// message expects a PUBLISH and describes it.
func (c *client) message() string {
	c.t.Helper()
	return describe(c.expect(packets.Publish))
}

func describe(pk packets.Packet) string {
	s := fmt.Sprintf("%s=%s q%d", pk.TopicName, pk.Payload, pk.FixedHeader.Qos)
	if pk.FixedHeader.Retain {
		s += " retain"
	}
	if pk.FixedHeader.Dup {
		s += " dup"
	}
	if len(pk.Properties.SubscriptionIdentifier) > 0 {
		slices.Sort(pk.Properties.SubscriptionIdentifier)
		s += fmt.Sprint(" ", pk.Properties.SubscriptionIdentifier)
	}
	return s
}

func (c *client) want(messages ...string) {
	c.t.Helper()
	for _, want := range messages {
		if got := c.message(); got != want {
			c.t.Errorf("got %s, want %s", got, want)
		}
	}
	c.nothing()
}

func (c *client) nothing() {
	c.t.Helper()
	if pk, ok := c.take(); ok {
		c.t.Errorf("unexpected %s %s", packets.PacketNames[pk.FixedHeader.Type], describe(pk))
	}
}

func (c *client) stoppedWith(want packets.Code) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stopped) != 1 || c.stopped[0].Code != want.Code {
		c.t.Errorf("stopped %v, want %#x", c.stopped, want.Code)
	}
}

func (c *client) alive() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stopped) > 0 {
		c.t.Errorf("stopped with %v", c.stopped)
	}
}

// subscribe returns the code of the SUBACK, and leaves what comes after it.
func (c *client) subscribe(filter string, qos byte, with ...func(*packets.Packet)) byte {
	c.t.Helper()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: c.nextID(),
		Filters: packets.Subscriptions{{Filter: filter, Qos: qos}},
	}
	for _, w := range with {
		w(&pk)
	}
	c.do(pk)
	ack := c.pick(packets.Suback)
	if ack.PacketID != pk.PacketID || len(ack.ReasonCodes) != 1 {
		c.t.Fatalf("SUBACK %+v", ack)
	}
	return ack.ReasonCodes[0]
}

func subID(id int) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Properties.SubscriptionIdentifier = []int{id} }
}

func option(f func(*packets.Subscription)) func(*packets.Packet) {
	return func(pk *packets.Packet) { f(&pk.Filters[0]) }
}

func (c *client) unsubscribe(filters ...string) packets.Packet {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: c.nextID()}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f})
	}
	c.do(pk)
	return c.pick(packets.Unsuback)
}

func publish(topic, payload string, qos byte, id uint16) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, PacketID: id,
		TopicName: topic, Payload: []byte(payload),
	}
}

// publish runs the whole flow of a message, and returns the reason code of its first acknowledgement.
func (c *client) publish(topic, payload string, qos byte, with ...func(*packets.Packet)) (code byte) {
	c.t.Helper()
	pk := publish(topic, payload, qos, 0)
	if qos > 0 {
		pk.PacketID = c.nextID()
	}
	for _, w := range with {
		w(&pk)
	}
	c.do(pk)
	switch qos {
	case 1:
		code = c.pick(packets.Puback).ReasonCode
	case 2:
		if code = c.pick(packets.Pubrec).ReasonCode; code < 0x80 {
			c.do(ack(packets.Pubrel, pk.PacketID))
			c.pick(packets.Pubcomp)
		}
	}
	return code
}

func retain(pk *packets.Packet) { pk.FixedHeader.Retain = true }

func expiry(seconds uint32) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Properties.MessageExpiryInterval = seconds }
}

func ack(kind byte, id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, PacketID: id}
}

// disconnect leaves in order; drop without a word.
func (c *client) disconnect(code byte) {
	c.t.Helper()
	c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: code})
	c.s.End(true)
}

func (c *client) drop() { c.s.End(false) }

// empty checks that the hub's books are at zero when all sessions have ended.
func (r *rig) empty() {
	r.t.Helper()
	for name, n := range map[string]int64{
		"inflight": r.Hub.inflight.Load(), "queued": r.queued.Load(), "queued bytes": r.queuedBytes.Load(),
		"subscriptions": r.subscriptions.Load(), "watched": r.watched.Load(), "branches": r.trie.branches.Load(),
		"sessions": int64(len(r.registry.states)), "away": int64(r.registry.away.Len()),
		"appointments": int64(len(r.timetable.appointments)),
	} {
		if n != 0 {
			r.t.Errorf("%d %s left", n, name)
		}
	}
	if !r.trie.root.empty() {
		r.t.Error("subscriptions left in the trie")
	}
}

// count reads a metric.
func count(t *testing.T, metric prometheus.Metric) float64 {
	t.Helper()
	var read dto.Metric
	if err := metric.Write(&read); err != nil {
		t.Fatal(err)
	}
	return read.GetCounter().GetValue()
}
