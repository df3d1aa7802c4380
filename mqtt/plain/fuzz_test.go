package plain

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// FuzzSession plays clients that connect, take each other's sessions over, subscribe, publish, acknowledge in any order
// and go away, against a model of what they must see:
//   - a packet id is in use once at a time, and no more than Receive Maximum of them;
//   - a message comes to a session once, and again only as a repeat: same id, DUP, another connection, before PUBREC;
//   - what was published at QoS 1 and 2 to a subscription of QoS 1 and 2 comes, if its session lasts;
//   - what was published to a shared subscription is acknowledged by somebody, if it has a member all the time;
//   - Session Present, and what the hub counts, are right.
func FuzzSession(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02\x00\x00\x04\x00\x09\x06\x00\x00"))
	f.Add([]byte("\x00\x00\x05\x02\x00\x14\x05\x01\x02\x01\x00\x00\x05\x01\x01\x00\x00\x05\x06\x00\x00"))
	f.Add([]byte("\x00\x00\x05\x00\x01\x05\x02\x00\x1f\x02\x01\x1f\x05\x10\x01\x05\x10\x01\x01\x00\x00\x06\x01\x00\x05\x10\x01"))
	f.Add([]byte("\x00\x00\x0d\x02\x00\x02\x04\x00\x02\x04\x00\x02\x07\x00\x01\x04\x00\x02\x00\x00\x05\x08\x00\x01\x05\x00\x02\x08\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m := newModel(t)
		for ; len(in) >= 3; in = in[3:] {
			m.step(in[0], in[1], in[2])
			m.look()
		}
		m.finish()
	})
}

const keys = 3

// model is what is known from outside about a hub.
type model struct {
	t     *testing.T
	r     *rig
	next  int // message
	peers [keys]*peer
	// messages of the shared subscription that somebody has to acknowledge
	shared map[string]bool
}

// peer is a client with its session.
type peer struct {
	key     string
	conn    *client // nil: not connected
	exists  bool    // has a session
	lasts   bool    // it lives on without connection
	most    int     // Receive Maximum
	subs    map[string]byte
	flights map[uint16]*flight  // by packet id: unfinished
	must    map[string]bool     // messages that have to come
	came    map[string]bool     // messages that have come at QoS 1 or 2
	out     map[uint16]bool     // own QoS 2 publishes that are not released
	sent    map[uint16]struct{} // ids of flights sent on this connection
}

type flight struct {
	payload  string
	qos      byte
	received bool // PUBREC sent
}

func newModel(t *testing.T) *model {
	m := &model{t: t, r: newRig(t, Options{}), shared: map[string]bool{}}
	for i := range m.peers {
		m.peers[i] = &peer{key: fmt.Sprint("k", i)}
		m.peers[i].forget()
	}
	return m
}

func (p *peer) forget() {
	p.exists, p.conn = false, nil
	p.subs, p.flights, p.sent = map[string]byte{}, map[uint16]*flight{}, map[uint16]struct{}{}
	p.must, p.came, p.out = map[string]bool{}, map[string]bool{}, map[uint16]bool{}
}

var (
	fuzzFilters = []string{"n/a", "n/b", "n/+", "n/#", "n/+/d", "n", "$share/g/s/#", "$share/g/s/#"}
	fuzzTopics  = []string{"n/a", "n/b", "n", "n/c/d", "s/a"}
)

const sharedFilter = "$share/g/s/#"

func (m *model) step(what, a, b byte) {
	p := m.peers[int(a)%keys]
	switch what % 10 {
	case 0:
		m.connect(p, b)
	case 1:
		m.leave(p, b&1 > 0)
	case 2:
		m.subscribe(p, fuzzFilters[int(b>>2)%len(fuzzFilters)], b%3)
	case 3:
		m.unsubscribe(p, fuzzFilters[int(b)%len(fuzzFilters)])
	case 4:
		m.publish(p, fuzzTopics[int(b>>4)%len(fuzzTopics)], b%3, uint16(b>>2&3)+1)
	case 5:
		topic, payload := fuzzTopics[int(a>>2)%len(fuzzTopics)], m.message()
		m.published(topic, payload, b%3)
		m.r.Publish(Message{Topic: topic, Payload: []byte(payload), QoS: b % 3})
	case 6:
		m.acknowledge(p, m.pickID(p, b>>2), b&3)
	case 7:
		if p.conn != nil {
			delete(p.out, uint16(b&3)+1)
			p.conn.do(ack(packets.Pubrel, uint16(b&3)+1))
		}
	case 8:
		if p.conn != nil {
			p.conn.setFull(b&1 > 0)
			if b&1 == 0 {
				p.conn.s.Resume()
			}
		}
	case 9:
		m.nonsense(p, b)
	}
}

func (m *model) message() string {
	m.next++
	return fmt.Sprint("m", m.next)
}

func (m *model) connect(p *peer, b byte) {
	hello := Connect{Key: p.key, Version: 4 + b&1, Clean: b&2 > 0, ReceiveMaximum: uint16(b >> 4)}
	if b&4 > 0 {
		hello.SessionExpiry = math.MaxUint32
	}
	old := p.conn
	if p.conn != nil {
		m.gone(p)
	}
	want := p.exists && !hello.Clean
	if !want {
		m.ended(p)
	}
	// What it is sent from here on is looked at when it has started.
	p.conn = m.r.link(&wire{}, hello)
	p.sent = map[uint16]struct{}{}
	if old != nil {
		old.stoppedWith(packets.ErrSessionTakenOver)
	}
	if p.conn.present != want {
		m.t.Fatalf("session present %v, want %v", p.conn.present, want)
	}
	p.exists, p.lasts = true, hello.Version == 5 && hello.SessionExpiry > 0 || hello.Version == 4 && !hello.Clean
	p.most = math.MaxUint16
	if hello.ReceiveMaximum > 0 {
		p.most = int(hello.ReceiveMaximum)
	}
}

// gone notes that the connection is over.
func (m *model) gone(p *peer) {
	p.conn = nil
	if !p.lasts {
		m.ended(p)
	}
}

// ended notes that the session is.
func (m *model) ended(p *peer) {
	p.forget()
	m.checkGroup()
}

// checkGroup forgets what was published to a shared subscription that has nobody left.
func (m *model) checkGroup() {
	for _, p := range m.peers {
		if _, member := p.subs[sharedFilter]; member {
			return
		}
	}
	clear(m.shared)
}

func (m *model) leave(p *peer, graceful bool) {
	if p.conn == nil {
		return
	}
	c := p.conn
	// First the model: what moves to others is looked at afterwards.
	m.gone(p)
	if graceful {
		c.disconnect(0)
	} else {
		c.drop()
	}
}

func (m *model) subscribe(p *peer, filter string, qos byte) {
	if p.conn == nil || p.out[9] {
		return
	}
	if filter == sharedFilter {
		qos = 1
	}
	p.subs[filter] = qos
	p.conn.id = 99
	if code := p.conn.subscribe(filter, qos); code != qos {
		m.t.Fatalf("SUBACK %#x", code)
	}
}

func (m *model) unsubscribe(p *peer, filter string) {
	if p.conn == nil {
		return
	}
	delete(p.subs, filter)
	m.checkGroup()
	p.conn.id = 99
	p.conn.unsubscribe(filter)
}

func (m *model) publish(p *peer, topic string, qos byte, id uint16) {
	if p.conn == nil {
		return
	}
	if qos == 1 && p.out[id] && p.conn.version == 5 {
		p.conn.do(publish(topic, "in use", 1, id))
		if code := p.conn.pick(packets.Puback).ReasonCode; code != packets.ErrPacketIdentifierInUse.Code {
			m.t.Fatalf("PUBACK %#x", code)
		}
		return
	}
	payload := m.message()
	if qos < 2 || !p.out[id] { // else it is the one before, again, whatever it says
		m.published(topic, payload, qos)
	}
	switch qos {
	case 0:
		p.conn.do(publish(topic, payload, 0, 0))
	case 1:
		p.conn.do(publish(topic, payload, 1, id))
		p.conn.pick(packets.Puback)
	case 2:
		p.out[id] = true
		p.conn.do(publish(topic, payload, 2, id))
		p.conn.pick(packets.Pubrec)
	}
}

// published notes who must get a message.
func (m *model) published(topic, payload string, qos byte) {
	member := false
	for _, p := range m.peers {
		granted := byte(0)
		for filter, q := range p.subs {
			if filter == sharedFilter {
				member = true
			} else if simpleMatch(strings.Split(filter, "/"), strings.Split(topic, "/")) {
				granted = max(granted, q)
			}
		}
		if min(granted, qos) > 0 {
			p.must[payload] = true
		}
	}
	if member && qos > 0 && topic[0] == 's' {
		m.shared[payload] = true
	}
}

func simpleMatch(filter, topic []string) bool {
	switch {
	case len(filter) > 0 && filter[0] == "#":
		return true
	case len(filter) == 0 || len(topic) == 0:
		return len(filter) == len(topic) || len(filter) == 1 && filter[0] == "#"
	}
	return (filter[0] == "+" || filter[0] == topic[0]) && simpleMatch(filter[1:], topic[1:])
}

// pickID chooses a packet id: one in flight, mostly.
func (m *model) pickID(p *peer, n byte) uint16 {
	var ids []uint16
	for id := range p.flights {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	ids = append(ids, 1, 1000)
	return ids[int(n)%len(ids)]
}

// takes says whether an acknowledgement belongs to the flight as it is.
func (fl *flight) takes(kind byte) bool {
	switch kind {
	case packets.Puback:
		return fl.qos == 1
	case packets.Pubrec:
		return fl.qos == 2
	}
	return fl.received
}

func (m *model) acknowledge(p *peer, id uint16, b byte) {
	if p.conn == nil || id == 0 {
		return
	}
	fl, kind := p.flights[id], [...]byte{packets.Puback, packets.Pubrec, packets.Pubcomp, packets.Puback}[b]
	if fl != nil && !fl.takes(kind) {
		p.conn.fails(ack(kind, id), packets.ErrProtocolViolation) // and changes nothing
		return
	}
	switch {
	case fl == nil:
	case kind == packets.Pubrec:
		fl.received = true
		p.sent[id] = struct{}{}
		delete(m.shared, fl.payload)
	default:
		m.done(p, id)
	}
	p.conn.do(ack(kind, id))
	if kind == packets.Pubrec {
		p.conn.pick(packets.Pubrel)
	}
}

func (m *model) done(p *peer, id uint16) {
	delete(m.shared, p.flights[id].payload)
	delete(p.flights, id)
	delete(p.sent, id)
}

// nonsense is answered with an error, or not at all.
func (m *model) nonsense(p *peer, b byte) {
	if p.conn == nil {
		return
	}
	bad := []packets.Packet{
		publish("n/+", "x", 0, 0), publish("n/a", "x", 1, 0), publish("n/a", "x", 3, 1), publish("", "x", 0, 0),
		ack(packets.Connect, 0), ack(packets.Suback, 1), ack(packets.Subscribe, 1), ack(packets.Unsubscribe, 1),
		ack(packets.Auth, 0), ack(packets.Pingresp, 0), ack(99, 1),
	}
	if err := p.conn.s.Packet(bad[int(b)%len(bad)]); err == nil {
		m.t.Fatalf("nonsense %d was taken", b)
	}
	m.leave(p, false)
}

// look takes what the clients were sent into the model.
func (m *model) look() {
	for _, p := range m.peers {
		for p.conn != nil {
			pk, ok := p.conn.take()
			if !ok {
				break
			}
			switch pk.FixedHeader.Type {
			case packets.Publish:
				m.came(p, pk)
			case packets.Pubrel:
				if fl := p.flights[pk.PacketID]; fl == nil || !fl.received {
					m.t.Fatalf("%s: PUBREL %d out of nothing", p.key, pk.PacketID)
				}
				p.sent[pk.PacketID] = struct{}{}
			case packets.Pubcomp:
			default:
				m.t.Fatalf("%s: unexpected %s", p.key, packets.PacketNames[pk.FixedHeader.Type])
			}
		}
	}
	m.leftovers()
}

func (m *model) came(p *peer, pk packets.Packet) {
	payload, id, qos := string(pk.Payload), pk.PacketID, pk.FixedHeader.Qos
	if qos == 0 {
		if pk.FixedHeader.Dup || id != 0 {
			m.t.Fatalf("%s: %+v", p.key, pk.FixedHeader)
		}
		return
	}
	fl := p.flights[id]
	switch {
	case id == 0:
		m.t.Fatalf("%s: no packet id", p.key)
	case fl == nil && p.came[payload] && pk.TopicName[0] == 'n':
		m.t.Fatalf("%s: %s comes a second time", p.key, payload)
	case fl == nil && pk.FixedHeader.Dup && pk.TopicName[0] == 'n':
		m.t.Fatalf("%s: DUP of what was not sent, %s", p.key, payload)
	case fl != nil && (fl.payload != payload || fl.qos != qos || !pk.FixedHeader.Dup || fl.received):
		m.t.Fatalf("%s: id %d is in use for %+v, got %s", p.key, id, fl, describe(pk))
	}
	if _, again := p.sent[id]; again {
		m.t.Fatalf("%s: id %d twice on one connection", p.key, id)
	}
	p.flights[id] = &flight{payload: payload, qos: qos}
	p.sent[id] = struct{}{}
	p.came[payload] = true
	delete(p.must, payload)
	unreceived := 0
	for id := range p.sent {
		if fl := p.flights[id]; fl != nil && !fl.received {
			unreceived++
		}
	}
	if unreceived > p.most {
		m.t.Fatalf("%s: %d in flight, %d allowed", p.key, unreceived, p.most)
	}
}

// leftovers of shared messages at members that are away may have moved to others: their ids are free again.
func (m *model) leftovers() {
	for _, p := range m.peers {
		if p.conn != nil {
			continue
		}
		st := m.r.registry.find(p.key)
		for id, fl := range p.flights {
			if st != nil && fl.qos == 1 && st.out.entries[id] == nil {
				delete(p.flights, id)
			}
		}
	}
}

// finish brings everybody back and acknowledges all there is.
func (m *model) finish() {
	for _, p := range m.peers {
		if p.exists && p.conn == nil {
			m.connect(p, 5)
		}
	}
	for busy := true; busy; {
		busy = false
		for _, p := range m.peers {
			if p.conn != nil {
				p.conn.setFull(false)
				p.conn.s.Resume()
			}
		}
		m.look()
		for _, p := range m.peers {
			for len(p.flights) > 0 && p.conn != nil {
				busy = true
				id := m.pickID(p, 0)
				fl := p.flights[id]
				switch {
				case fl.qos == 1:
					m.acknowledge(p, id, 0)
				case fl.received:
					m.acknowledge(p, id, 2)
				default:
					m.acknowledge(p, id, 1)
				}
				m.look()
			}
		}
	}
	for _, p := range m.peers {
		for payload := range p.must {
			m.t.Errorf("%s never got %s", p.key, payload)
		}
	}
	for payload := range m.shared {
		m.t.Errorf("nobody got %s", payload)
	}
	for _, p := range m.peers {
		m.r.v5(p.key).drop()
	}
	m.r.empty()
}
