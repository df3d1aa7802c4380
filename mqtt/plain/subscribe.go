package plain

import (
	"slices"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// subscribe handles SUBSCRIBE, filter by filter [MQTT-3.8.4-5]. Retained messages wait until SUBACK is out.
func (s *Session) subscribe(pk *packets.Packet) error {
	if code := s.checkSubscribe(pk); code.Code != 0 {
		return code
	}
	codes := make([]byte, len(pk.Filters))
	if s.inUse(pk.PacketID) {
		for i := range codes {
			codes[i] = packets.ErrPacketIdentifierInUse.Code
		}
		s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: pk.PacketID, ReasonCodes: codes})
		return nil
	}
	id := 0
	if s.version >= 5 && len(pk.Properties.SubscriptionIdentifier) > 0 {
		id = pk.Properties.SubscriptionIdentifier[0]
	}
	var joined []*group
	for i := range pk.Filters {
		code, g := s.subscribeTo(&pk.Filters[i], id)
		if s.version < 5 && code.Code >= packets.ErrUnspecifiedError.Code {
			code = packets.ErrUnspecifiedError // the only one there is; of 3.1.1 [MQTT-3.9.3-2]
		}
		codes[i] = code.Code
		if g != nil {
			joined = append(joined, g)
		}
	}
	s.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: pk.PacketID, ReasonCodes: codes})
	s.st.flush(s)
	for _, g := range joined {
		g.rebalance()
	}
	if !s.holds() {
		return packets.ErrSessionTakenOver
	}
	return nil
}

func (s *Session) checkSubscribe(pk *packets.Packet) packets.Code {
	ids := pk.Properties.SubscriptionIdentifier
	switch {
	case pk.PacketID == 0:
		return packets.ErrProtocolViolationNoPacketID // [MQTT-2.2.1-3]
	case len(pk.Filters) == 0:
		return packets.ErrProtocolViolationNoFilters // [MQTT-3.8.3-2]
	case s.version >= 5 && (len(ids) > 1 || len(ids) == 1 && (ids[0] < 1 || ids[0] > 268_435_455)):
		return packets.ErrProtocolViolationOversizeSubID // [3.8.2.1.2]
	}
	for i := range pk.Filters {
		f := &pk.Filters[i]
		switch {
		case f.Qos > 2:
			return packets.ErrProtocolViolationQosOutOfRange // [3.8.3.1]
		case s.version >= 5 && f.RetainHandling > 2:
			return packets.ErrProtocolViolation // [3.8.3.1]
		case s.version >= 5 && f.NoLocal && strings.HasPrefix(f.Filter, sharePrefix):
			return packets.ErrProtocolViolationInvalidSharedNoLocal // [MQTT-3.8.3-4]
		}
	}
	return packets.CodeSuccess
}

// inUse says whether a packet id is that of a QoS 2 publish that is not released. Only MQTT 5 has a word for it; what
// is in flight to the client does not matter.
func (s *Session) inUse(id uint16) bool {
	if s.version < 5 {
		return false
	}
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	return s.st.in.has(id)
}

// subscribeTo handles one filter, and says which group it has joined.
func (s *Session) subscribeTo(f *packets.Subscription, id int) (packets.Code, *group) {
	st := s.st
	name, inner, ok := splitShare(f.Filter)
	switch {
	case !ok:
		return packets.ErrTopicFilterInvalid, nil
	case levels(inner) > s.h.o.Levels:
		return packets.ErrQuotaExceeded, nil
	case !s.h.o.Rules.MaySubscribe(st.whoNow(), f.Filter):
		s.h.metrics.refused.subscribe.Inc()
		return packets.ErrNotAuthorized, nil
	}
	o := options{qos: f.Qos, id: id}
	handling := byte(0) // 3.1.1 sends retained messages every time; of 3.1.1 [MQTT-3.8.4-3]
	if s.version >= 5 {
		o.noLocal, o.retainAsPublished, handling = f.NoLocal, f.RetainAsPublished, f.RetainHandling
	}
	sub := &subscription{st: st, filter: strings.Clone(f.Filter), options: o}
	sub.inner = sub.filter[len(sub.filter)-len(inner):]
	sub.watched = s.h.o.Watch(sub.inner)
	if name != "" {
		return s.join(sub, name)
	}
	return s.add(sub, handling), nil
}

// add puts a subscription in the place of one with the same filter [MQTT-3.8.4-3] [MQTT-3.8.4-4], and queues the
// retained messages. That is done under the session's lock, so that none comes after a newer one of its topic.
func (s *Session) add(sub *subscription, handling byte) packets.Code {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn != s {
		return packets.ErrUnspecifiedError // nobody is told
	}
	old := st.subs[sub.filter]
	switch {
	case old != nil:
		s.h.trie.alter(old, sub.options)
	case !st.enter(sub):
		return packets.ErrQuotaExceeded
	default:
		s.h.trie.add(sub)
	}
	if handling == 0 || handling == 1 && old == nil { // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
		s.queueRetained(sub)
	}
	return packets.Code{Code: sub.qos}
}

func (s *Session) queueRetained(sub *subscription) {
	st := s.st
	var ids []int
	if sub.id > 0 {
		ids = []int{sub.id}
	}
	for _, m := range s.h.retained.match(sub.inner, s.h.o.Now()) {
		d := delivery{m: m, ids: ids, qos: min(m.QoS, sub.qos), retain: true} // [3.3.1.3]; of 3.1.1 [MQTT-3.3.1-8]
		switch {
		case !st.mayReceive(m) || sub.noLocal && m.origin == st.key: // [MQTT-3.8.3-3]
		case !st.queue.offer(d, true):
			s.h.metrics.dropped.queue.Inc()
			s.h.metrics.slow.Inc()
			s.stop(packets.ErrQuotaExceeded)
			return
		}
	}
}

// join makes the session a member of a group. Retained messages are not sent to shared subscriptions [4.8.2].
func (s *Session) join(sub *subscription, name string) (packets.Code, *group) {
	for {
		g := s.h.trie.group(s.h, name, sub.inner)
		g.mu.Lock()
		if g.dead.Load() {
			g.mu.Unlock()
			continue
		}
		code, empty := s.joinGroup(sub, g), len(g.members) == 0
		if empty {
			g.dead.Store(true)
		}
		g.mu.Unlock()
		if empty {
			s.h.trie.removeGroup(g)
		}
		if code.Code >= packets.ErrUnspecifiedError.Code {
			g = nil
		}
		return code, g
	}
}

// joinGroup asks for g.mu.
func (s *Session) joinGroup(sub *subscription, g *group) packets.Code {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn != s {
		return packets.ErrUnspecifiedError // nobody is told
	}
	if old := st.subs[sub.filter]; old != nil {
		old.options = sub.options
		return packets.Code{Code: sub.qos}
	}
	if !st.enter(sub) {
		return packets.ErrQuotaExceeded
	}
	st.shares = append(st.shares, sub)
	sub.group, sub.index = g, len(g.members)
	g.members = append(g.members, sub)
	return packets.Code{Code: sub.qos}
}

// enter books a subscription within the limits. It asks for st.mu.
func (st *state) enter(sub *subscription) bool {
	if st.full(sub) {
		st.h.metrics.refused.subscriptions.Inc()
		return false
	}
	if st.subs == nil {
		st.subs = map[string]*subscription{}
	}
	st.subs[sub.filter] = sub
	st.filterBytes += filterWeight(sub.filter)
	st.h.booked(sub, 1)
	return true
}

// full says whether there is no room for sub, in the session or among those of all. Subscriptions that are entered just
// now may make it a little more.
func (st *state) full(sub *subscription) bool {
	o := &st.h.o
	return len(st.subs) >= o.Subscriptions || st.filterBytes+filterWeight(sub.filter) > o.FilterBytes ||
		st.h.subscriptions.Load() >= int64(o.Subscribed) ||
		st.h.trie.branches.Load()+int64(levels(sub.inner)) > int64(o.Branches)
}

// filterWeight stands for what a filter takes: +/+/+ is short, and a node for each level.
func filterWeight(filter string) int { return len(filter) + 8*levels(filter) }

// booked counts a subscription, or one less.
func (h *Hub) booked(sub *subscription, sign int64) {
	h.subscriptions.Add(sign)
	if sub.watched {
		h.watched.Add(sign)
	}
}

func (st *state) whoNow() any {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.who
}

// unsubscribe handles UNSUBSCRIBE. What is queued or in flight is still delivered [MQTT-3.10.4-3].
func (s *Session) unsubscribe(pk *packets.Packet) error {
	switch {
	case pk.PacketID == 0:
		return packets.ErrProtocolViolationNoPacketID // [MQTT-2.2.1-3]
	case len(pk.Filters) == 0:
		return packets.ErrProtocolViolationNoFilters // [MQTT-3.10.3-2]
	}
	inUse := s.inUse(pk.PacketID)
	codes := make([]byte, len(pk.Filters))
	for i := range pk.Filters {
		if inUse {
			codes[i] = packets.ErrPacketIdentifierInUse.Code
		} else {
			codes[i] = s.unsubscribeFrom(pk.Filters[i].Filter).Code
		}
	}
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsuback}, PacketID: pk.PacketID}
	if s.version >= 5 {
		ack.ReasonCodes = codes
	}
	s.send(ack) // also when nothing was there [MQTT-3.10.4-5]
	if !s.holds() {
		return packets.ErrSessionTakenOver
	}
	return nil
}

func (s *Session) unsubscribeFrom(filter string) packets.Code {
	if _, _, ok := splitShare(filter); !ok {
		return packets.ErrTopicFilterInvalid
	}
	st := s.st
	st.mu.Lock()
	if st.conn != s {
		st.mu.Unlock()
		return packets.ErrUnspecifiedError // nobody is told
	}
	sub := st.subs[filter]
	if sub == nil {
		st.mu.Unlock()
		return packets.CodeNoSubscriptionExisted
	}
	delete(st.subs, filter)
	st.filterBytes -= filterWeight(filter)
	if sub.group == nil {
		s.h.trie.remove(sub) // before another of the same filter can come
	} else {
		st.shares = slices.DeleteFunc(st.shares, func(other *subscription) bool { return other == sub })
	}
	st.mu.Unlock()
	s.h.booked(sub, -1)
	if sub.group != nil {
		sub.group.leave(sub, nil)
	}
	return packets.CodeSuccess
}
