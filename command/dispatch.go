package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"meterline/fault"
	"meterline/meterread"
)

// The bounds of one claim and of one message.
const (
	claimEndpoints = 256
	claimMost      = 1000                   // operations in one claim
	messageBytes   = 64 << 10               // of targets in one message
	targetBytes    = 64                     // of a target beside its id and its route
	leastLeft      = 2 * time.Second        // nothing is sent with less time left
	holdOff        = time.Second            // after a message could not be handed over
	clockSlack     = 50 * time.Millisecond  // what the estimated clock may be off the record's own, which decides
	reachAgain     = 100 * time.Millisecond // while there is no connection to a gateway
	presenceWithin = 500 * time.Millisecond // the worker has other things to do when Redis stands still
	presenceAgain  = 2 * time.Second
	presenceBatch  = 500
)

// dispatch claims what ready endpoints can take, in one transaction, and then hands it to the publisher: what is on its
// way is written down before it leaves. busy says that there may be more to claim at once.
func (w *Worker) dispatch(ctx context.Context) (busy bool, err error) {
	now := w.opt.Clock.Now()
	for _, id := range w.timers.past(now.Add(-clockSlack)) {
		w.wake(id)
	}
	read := w.opt.Readers.there()
	if len(w.ready) == 0 || read && w.breath.left() > 0 {
		return false, nil
	}
	if err := w.meet(ctx); err != nil {
		return false, err
	}
	took, err := w.claimAndSend(ctx, w.heads(w.ready, now, w.claiming.most(read)))
	w.breath.took(took)
	return len(w.ready) > 0, err
}

// dispatchUrgent is dispatch for real-time work that a notice told of, and for nothing else: a claim of a few operations
// does not stand behind one of a thousand.
func (w *Worker) dispatchUrgent(ctx context.Context) error {
	if len(w.urgent) == 0 {
		return nil
	}
	w.opt.Readers.came()
	if err := w.meet(ctx); err != nil {
		return err
	}
	_, err := w.claimAndSend(ctx, w.urgentHeads())
	return err
}

// urgentHeads asks for the real-time work of as many as fit into one claim; the others are asked next.
func (w *Worker) urgentHeads() []Head {
	for id := range w.urgent {
		if _, ready := w.ready[id]; !ready { // it waits for something else
			delete(w.urgent, id)
		}
	}
	heads := w.heads(w.urgent, w.opt.Clock.Now(), batchMost)
	for i := range heads {
		heads[i].MinPriority = RealtimePriority
		delete(w.urgent, heads[i].Endpoint)
	}
	return heads
}

// claimAndSend says how long it took; the time of what found nothing does not count.
func (w *Worker) claimAndSend(ctx context.Context, heads []Head) (took time.Duration, err error) {
	if len(heads) == 0 {
		return 0, nil
	}
	began := time.Now()
	ready, err := w.opt.Ledger.Ready(ctx, heads)
	if err != nil {
		return 0, err
	}
	claimed, err := w.claim(ctx, heads, ready)
	if err != nil || len(claimed) == 0 {
		return 0, err
	}
	took = time.Since(began)
	w.claiming.took(len(claimed), took)
	fault.Point(fault.DispatchClaimed)
	w.send(ctx, claimed)
	fault.Point(fault.DispatchSent)
	return took, nil
}

// meet looks up the presence of ready endpoints that nothing is known of.
func (w *Worker) meet(ctx context.Context) error {
	var strangers []DeviceID
	for id := range w.strangers {
		if len(strangers) == presenceBatch {
			break
		}
		delete(w.strangers, id)
		if e := w.endpoints[id]; e != nil && !e.known {
			strangers = append(strangers, id)
		}
	}
	if len(strangers) == 0 {
		return nil
	}
	limit, stop := context.WithTimeout(ctx, presenceWithin)
	defer stop()
	sessions, err := w.opt.Presence.Sessions(limit, strangers)
	if err != nil {
		w.opt.Logger.Warn("cannot look up presence: what is not known to be connected waits", "error", err)
		w.opt.Metrics.Stumbles.Inc()
		for _, id := range strangers { // look again in a while, not in a tight loop
			delete(w.ready, id)
			w.timers.set(id, w.opt.Clock.Now().Add(presenceAgain))
		}
		return nil
	}
	for _, id := range strangers {
		e := w.endpoints[id]
		e.known = true
		if s, ok := sessions[id]; ok && w.gateways.living(s) {
			e.session = s
		}
	}
	return nil
}

// heads asks for what ready endpoints have room for. Endpoints that are offline, full or held off stop being ready: what
// changes that makes them ready again.
func (w *Worker) heads(of map[DeviceID]struct{}, now time.Time, most int) []Head {
	var heads []Head
	asked := 0
	for id := range of {
		e := w.endpoints[id]
		if e == nil {
			delete(w.ready, id)
			continue
		}
		if !e.known {
			w.strangers[id] = struct{}{}
			continue
		}
		room, least := e.room()
		if !e.online() || room <= 0 {
			delete(w.ready, id)
			continue
		}
		if !w.opt.Publisher.Reachable(e.session.Gateway) {
			e.heldUntil = now.Add(reachAgain)
		}
		if e.heldUntil.After(now) {
			delete(w.ready, id)
			w.timers.set(id, e.heldUntil)
			continue
		}
		heads = append(heads, Head{Endpoint: id, Partition: e.partition, Limit: room, MinPriority: least, Busy: e.busy()})
		if asked += room; len(heads) == claimEndpoints || asked >= most {
			break
		}
	}
	// Whose turn it is is left to chance; what goes out together goes in order.
	slices.SortFunc(heads, func(a, b Head) int { return strings.Compare(string(a.Endpoint), string(b.Endpoint)) })
	return heads
}

// claim takes the operations in one transaction. Whatever was cancelled, moved or claimed since Ready is left alone.
func (w *Worker) claim(ctx context.Context, heads []Head, ready map[DeviceID]Front) ([]*Operation, error) {
	var need Need
	parts := map[int]struct{}{}
	for _, h := range heads {
		need.Known = append(need.Known, ready[h.Endpoint].Operations...)
		if len(ready[h.Endpoint].Operations) > 0 {
			parts[h.Partition] = struct{}{}
		}
	}
	if len(need.Known) == 0 {
		w.drained(heads, ready, nil)
		return nil, nil
	}
	if err := w.know(ctx, need.Known); err != nil {
		return nil, err
	}
	var claimed []*Operation
	of := make(map[DeviceID]int, len(heads)) // how many of each endpoint
	done, err := w.change(ctx, parts, need, func(tx *Tx) error {
		claimed = claimed[:0]
		for _, h := range heads {
			some := w.claimFor(tx, h, ready[h.Endpoint].Operations)
			claimed, of[h.Endpoint] = append(claimed, some...), len(some)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claim operations: %w", err)
	}
	w.drained(heads, ready, of)
	for _, o := range claimed {
		e := w.endpoints[o.EndpointID]
		w.takeOff(e, o, o.LeaseUntil)
		w.knows(o.Key(), o.Version)
		w.ahead.seek(o, e.partition)
		if len(e.flights) >= e.window && o.Priority < RealtimePriority {
			delete(w.ready, e.id) // full, and what could use the reserve came first
		}
	}
	w.opt.Metrics.Claimed.Add(float64(len(claimed)))
	w.projector.take(done)
	return claimed, nil
}

// drained notes the endpoints whose queues have no more for now: nothing is left that a busy meter keeps waiting, either, where none
// is busy, and all that was found was claimed.
func (w *Worker) drained(heads []Head, ready map[DeviceID]Front, claimed map[DeviceID]int) {
	for _, h := range heads {
		e, front := w.endpoints[h.Endpoint], ready[h.Endpoint]
		if e == nil || front.More {
			continue
		}
		if len(h.Busy) == 0 && claimed[h.Endpoint] == len(front.Operations) {
			e.urgent, e.waits = false, e.waits && h.MinPriority > 0
		}
		if h.MinPriority == 0 || e.window > 0 && len(e.flights)+claimed[h.Endpoint] >= e.window || !e.waits {
			delete(w.ready, h.Endpoint)
		}
	}
}

// claimFor claims for one endpoint. Operations of one command travel together, as many as fit into a message.
func (w *Worker) claimFor(tx *Tx, h Head, ready []*Operation) []*Operation {
	e := w.endpoints[h.Endpoint]
	var claimed []*Operation
	type load struct {
		message string
		bytes   int
	}
	loads := map[ID]*load{}
	for _, seen := range ready {
		o := tx.Operations[seen.Key()]
		if o == nil || o.State != Queued || o.EndpointID != h.Endpoint || o.ExpiresAt.Sub(tx.Now) < leastLeft {
			continue
		}
		if w.beside.postpone(o.DeviceID, h.Endpoint) {
			continue
		}
		if o.NextAt.After(tx.Now) {
			w.timers.set(h.Endpoint, o.NextAt)
			continue
		}
		e.learn(o)
		room := e.window
		if o.Priority >= RealtimePriority {
			room += e.reserve
		}
		if len(e.flights)+len(claimed) >= room && !fault.Bug(fault.BugNoWindow) {
			continue
		}
		size := targetBytes + len(o.DeviceID) + len(o.Device.Route)
		l := loads[o.CommandID]
		if l == nil || l.bytes+size > messageBytes {
			l = &load{message: uuid.Must(uuid.NewV7()).String()}
			loads[o.CommandID] = l
		}
		l.bytes += size
		if err := o.Claim(tx.Now, e.session, l.message, w.opt.DeliveryLease); err == nil {
			claimed = append(claimed, o)
		}
	}
	return claimed
}

// send hands claimed operations to the publisher, message by message, in the order of the queue.
func (w *Worker) send(ctx context.Context, claimed []*Operation) {
	for i := 0; i < len(claimed); {
		j := i + 1
		for j < len(claimed) && claimed[j].MessageID == claimed[i].MessageID {
			j++
		}
		w.publish(ctx, claimed[i:j])
		i = j
	}
}

func (w *Worker) publish(ctx context.Context, ops []*Operation) {
	first := ops[0]
	c := w.commands[first.CommandID]
	m := Message{
		V: 1, MessageID: first.MessageID, MessageType: "unicast", CommandID: c.ID, Kind: c.Kind, IssuedAt: c.CreatedAt,
		ExpiresAt: c.ExpiresAt, Priority: c.Priority, TraceParent: c.TraceParent, Items: c.Items, Params: c.Params,
	}
	if m.Items == nil {
		m.Items = []meterread.Item{}
	}
	if len(m.Params) == 0 {
		m.Params = json.RawMessage("{}")
	}
	for _, o := range ops {
		m.Attempt = max(m.Attempt, o.Attempts)
		m.Targets = append(m.Targets, Target{DeviceID: o.DeviceID, Route: o.Device.Route})
	}
	e := w.endpoints[first.EndpointID]
	gateway := e.session.Gateway
	// What is claimed is sent, also when the worker is being told to end.
	w.opt.Publisher.Publish(context.WithoutCancel(ctx), gateway, first.EndpointID, m, func(err error) {
		if err == nil {
			return
		}
		w.opt.Metrics.Unsent.Inc()
		if !errors.Is(err, ErrGatewayGone) {
			w.opt.Logger.Warn("a gateway did not take a message over", "gateway", gateway, "endpoint_id", first.EndpointID, "error", err)
		}
		w.mail.put(func(l *letters) { l.unsent = append(l.unsent, m.MessageID) })
	})
}

// takeBack queues operations again whose messages the gateway did not take over; the attempt is not counted. Should the
// message have arrived all the same, its endpoint remembers the command and its answer counts.
func (w *Worker) takeBack(ctx context.Context, unsent []string) error {
	var keys []Key
	for _, id := range unsent {
		m := w.messages[id]
		if m == nil {
			continue
		}
		m.endpoint.heldUntil = w.opt.Clock.Now().Add(holdOff)
		m.endpoint.known, m.endpoint.session = false, Session{}
		keys = append(keys, slices.Collect(maps.Keys(m.keys))...)
	}
	return w.requeue(ctx, keys, "not handed over")
}

// requeue queues operations in flight again that were never delivered; uncounted.
func (w *Worker) requeue(ctx context.Context, keys []Key, reason string) error {
	for chunk := range slices.Chunk(keys, claimMost) {
		sent := map[Key]string{} // by which message
		parts := map[int]struct{}{}
		for _, k := range chunk {
			if e := w.flying[k]; e != nil {
				sent[k] = e.flights[k].message.id
				parts[e.partition] = struct{}{}
			}
		}
		need := Need{Operations: slices.Collect(maps.Keys(sent)), Devices: devicesOf(sent)}
		if len(need.Operations) == 0 {
			continue
		}
		var moved []Arrived
		done, err := w.change(ctx, parts, need, func(tx *Tx) error {
			moved = moved[:0]
			for k, o := range tx.Operations {
				if !tx.Now.Before(o.ExpiresAt) { // its deadline is swept where it is
					continue
				}
				if fault.Bug(fault.BugTakenBackEarly) && o.State.InFlight() || o.State == Sent && o.MessageID == sent[k] {
					o.must(o.Requeue(tx.Now, tx.Now.Add(holdOff), false, reason))
					moved = w.follow(tx, o, moved)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("queue operations again: %w", err)
		}
		w.settle(done.Changes)
		w.projector.take(done)
		w.projector.tell(moved)
	}
	return nil
}

// follow makes an operation that is queued again follow its device, should that have moved to another endpoint.
func (w *Worker) follow(tx *Tx, o *Operation, moved []Arrived) []Arrived {
	d, ok := tx.Devices[o.DeviceID]
	if !ok || d.EndpointID == o.EndpointID || fault.Bug(fault.BugFollowsNot) {
		return moved
	}
	o.EndpointID, o.Partition, o.Device = d.EndpointID, w.opt.Partition(d.EndpointID), d.Info()
	return append(moved, Arrived{CommandID: o.CommandID, Endpoints: []DeviceID{d.EndpointID}})
}

func devicesOf[V any](keys map[Key]V) []DeviceID {
	ids := make([]DeviceID, 0, len(keys))
	for k := range keys {
		ids = append(ids, k.DeviceID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
