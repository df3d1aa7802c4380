package plain

// An entry is a message that was sent at QoS 1 or 2 and is not finished.
type entry struct {
	delivery
	id       uint16
	weight   int
	released bool // PUBREC has come and PUBREL is out: the message itself is forgotten
	sent     bool // on the connection of now
	previous *entry
	next     *entry
}

// outbox is what a session has in flight to its client. Packet ids are the session's own: what the client uses for its
// packets has nothing to do with them [MQTT-2.2.1-4]. PUBLISHes are kept in the order they were sent first, which is that
// of sending them again [MQTT-4.6.0-1]; PUBRELs in the order their PUBRECs came [MQTT-4.6.0-4].
type outbox struct {
	entries   map[uint16]*entry // nil when there is none
	publishes chain
	releases  chain
	unsent    *entry // the first of publishes that is not yet sent on the connection of now
	last      uint16 // packet id
}

// chain is a doubly linked list.
type chain struct{ first, last *entry }

func (l *chain) push(e *entry) {
	e.previous, e.next = l.last, nil
	if l.last != nil {
		l.last.next = e
	} else {
		l.first = e
	}
	l.last = e
}

func (l *chain) remove(e *entry) {
	if e.previous != nil {
		e.previous.next = e.next
	} else {
		l.first = e.next
	}
	if e.next != nil {
		e.next.previous = e.previous
	} else {
		l.last = e.previous
	}
	e.previous, e.next = nil, nil
}

// add makes an entry under a packet id that is not in use. There is one: Options.Inflight is far below their number.
func (o *outbox) add(d delivery) *entry {
	if o.entries == nil {
		o.entries = map[uint16]*entry{}
	}
	for used := true; used; {
		o.last++
		_, used = o.entries[o.last]
		used = used || o.last == 0
	}
	e := &entry{delivery: d, id: o.last, weight: d.m.weight()}
	o.entries[e.id] = e
	o.publishes.push(e)
	return e
}

// release turns a PUBLISH into a PUBREL.
func (o *outbox) release(e *entry) {
	o.skip(e)
	o.publishes.remove(e)
	o.releases.push(e)
	e.released, e.delivery = true, delivery{qos: 2} // its message is forgotten
}

// remove finishes an entry.
func (o *outbox) remove(e *entry) {
	if e.released {
		o.releases.remove(e)
	} else {
		o.skip(e)
		o.publishes.remove(e)
	}
	delete(o.entries, e.id)
	if len(o.entries) == 0 {
		o.entries = nil // maps do not shrink
	}
}

func (o *outbox) skip(e *entry) {
	if o.unsent == e {
		o.unsent = e.next
	}
}

// disconnected forgets what was sent on a connection that is over.
func (o *outbox) disconnected() {
	for _, e := range o.entries {
		e.sent = false
	}
	o.unsent = o.publishes.first
}

// idset is a set of packet ids: those of a client's QoS 2 publishes between PUBLISH and PUBREL. 128 bytes for every 1024
// ids that have one in it.
type idset struct {
	blocks *[64]*[16]uint64
	len    int
}

func (s *idset) has(id uint16) bool {
	if s.blocks == nil || s.blocks[id>>10] == nil {
		return false
	}
	return s.blocks[id>>10][id>>6&15]&(1<<(id&63)) != 0
}

// add says whether the id is new.
func (s *idset) add(id uint16) bool {
	if s.has(id) {
		return false
	}
	if s.blocks == nil {
		s.blocks = &[64]*[16]uint64{}
	}
	if s.blocks[id>>10] == nil {
		s.blocks[id>>10] = &[16]uint64{}
	}
	s.blocks[id>>10][id>>6&15] |= 1 << (id & 63)
	s.len++
	return true
}

// remove says whether the id was there.
func (s *idset) remove(id uint16) bool {
	if !s.has(id) {
		return false
	}
	s.blocks[id>>10][id>>6&15] &^= 1 << (id & 63)
	s.len--
	if s.len == 0 {
		s.blocks = nil
	}
	return true
}
