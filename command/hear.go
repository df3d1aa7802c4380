package command

import (
	"encoding/json"
	"time"
)

// hear brings what is known of endpoints up to date: presence, and the leases of messages that were heard of.
func (w *Worker) hear(facts []fact, now time.Time) {
	for _, f := range facts {
		if f.Corrupt || f.again != nil { // no sign of life
			continue
		}
		switch f.Kind {
		case UplinkConnected:
			w.connected(f.Uplink, now)
		case UplinkDisconnected:
			if e := w.endpoints[f.Endpoint]; e != nil && e.known && e.session.Epoch <= f.Epoch {
				e.session = Session{}
			}
		case UplinkEvent:
			w.hello(f)
		case UplinkUndeliverable:
			// Connected but not subscribed, or gone from there: until it is heard of again it is offline.
			e := w.endpoints[f.Endpoint]
			if e != nil && e.session.Gateway == f.GatewayID() && (f.Epoch == 0 || f.Epoch >= e.session.Epoch) {
				e.known, e.session = true, Session{}
			}
		case UplinkDelivered, UplinkAck, UplinkResult:
			for _, k := range f.keys {
				if e := w.flying[k]; e != nil && e.id == f.Endpoint {
					m := e.flights[k].message
					m.lease = now.Add(w.opt.RunTimeout.Of(m.kind))
				}
			}
		}
	}
}

// hello lets an endpoint say how many operations it takes at a time: event hello with data {"window":N}, 1 to 1024. It says so
// whenever it connects; until it has, the window of its kind counts.
func (w *Worker) hello(f fact) {
	if f.event == nil || f.event.Type != EventHello || f.event.DeviceID != "" && f.event.DeviceID != f.Endpoint {
		return
	}
	var says struct {
		Window int `json:"window"`
	}
	e := w.at(f.Endpoint)
	if e == nil || json.Unmarshal(f.event.Data, &says) != nil || says.Window < 1 || says.Window > windowMost {
		return
	}
	e.window, e.reserve = says.Window, max(1, says.Window/8)
	w.rouse(e)
}

func (w *Worker) connected(u Uplink, now time.Time) {
	e := w.at(u.Endpoint)
	if e == nil || u.Epoch < e.newest {
		return
	}
	if u.Epoch == e.session.Epoch && e.known { // the gateways' roll call
		if now.Sub(e.looked) > lookAtLeast {
			e.looked = now
			w.rouse(e)
		}
		return
	}
	e.known, e.newest, e.looked, e.heldUntil = true, u.Epoch, now, time.Time{}
	e.session = Session{Endpoint: u.Endpoint, Epoch: u.Epoch, Gateway: u.GatewayID(), Incarnation: u.GatewayIncarnation()}
	w.rouse(e)
}

// lookAtLeast is how often the queue of a connected endpoint is looked at although nothing told to: whatever else failed, no
// operation waits longer for an endpoint that is there.
const lookAtLeast = time.Minute
