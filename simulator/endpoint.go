package simulator

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/meterread"
	"meterline/mqtt"
)

// endpoint is one MQTT client and what stands behind it: two goroutines, the loop (run), which owns everything here, and
// the link, which connects and reads.
type endpoint struct {
	id        meterread.DeviceID
	behaviour *Behaviour
	site      installation
	desk      *desk
	outbox    *outbox
	journal   *journal
	agenda    *agenda
	dice      dice // of the endpoint itself: going offline
	stats     *Stats
	log       *slog.Logger
	link      *link
	session   *session // nil while there is no connection
	greeted   bool
	ready     func() // called once, when the endpoint is subscribed for the first time
	observer  Observer
	orders    chan func(*endpoint)
	quiet     *atomic.Bool // of the fleet
}

// newEndpoint builds the endpoint of a site.
func newEndpoint(s Site, b *Behaviour, l *link, o Options, stats *Stats) (*endpoint, error) {
	e := &endpoint{
		id: s.ID, behaviour: b, agenda: &agenda{}, journal: newJournal(o.Ledger, stats), stats: stats, log: o.Log, link: l,
		dice: newDice(b, hashOf("endpoint/"+string(s.ID))), observer: o.Observer, orders: make(chan func(*endpoint)),
	}
	count, delay := 1, time.Duration(0)
	switch s.Kind {
	case KindDirect:
		e.site = NewDirect(s.ID, b)
	default:
		ipc, err := NewIPC(s.ID, s.Meters, b)
		if err != nil {
			return nil, err
		}
		e.site, count, delay = ipc, b.GroupCount, b.GroupDelay
	}
	e.outbox = &outbox{
		topic: mqtt.UplinkTopic(s.ID, mqtt.Result), count: count, delay: delay, agenda: e.agenda, journal: e.journal, stats: stats,
		now: time.Now, noise: func(b []byte) { e.publish(mqtt.UplinkTopic(s.ID, mqtt.Result), b) },
	}
	e.desk = &desk{
		behaviour: b, site: e.site, memory: newMemory(b.MemorySize, stats), agenda: e.agenda, stats: stats, now: time.Now,
		answer:  e.outbox.put,
		acts:    func(m *command.Message, d meterread.DeviceID) { e.observer.Executed(e.id, m, d) },
		repeats: func(m *command.Message, d meterread.DeviceID) { e.observer.Repeated(e.id, m, d) },
	}
	return e, nil
}

// run works until ctx is done, connected or not: meters that were asked answer also while the endpoint is offline.
func (e *endpoint) run(ctx context.Context) error {
	linked := make(chan struct{})
	go func() {
		defer close(linked)
		e.link.run(ctx)
	}()
	defer func() {
		e.hangUp()
		<-linked
		e.link.discard()
	}()
	e.schedulePush()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		e.agenda.run(time.Now())
		e.send()
		if at, ok := e.agenda.next(); ok {
			timer.Reset(time.Until(at))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case news := <-e.link.news:
			e.handle(news)
		case do := <-e.orders:
			do(e)
		case <-timer.C:
		}
	}
}

func (e *endpoint) handle(n news) {
	switch {
	case n.up:
		e.up(n.session)
	case n.session != e.session: // of a connection that was given up
	case n.err != nil:
		e.log.Debug("connection lost", "endpoint_id", e.id, "error", n.err)
		e.down(n.err.Error())
	default:
		e.receive(n.packet)
	}
}

func (e *endpoint) up(s *session) {
	e.session = s
	e.observer.Connected(e.id, s.conn.RemoteAddr().String())
	e.stats.connected.Add(1)
	e.stats.connects.Add(1)
	if e.ready != nil {
		e.ready()
		e.ready = nil
	}
	if e.behaviour.Hello && !e.greeted {
		e.greeted = true
		id := newMessageID()
		e.journal.add(&entry{id: id, channel: mqtt.Event, topic: mqtt.UplinkTopic(e.id, mqtt.Event), payload: encode(eventMessage{
			V: meterread.Version, MessageID: id, Type: "hello", DeviceID: e.id, At: time.Now().UTC(),
			Data: map[string]any{"meters": len(e.site.meters()), "maker": "meterline simulator"},
		})})
	}
	// The first ping comes early and at random, so that endpoints that connected together do not ping together.
	e.scheduleCare(s, time.Duration(e.dice.rng.Float64()*float64(e.careInterval())))
	for _, p := range s.early {
		if e.session != s {
			return
		}
		e.receive(p)
	}
	s.early = nil
}

func (e *endpoint) careInterval() time.Duration {
	return min(e.behaviour.KeepAlive, e.behaviour.AckTimeout)
}

// scheduleCare pings, and gives the connection up when an uplink has waited too long for its PUBACK.
func (e *endpoint) scheduleCare(s *session, in time.Duration) {
	e.agenda.add(time.Now().Add(in), func() {
		if e.session != s {
			return
		}
		if s.unackedSince(time.Now().Add(-e.behaviour.AckTimeout)) {
			e.log.Debug("no puback", "endpoint_id", e.id)
			e.down("no puback")
			return
		}
		if err := s.ping(); err != nil {
			e.down(err.Error())
			return
		}
		e.scheduleCare(s, e.careInterval())
	})
}

// down gives the connection up; the link sees it close and connects anew.
func (e *endpoint) down(reason string) {
	if e.session == nil {
		return
	}
	e.observer.Disconnected(e.id, reason)
	e.session.close()
	e.session = nil
	e.stats.connected.Add(-1)
	e.journal.lostConnection()
}

func (e *endpoint) hangUp() {
	if e.session != nil {
		_ = e.session.disconnect() // a courtesy: the connection closes in any case
		e.down("done")
	}
}

func (e *endpoint) receive(p packet) {
	switch p.kind {
	case packets.Puback:
		e.session.handlePuback(p.id)
	case packets.Publish:
		e.command(p)
	}
}

// command takes a command up and then acknowledges it.
func (e *endpoint) command(p packet) {
	var m command.Message
	if err := json.Unmarshal(p.payload, &m); err != nil || m.V != meterread.Version {
		e.stats.badCommands.Add(1)
		e.log.Warn("command not understood", "endpoint_id", e.id, "error", err)
		e.puback(p)
		return
	}
	e.observer.Received(e.id, &m)
	if e.desk.open+len(e.outbox.waiting)+e.journal.size+len(m.Targets) > e.behaviour.JournalSize {
		// No room to keep the answers: not taken up and not acknowledged, so it will come again.
		e.stats.refusedFull.Add(1)
		return
	}
	offline, before := e.dice.outage()
	if offline {
		e.stats.offline.Add(1)
		e.link.stayAway(e.behaviour.OfflineFor)
	}
	if before {
		e.down("offline") // went offline while the command arrived: never taken up
		return
	}
	accepted := e.desk.take(&m)
	if p.qos > 0 && e.session != nil {
		e.observer.Taken(e.id, &m)
	}
	e.puback(p)
	if len(accepted) > 0 {
		e.publish(mqtt.UplinkTopic(e.id, mqtt.Ack), encode(ackMessage{
			V: meterread.Version, CommandID: m.CommandID, DeviceIDs: accepted, Status: meterread.StatusAccepted,
		}))
	}
	if offline {
		e.down("offline")
	}
}

func (e *endpoint) puback(p packet) {
	if p.qos == 0 || e.session == nil {
		return
	}
	if err := e.session.puback(p.id); err != nil {
		e.down(err.Error())
	}
}

// publish sends what is not worth a place in the journal.
func (e *endpoint) publish(topic string, payload []byte) {
	if e.session == nil {
		return
	}
	if err := e.session.publish(topic, payload, false, time.Now(), nil); err != nil {
		e.down(err.Error())
	}
}

// send publishes from the journal as far as the window allows.
func (e *endpoint) send() {
	for e.session != nil && e.journal.flying < e.behaviour.Window {
		entry := e.journal.next()
		if entry == nil {
			return
		}
		e.stats.published.Add(1)
		if entry.sent {
			e.stats.republished.Add(1)
		}
		copies := 1
		if entry.twice && !entry.sent {
			copies = 2
			e.stats.duplicates.Add(1)
		}
		dup := entry.sent
		if dup {
			e.observer.Resent(e.id, entry.id)
		} else {
			e.observer.Published(e.id, Uplink{entry.id, entry.channel, entry.payload}, copies)
		}
		entry.sent = true
		for range copies {
			err := e.session.publish(entry.topic, entry.payload, dup, time.Now(), func() { e.acked(entry) })
			if err != nil {
				e.down(err.Error())
				return
			}
		}
	}
}

// acked takes what was acknowledged out of the journal; a second PUBACK for it is nothing.
func (e *endpoint) acked(entry *entry) {
	if entry.place != nil {
		e.observer.Acknowledged(e.id, entry.id)
	}
	e.journal.acked(entry)
}

// schedulePush hands in readings nobody asked for, each meter in its turn. A full journal drops them.
func (e *endpoint) schedulePush() {
	if e.behaviour.PushEvery <= 0 {
		return
	}
	for _, m := range e.site.meters() {
		var push func()
		push = func() {
			if e.quiet.Load() {
				return
			}
			if e.journal.size < e.behaviour.JournalSize {
				e.push(m)
			}
			e.agenda.add(time.Now().Add(e.behaviour.PushEvery), push)
		}
		e.agenda.add(time.Now().Add(time.Duration(e.dice.rng.Float64()*float64(e.behaviour.PushEvery))), push)
	}
}

var pushed = []meterread.Item{"1-0:1.8.0", "1-0:2.8.0"}

func (e *endpoint) push(m *Meter) {
	values, err := m.read(pushed, time.Now())
	if err != nil {
		e.log.Error("read meter", "device_id", m.id, "error", err)
		return
	}
	values = owned(m.id, values)
	id := newMessageID()
	twice := e.behaviour.Faults.Duplicate > 0 && e.dice.rng.Float64() < e.behaviour.Faults.Duplicate
	e.journal.add(&entry{id: id, channel: mqtt.Readings, topic: mqtt.UplinkTopic(e.id, mqtt.Readings), size: len(values), readings: values,
		twice:   twice,
		payload: encode(readingsMessage{V: meterread.Version, MessageID: id, Readings: values})})
}
