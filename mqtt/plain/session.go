package plain

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A Session is a connection's hold on the session of its key. Packet and End are called by its reader, one at a time;
// Start, Resume and all that other clients cause may run beside them. After a takeover all methods do nothing.
type Session struct {
	// fixed
	h       *Hub
	st      *state
	link    Link
	flow    Flow // nil: there is always room
	version byte
	most    int // messages in flight

	// guarded by st.mu, and of no use once st.conn is another
	started       bool
	stopped       bool // the hub has stopped the link
	will          *Will
	inflight      int // PUBLISHes sent on this connection and not finished
	inflightBytes int
	aliases       aliases

	// of the reader alone
	known        []string // topics by the client's aliases, from 1
	counted      idset    // QoS 2 publishes of this connection that are not released: its use of our Receive Maximum
	disconnected bool     // DISCONNECT was read
}

func newSession(h *Hub, link Link, c *Connect) *Session {
	s := &Session{h: h, link: link, version: c.Version, most: h.o.Inflight, will: c.Will}
	s.flow, _ = link.(Flow)
	if c.ReceiveMaximum > 0 {
		s.most = min(s.most, int(c.ReceiveMaximum))
	}
	if c.Version >= 5 {
		s.aliases.most = c.TopicAliasMaximum
	}
	return s
}

// Start is called once, when CONNACK has been handed to the link: what was not acknowledged is sent again (PUBREL, then
// PUBLISH with DUP, under the same packet ids and in the same order [MQTT-4.4.0-1]), then what has waited.
func (s *Session) Start() {
	if !s.begin() {
		return
	}
	st := s.st
	st.flush(s)
	for _, g := range st.groups() {
		g.rebalance()
	}
}

// begin sends the PUBRELs, and is false if there is nothing to start.
func (s *Session) begin() bool {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn != s || s.started {
		return false
	}
	s.started = true
	for e := st.out.releases.first; e != nil; e = e.next {
		e.sent = true
		s.inflight++
		s.h.metrics.redelivered.Inc()
		s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: e.id})
	}
	return true
}

// Resume says that a Link which has Flow has room again.
func (s *Session) Resume() {
	st := s.st
	st.flush(s)
	st.mu.Lock()
	var stuck []*group
	if st.conn == s {
		stuck = st.stuckGroups()
	}
	st.mu.Unlock()
	for _, g := range stuck {
		g.resume()
	}
}

// End says that the connection is over; only the first call counts. graceful says that a DISCONNECT was read: the will is
// then discarded, unless Packet was given that DISCONNECT and it asked for the will (0x04 and errors).
func (s *Session) End(graceful bool) {
	s.h.end(s, graceful && !s.disconnected)
}

// room says whether the link wants more.
func (s *Session) room() bool { return s.flow == nil || s.flow.Room() }

// stop ends the connection from here.
func (s *Session) stop(reason packets.Code) {
	if !s.stopped {
		s.stopped = true
		s.link.Stop(reason)
	}
}

// send hands a packet that is not a PUBLISH to the link. Its error does not matter: the reader will notice.
func (s *Session) send(pk packets.Packet) {
	pk.ProtocolVersion = s.version
	_ = s.link.Send(pk)
}

// publish sends a PUBLISH. It is false if the client cannot take a packet of that size.
func (s *Session) publish(d *delivery, id uint16, again bool, now time.Time) bool {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: d.qos, Retain: d.retain, Dup: again},
		TopicName:   d.m.Topic, Payload: d.m.Payload, PacketID: id, ProtocolVersion: s.version,
	}
	alias := uint16(0)
	if s.version >= 5 {
		m := d.m
		pk.Mods.AllowResponseInfo = true // or the codec leaves Response Topic and Correlation Data out
		pk.Properties = packets.Properties{
			PayloadFormat: m.PayloadFormat, PayloadFormatFlag: m.PayloadFormatFlag, ContentType: m.ContentType,
			ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData, User: m.User,
			MessageExpiryInterval: m.remaining(now), SubscriptionIdentifier: d.ids,
		}
		alias = s.aliases.use(&pk)
	}
	switch err := s.link.Send(pk); {
	case isTooLarge(err):
		s.h.metrics.dropped.tooLarge.Inc()
		return false
	case err == nil && alias > 0:
		s.aliases.learned(d.m.Topic, alias)
	}
	s.h.metrics.sent.Inc()
	return true
}

// aliases are those we use towards the client, for the topics that come first [3.3.2.3.4].
type aliases struct {
	most   uint16
	topics map[string]uint16
}

// aliasTopicMost is the length of topics from which on they are not kept for an alias.
const aliasTopicMost = 1024

// use puts an alias in, and says which one the packet introduces; 0: none.
func (a *aliases) use(pk *packets.Packet) (introduced uint16) {
	if a.most == 0 || len(pk.TopicName) > aliasTopicMost {
		return 0
	}
	alias, known := a.topics[pk.TopicName]
	switch {
	case known:
		pk.TopicName = ""
	case len(a.topics) < min(int(a.most), 256):
		alias = uint16(len(a.topics) + 1)
		introduced = alias
	default:
		return 0
	}
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = alias, true
	return introduced
}

func (a *aliases) learned(topic string, alias uint16) {
	if a.topics == nil {
		a.topics = map[string]uint16{}
	}
	a.topics[topic] = alias
}
