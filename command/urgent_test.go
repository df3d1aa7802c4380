package command

import (
	"fmt"
	"testing"
	"time"
)

// Real-time work that has to wait for its meter is sent at once when that is free, and does not wait for its turn among all
// that is ready.
func TestWhatWaitsForItsMeterStaysUrgent(t *testing.T) {
	t.Parallel()
	w := NewWorker(WorkerOptions{Partition: func(DeviceID) int { return 0 }, Clock: &Clock{}})
	w.fence[0] = 1
	w.hasten("m1")
	e := w.endpoints["m1"]
	first := &Operation{DeviceID: "m1", EndpointID: "m1", State: Sent, MessageID: "a"}
	w.takeOff(e, first, time.Time{})
	clear(w.urgent)
	w.drained([]Head{{Endpoint: "m1", Limit: 1, MinPriority: RealtimePriority, Busy: e.busy()}}, nil, nil)
	w.land(e, first.Key())
	if _, urgent := w.urgent["m1"]; !urgent {
		t.Error("the meter is free, and nobody looks at what waits for it")
	}
	clear(w.urgent)
	w.drained([]Head{{Endpoint: "m1", Limit: 1, MinPriority: RealtimePriority}}, nil, nil)
	w.wake("m1")
	if len(w.urgent) > 0 {
		t.Error("nothing waits for it, and it is still preferred")
	}
}

// The queue of an endpoint is looked at when an operation lands there only if something may wait in it.
func TestAnEmptyQueueIsNotLookedAtAgain(t *testing.T) {
	t.Parallel()
	op := &Operation{DeviceID: "m1", EndpointID: "m1", State: Sent, MessageID: "a"}
	other := &Operation{DeviceID: "m2", EndpointID: "m1", State: Sent, MessageID: "a"}
	urgent := Head{Endpoint: "m1", Limit: 1, MinPriority: RealtimePriority}
	for name, c := range map[string]struct {
		told    func(*Worker)
		head    Head
		front   Front
		claimed int
		looks   bool
	}{
		"all there was":                        {func(w *Worker) { w.hasten("m1") }, urgent, Front{[]*Operation{op}, false}, 1, false},
		"all there was, of any priority":       {func(w *Worker) { w.wake("m1") }, Head{Endpoint: "m1", Limit: 1}, Front{[]*Operation{op}, false}, 1, false},
		"more than asked for":                  {func(w *Worker) { w.hasten("m1") }, urgent, Front{[]*Operation{op}, true}, 1, true},
		"one could not be claimed":             {func(w *Worker) { w.hasten("m1") }, urgent, Front{[]*Operation{op, other}, false}, 1, true},
		"a meter was busy":                     {func(w *Worker) { w.hasten("m1") }, Head{Endpoint: "m1", Limit: 1, MinPriority: RealtimePriority, Busy: []DeviceID{"m3"}}, Front{[]*Operation{op}, false}, 1, true},
		"only real-time work was asked for":    {func(w *Worker) { w.wake("m1"); w.hasten("m1") }, urgent, Front{[]*Operation{op}, false}, 1, true},
		"real-time work was found among other": {func(w *Worker) { w.wake("m1"); w.hasten("m1") }, Head{Endpoint: "m1", Limit: 1}, Front{[]*Operation{op}, false}, 1, false},
	} {
		w := NewWorker(WorkerOptions{Partition: func(DeviceID) int { return 0 }, Clock: &Clock{}})
		w.fence[0] = 1
		c.told(w)
		w.drained([]Head{c.head}, map[DeviceID]Front{"m1": c.front}, map[DeviceID]int{"m1": c.claimed})
		w.takeOff(w.endpoints["m1"], op, time.Time{})
		clear(w.ready)
		w.land(w.endpoints["m1"], op.Key())
		if _, looks := w.ready["m1"]; looks != c.looks {
			t.Errorf("%s: looks again: %v", name, looks)
		}
		if w.wake("m1"); len(w.ready) != 1 {
			t.Errorf("%s: what arrives is not looked at", name)
		}
	}
}

// reachable is a publisher to whom every gateway is.
type reachable struct{ Publisher }

func (reachable) Reachable(string) bool { return true }

// Who does not fit into one claim of real-time work is in the next.
func TestUrgentWorkThatDoesNotFitIsNext(t *testing.T) {
	t.Parallel()
	w := NewWorker(WorkerOptions{Partition: func(DeviceID) int { return 0 }, Clock: &Clock{}, Publisher: reachable{}})
	w.fence[0] = 1
	const endpoints = 3 * batchMost / ipcWindow
	for i := range endpoints {
		id := DeviceID(fmt.Sprint("ipc", i))
		w.hasten(id)
		w.endpoints[id].known, w.endpoints[id].session = true, Session{Epoch: 1}
	}
	asked := 0
	for range 5 {
		for _, h := range w.urgentHeads() {
			if h.MinPriority != RealtimePriority {
				t.Errorf("%+v", h)
			}
			asked++
		}
	}
	if asked != endpoints || len(w.urgent) > 0 {
		t.Errorf("%d of %d were asked, %d wait", asked, endpoints, len(w.urgent))
	}
}
