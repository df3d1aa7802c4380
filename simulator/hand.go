package simulator

import (
	"context"
	"math/rand/v2"
	"time"

	"meterline/meterread"
	"meterline/mqtt"
)

// Hand puts a message into the journal of an endpoint, which sends it until its PUBACK comes, whatever it holds: for what
// no sound endpoint would say. False when there is no such endpoint, or ctx is done before the endpoint took it.
func (f *Fleet) Hand(ctx context.Context, id meterread.DeviceID, u Uplink) bool {
	return f.tell(ctx, id, func(e *endpoint) {
		e.journal.add(&entry{id: u.ID, channel: u.Channel, topic: mqtt.UplinkTopic(e.id, u.Channel), payload: u.Payload, size: 1})
	})
}

// Cut lets an endpoint hand in a reading and closes its connection at once, without DISCONNECT: before the PUBACK, and with
// whatever else is on its way. It connects again. False as for Hand.
func (f *Fleet) Cut(ctx context.Context, id meterread.DeviceID) bool {
	return f.tell(ctx, id, func(e *endpoint) {
		if meters := e.site.meters(); len(meters) > 0 {
			e.push(meters[0])
		}
		e.send()
		e.down("cut")
	})
}

// Twin connects once more as the endpoint, beside it, as a second device with its identity would: the newer session wins, and
// the endpoint comes back. The twin takes no commands. It returns when the twin is disconnected, or ctx is done; the observer
// hears of the beginning of the attempt and of its success.
func (f *Fleet) Twin(ctx context.Context, id meterread.DeviceID) {
	e := f.byID[id]
	if e == nil {
		return
	}
	e.observer.Twin(id, false)
	l := e.link
	s, err := dial(ctx, l.brokers[rand.IntN(len(l.brokers))], l.credentials, mqtt.CommandTopic(id), l.behaviour.KeepAlive)
	if err != nil {
		return
	}
	defer s.close()
	e.observer.Twin(id, true)
	defer context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })()
	for err == nil {
		_, err = s.read(ctx)
	}
}

// StopPushing ends the readings that nobody asked for.
func (f *Fleet) StopPushing() { f.quiet.Store(true) }

func (f *Fleet) tell(ctx context.Context, id meterread.DeviceID, do func(*endpoint)) bool {
	e := f.byID[id]
	if e == nil {
		return false
	}
	select {
	case e.orders <- do:
		return true
	case <-ctx.Done():
		return false
	}
}
