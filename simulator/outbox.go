package simulator

import (
	"time"

	"meterline/meterread"
	"meterline/mqtt"
)

// outbox puts results together into messages: an IPC sends those that come close together in one. One goroutine only.
type outbox struct {
	topic   string
	count   int           // results in one message at most
	delay   time.Duration // for so long the first waits for others
	agenda  *agenda
	journal *journal
	stats   *Stats
	now     func() time.Time
	noise   func([]byte) // publishes garbage
	waiting []*result
	bytes   int
	twice   bool // one of those that wait is to be sent twice
	round   int  // which gathering is on: a flush that was arranged for an earlier one does nothing
}

// put takes a result that is to leave.
func (o *outbox) put(r *result, f fate) {
	if f.garbage {
		o.stats.garbage.Add(1)
		o.noise(garbage[f.which])
	}
	if len(o.waiting) > 0 && o.bytes+r.size() > maxResultBytes {
		o.flush()
	}
	o.waiting = append(o.waiting, r)
	o.bytes += r.size()
	o.twice = o.twice || f.duplicate
	switch {
	case len(o.waiting) >= o.count || o.delay == 0:
		o.flush()
	case len(o.waiting) == 1:
		round := o.round
		o.agenda.add(o.now().Add(o.delay), func() {
			if round == o.round {
				o.flush()
			}
		})
	}
}

// flush journals what waits as one message.
func (o *outbox) flush() {
	if len(o.waiting) == 0 {
		return
	}
	e := &entry{id: newMessageID(), channel: mqtt.Result, topic: o.topic, size: len(o.waiting), twice: o.twice}
	for _, r := range o.waiting {
		e.readings = append(e.readings, owned(r.DeviceID, r.Readings)...)
	}
	e.payload = encode(resultMessage{V: meterread.Version, MessageID: e.id, Results: o.waiting})
	o.stats.results.Add(int64(len(o.waiting)))
	o.waiting, o.bytes, o.twice = nil, 0, false
	o.round++
	o.journal.add(e)
}
