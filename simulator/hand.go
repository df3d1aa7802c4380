package simulator

import (
	"context"

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

// Cut closes the connection of an endpoint, without DISCONNECT and with whatever is on its way; it connects again.
// False as for Hand.
func (f *Fleet) Cut(ctx context.Context, id meterread.DeviceID) bool {
	return f.tell(ctx, id, func(e *endpoint) { e.down("cut") })
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
