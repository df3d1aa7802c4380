package plain

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// received handles a PUBLISH of the client. It is acknowledged when it is in the queues of those it is for.
func (s *Session) received(pk *packets.Packet) error {
	if code := s.checkPublish(pk); code.Code != 0 {
		return code
	}
	topic, code := s.resolve(pk)
	if code.Code != 0 {
		return code
	}
	who, what, code := s.admit(pk)
	switch what {
	case refused:
		return code
	case repeated: // PUBREC again and nothing else [MQTT-4.3.3-10]
		s.acknowledge(packets.Pubrec, pk.PacketID, packets.CodeSuccess)
		return nil
	case idInUse:
		s.acknowledge(packets.Puback, pk.PacketID, packets.ErrPacketIdentifierInUse)
		return nil
	}
	s.h.metrics.received.Inc()
	m := messageOf(pk, topic, s.h.o.Now())
	if s.version < 5 && topic[0] == '$' {
		// Acknowledged and dropped: what begins with $ is the server's, and a 3.1.1 client cannot be told so [4.7.2].
		s.h.metrics.refused.publish.Inc()
		code = packets.CodeSuccess
	} else {
		code = s.h.accept(s.st, who, m, s.version >= 5 && m.QoS > 0)
	}
	return s.answer(pk, code)
}

// checkPublish looks at what does not depend on the session.
func (s *Session) checkPublish(pk *packets.Packet) packets.Code {
	p := &pk.Properties
	switch {
	case pk.FixedHeader.Qos > 2:
		return packets.ErrProtocolViolationQosOutOfRange // [MQTT-3.3.1-4]
	case pk.FixedHeader.Qos > 0 && pk.PacketID == 0:
		return packets.ErrProtocolViolationNoPacketID // [MQTT-2.2.1-3]
	case pk.FixedHeader.Qos == 0 && pk.FixedHeader.Dup:
		return packets.ErrProtocolViolationDupNoQos // [MQTT-3.3.1-2]
	case s.version < 5:
		return packets.CodeSuccess
	case len(p.SubscriptionIdentifier) > 0:
		return packets.ErrProtocolViolationSurplusSubID // [MQTT-3.3.4-6]
	case strings.ContainsAny(p.ResponseTopic, "+#"):
		return packets.ErrProtocolViolationSurplusWildcard // [MQTT-3.3.2-14]
	case p.PayloadFormatFlag && p.PayloadFormat > 1:
		return packets.ErrMalformedPacket // [3.3.2.3.2]
	}
	return packets.CodeSuccess
}

// resolve finds the topic, which may be an alias of the client's [3.3.2.3.4].
func (s *Session) resolve(pk *packets.Packet) (topic string, code packets.Code) {
	topic = pk.TopicName
	if s.version >= 5 && pk.Properties.TopicAliasFlag {
		alias := pk.Properties.TopicAlias
		if alias == 0 || alias > s.h.o.TopicAliasMaximum { // [MQTT-3.3.2-8] [MQTT-3.3.2-9]
			return "", packets.ErrTopicAliasInvalid
		}
		if topic == "" {
			if int(alias) >= len(s.known) || s.known[alias] == "" {
				return "", packets.ErrProtocolViolationNoTopic // [3.3.4]
			}
			return s.known[alias], packets.CodeSuccess
		}
		if validTopic(topic) {
			s.learn(alias, strings.Clone(topic)) // the packet's string keeps all of the packet alive
		}
	}
	switch {
	case topic == "" && s.version >= 5:
		return "", packets.ErrProtocolViolationNoTopic
	case !validTopic(topic):
		return "", packets.ErrTopicNameInvalid
	}
	return topic, packets.CodeSuccess
}

func (s *Session) learn(alias uint16, topic string) {
	for int(alias) >= len(s.known) {
		s.known = append(s.known, "")
	}
	s.known[alias] = topic
}

// admission is what is to be done with a PUBLISH.
type admission int

const (
	fresh    admission = iota
	repeated           // a QoS 2 publish that was taken before and is not released yet; DUP does not matter [3.3.1.1]
	idInUse            // its packet id is that of such a one
	refused            // the connection must end
)

// admit looks for what the client has unfinished, and tells who it is. The id of a QoS 2 publish is kept from here on, so
// that the message is not taken again, whatever becomes of this connection.
func (s *Session) admit(pk *packets.Packet) (who any, what admission, code packets.Code) {
	st, id, qos := s.st, pk.PacketID, pk.FixedHeader.Qos
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn != s {
		return nil, refused, packets.ErrSessionTakenOver
	}
	if qos == 0 {
		return st.who, fresh, code
	}
	// At QoS 1 we have answered before we read on, so unfinished are those at QoS 2 alone.
	if s.version >= 5 && s.counted.len >= int(s.h.o.ReceiveMaximum) && !s.counted.has(id) {
		return nil, refused, packets.ErrReceiveMaximum // [3.3.4]
	}
	known := st.in.has(id)
	switch {
	case qos == 2 && known:
		s.counted.add(id)
		return st.who, repeated, code
	case qos == 2:
		s.counted.add(id)
		st.in.add(id)
		s.h.inflight.Add(1)
	case known && s.version >= 5:
		return st.who, idInUse, code
	}
	return st.who, fresh, code
}

// answer acknowledges a publish.
func (s *Session) answer(pk *packets.Packet, code packets.Code) error {
	bad := code.Code >= packets.ErrUnspecifiedError.Code
	if bad && pk.FixedHeader.Qos == 2 { // it is over then [MQTT-4.3.3-9]
		s.release(pk.PacketID)
	}
	switch {
	case pk.FixedHeader.Qos == 0:
	case bad && s.version < 5:
		return code // an acknowledgement would promise too much: 3.1.1 leaves this choice too [MQTT-3.3.5-2]
	case pk.FixedHeader.Qos == 1:
		s.acknowledge(packets.Puback, pk.PacketID, code)
	default:
		s.acknowledge(packets.Pubrec, pk.PacketID, code)
	}
	return nil
}

func (s *Session) acknowledge(kind byte, id uint16, code packets.Code) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, PacketID: id}
	if s.version >= 5 {
		pk.ReasonCode = code.Code
	}
	s.send(pk)
}

// release forgets the id of a QoS 2 publish, and says whether it was known.
func (s *Session) release(id uint16) bool {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	s.counted.remove(id)
	if st.conn != s || !st.in.remove(id) {
		return false
	}
	s.h.inflight.Add(-1)
	return true
}

// pubrel ends a QoS 2 publish [MQTT-4.3.3-11].
func (s *Session) pubrel(pk *packets.Packet) error {
	code := packets.CodeSuccess
	if !s.release(pk.PacketID) {
		if !s.holds() {
			return packets.ErrSessionTakenOver
		}
		code = packets.ErrPacketIdentifierNotFound
	}
	s.acknowledge(packets.Pubcomp, pk.PacketID, code)
	return nil
}

// holds says whether the session is still this connection's.
func (s *Session) holds() bool {
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	return s.st.conn == s
}

// accept takes in what a client publishes, wills included. strict is for whom a message that cannot be retained is
// refused as a whole; to others it is given out all the same.
func (h *Hub) accept(from *state, who any, m *Message, strict bool) packets.Code {
	if m.Topic[0] == '$' || !h.o.Rules.MayPublish(who, m.Topic) {
		h.metrics.refused.publish.Inc()
		return packets.ErrNotAuthorized
	}
	m.origin = from.key
	if h.o.Rules.Take(who, m) {
		return packets.CodeSuccess
	}
	if m.Retain && !h.retained.store(m) {
		h.metrics.refused.retained.Inc()
		if strict {
			return packets.ErrQuotaExceeded
		}
		h.retained.drop(m.Topic)
	}
	if !h.route(m) {
		return packets.CodeNoMatchingSubscribers
	}
	return packets.CodeSuccess
}

// route gives a message to all who subscribed to it, and says whether anybody did.
func (h *Hub) route(m *Message) bool {
	found := h.trie.match(m.Topic, m.origin)
	defer found.release()
	matched := len(found.targets) > 0
	for i := range found.targets {
		t := &found.targets[i]
		t.st.give(delivery{
			m: m, ids: t.ids, qos: min(m.QoS, t.qos), // [3.8.4]
			retain: m.Retain && t.retainAsPublished, // [MQTT-3.3.1-12] [MQTT-3.3.1-13]; of 3.1.1 [MQTT-3.3.1-9]
		})
	}
	for _, g := range found.groups {
		matched = g.put(m) || matched
	}
	return matched
}
