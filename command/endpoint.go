package command

import (
	"container/heap"
	"slices"
	"time"

	"meterline/fault"
	"meterline/fleet"
)

// endpoint is what the owner keeps of an endpoint in memory.
type endpoint struct {
	id        DeviceID
	partition int
	window    int // operations in flight; 0 until the first operation tells what kind of endpoint it is
	reserve   int // more of them, for real-time work

	known     bool      // presence was looked up, or told by a hint
	session   Session   // zero Epoch: offline
	newest    int64     // the largest epoch ever heard of
	looked    time.Time // when its queue was looked at although nothing told to
	heldUntil time.Time // nothing is sent before: the last attempt to publish failed
	urgent    bool      // there may be real-time work that waits, maybe for something such as a meter that is busy
	waits     bool      // there may be other work that waits

	flights map[Key]*flight
}

// flight is an operation in flight.
type flight struct {
	message *message
	state   State
	op      *Operation // as it was seen last in the record, nil when so many are in flight that it is loaded instead
}

// mostKnown bounds the operations in flight that are kept as they are in the record, of about a kilobyte each.
const mostKnown = 50_000

// message is what is on its way to an endpoint. The lease is its own: whatever is heard of one of its operations renews it
// for the others.
type message struct {
	id       string
	kind     Kind
	endpoint *endpoint
	keys     map[Key]struct{} // those still in flight
	lease    time.Time        // by the record's clock
}

// The windows unless the device says otherwise: one at a time for a meter, 64 for an IPC, and a reserve for real-time work.
const (
	directWindow, directReserve = 1, 1
	ipcWindow, ipcReserve       = 64, 8
	windowMost                  = 1024
	// strangerWindow is asked for until the first operation tells: for more, a thousand meters would fill the claims of a thousand IPCs.
	strangerWindow = 4
)

// WindowOf is the window and reserve of an endpoint that speaks for devices of this kind.
func WindowOf(k fleet.Kind) (window, reserve int) {
	if k == fleet.Direct {
		return directWindow, directReserve
	}
	return ipcWindow, ipcReserve
}

func (e *endpoint) online() bool { return e.session.Epoch != 0 }

// learn sets the window by the first operation seen.
func (e *endpoint) learn(o *Operation) {
	if e.window == 0 {
		e.window, e.reserve = WindowOf(o.Device.Kind)
	}
}

// room says how many operations may be claimed, and of which priority at least.
func (e *endpoint) room() (n, minPriority int) {
	if fault.Bug(fault.BugNoWindow) {
		return windowMost, 0
	}
	if e.window == 0 {
		return strangerWindow, 0
	}
	if n := e.window - len(e.flights); n > 0 {
		return n, 0
	}
	return e.window + e.reserve - len(e.flights), RealtimePriority
}

// busy lists the devices that have an operation in flight.
func (e *endpoint) busy() []DeviceID {
	if len(e.flights) == 0 {
		return nil
	}
	ids := make([]DeviceID, 0, len(e.flights))
	for k := range e.flights {
		ids = append(ids, k.DeviceID)
	}
	slices.Sort(ids)
	return ids
}

// at finds the endpoint, or makes it when its partition is owned; nil when it is not.
func (w *Worker) at(id DeviceID) *endpoint {
	if e := w.endpoints[id]; e != nil {
		return e
	}
	p := w.opt.Partition(id)
	if _, mine := w.fence[p]; !mine {
		return nil
	}
	e := &endpoint{id: id, partition: p, flights: map[Key]*flight{}}
	w.endpoints[id] = e
	return e
}

// wake notes that the endpoint may have something to send.
func (w *Worker) wake(id DeviceID) {
	if e := w.at(id); e != nil {
		w.rouse(e)
	}
}

// rouse notes that the endpoint may have something to send.
func (w *Worker) rouse(e *endpoint) {
	e.waits = true
	w.look(e)
}

// look has the queue of the endpoint looked at, and for real-time work at once: among all that are ready, whose turn it is is left
// to chance.
func (w *Worker) look(e *endpoint) {
	w.ready[e.id] = struct{}{}
	if !e.known {
		w.strangers[e.id] = struct{}{}
	}
	if e.urgent {
		w.urgent[e.id] = struct{}{}
	}
}

// hasten notes that the endpoint has real-time work.
func (w *Worker) hasten(id DeviceID) {
	if e := w.at(id); e != nil {
		e.urgent = true
		w.look(e)
	}
}

// takeOff notes that an operation is on its way in a message.
func (w *Worker) takeOff(e *endpoint, o *Operation, lease time.Time) {
	m := w.messages[o.MessageID]
	if m == nil {
		m = &message{id: o.MessageID, kind: o.Kind, endpoint: e, keys: map[Key]struct{}{}, lease: lease}
		w.messages[o.MessageID] = m
	}
	if lease.After(m.lease) {
		m.lease = lease
	}
	m.keys[o.Key()] = struct{}{}
	f := e.flights[o.Key()]
	if f == nil {
		f = &flight{}
		e.flights[o.Key()] = f
	}
	f.message = m
	w.flying[o.Key()] = e
	w.seen(f, o)
}

// seen notes what an operation in flight is in the record.
func (w *Worker) seen(f *flight, o *Operation) {
	f.state = o.State
	if f.op == nil {
		if w.known >= mostKnown {
			return
		}
		w.known++
	}
	f.op = o
}

// knownAs is what an operation in flight was when it was seen last; nil when that is not known.
func (w *Worker) knownAs(k Key) *Operation {
	if e := w.flying[k]; e != nil {
		return e.flights[k].op
	}
	return nil
}

// land notes that an operation is not in flight any more: its place is free.
func (w *Worker) land(e *endpoint, k Key) {
	f := e.flights[k]
	if f == nil {
		return
	}
	if f.op != nil {
		w.known--
	}
	delete(e.flights, k)
	delete(w.flying, k)
	delete(w.ahead.sought, k)
	delete(f.message.keys, k)
	if len(f.message.keys) == 0 {
		delete(w.messages, f.message.id)
	}
	if e.waits || e.urgent {
		w.look(e)
	}
}

// settle brings memory in line with operations as they are in the record.
func (w *Worker) settle(changes []Change) {
	var bulk map[ID]struct{}
	for _, c := range changes {
		if c.Bulk {
			if bulk == nil {
				bulk = map[ID]struct{}{}
			}
			bulk[c.Command.ID] = struct{}{}
			continue
		}
		for _, o := range c.Operations {
			w.settleOne(o)
		}
	}
	w.settleBulk(bulk)
}

func (w *Worker) settleOne(o *Operation) {
	if o.Version < w.beside.newer[o.Key()] {
		return
	}
	w.knows(o.Key(), o.Version)
	e := w.flying[o.Key()]
	if e != nil {
		f := e.flights[o.Key()]
		if w.seen(f, o); !o.State.InFlight() || f.message.id != o.MessageID || e.id != o.EndpointID {
			w.land(e, o.Key())
			e = nil
		}
	}
	if e == nil && o.State.InFlight() && !fault.Bug(fault.BugBegunUntracked) {
		// It had been given up, or taken back and moved with its device, and an endpoint has begun after all: from now on it has a
		// lease and a place there.
		if e := w.at(o.EndpointID); e != nil {
			e.learn(o)
			w.takeOff(e, o, o.LeaseUntil)
		}
	}
	if o.State == Queued {
		w.timers.set(o.EndpointID, o.NextAt)
	}
}

// settleBulk frees the places of commands' operations that ended together.
func (w *Worker) settleBulk(ended map[ID]struct{}) {
	if len(ended) == 0 {
		return
	}
	for k, e := range w.flying {
		if _, is := ended[k.CommandID]; is {
			w.land(e, k)
		}
	}
}

// timers wake endpoints when a retry or a NotBefore comes due.
type timers struct {
	heap timerHeap
	have map[timer]struct{}
}

const timerGrain = 50 * time.Millisecond

type timer struct {
	at       time.Time
	endpoint DeviceID
}

// set wakes the endpoint at the time, or up to timerGrain later: an endpoint has one timer for what comes due together.
func (t *timers) set(e DeviceID, at time.Time) {
	one := timer{at.Truncate(timerGrain).Add(timerGrain), e}
	if _, had := t.have[one]; had {
		return
	}
	if t.have == nil {
		t.have = map[timer]struct{}{}
	}
	t.have[one] = struct{}{}
	heap.Push(&t.heap, one)
}

// until is how long it is to the first timer; an hour when there is none.
func (t *timers) until(now time.Time) time.Duration {
	if len(t.heap) == 0 {
		return time.Hour
	}
	return t.heap[0].at.Sub(now)
}

// past takes out the endpoints whose time has come.
func (t *timers) past(now time.Time) []DeviceID {
	var ids []DeviceID
	for len(t.heap) > 0 && !t.heap[0].at.After(now) {
		one := heap.Pop(&t.heap).(timer)
		delete(t.have, one)
		ids = append(ids, one.endpoint)
	}
	return ids
}

type timerHeap []timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
