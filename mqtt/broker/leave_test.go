package broker

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A client says DISCONNECT, closes, and is here again before the DISCONNECT was read: it took its leave all the same, and
// its will is not published. The time for that is short, so that many a round is missed on a machine that is busy: it is tried
// until one is not, for as long as d1, which acknowledges nothing, is borne.
func TestADisconnectThatHasArrivedCountsAtTakeover(t *testing.T) {
	r := start(t)
	r.listening(t, dev("d1"))
	busy := r.Broker.registry.all("d1")[0]
	watcher := r.connect(t, hi{id: "watcher", user: "service", pass: "reader"})
	watcher.subscribe("gone", 0, 1)
	h := service("root")
	h.will = "gone"
	kept := 0
	old := r.connect(t, h)
	began := time.Now()
	for round := uint16(0); round < 10 || kept == 0 && time.Since(began) < ackPatience/2; round++ {
		w := r.service(t, "root")
		busy.mu.Lock() // holds up the reader of the old connection
		old.publish("meterline/v1/d1/down/command", commandJSON("m", time.Minute), 1, round+1)
		old.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		_ = old.conn.Close()
		next := r.knock(t, h)
		for deadline := time.Now().Add(waitMost); w.over.Load() == nil && time.Now().Before(deadline); {
			runtime.Gosched()
		}
		asked := w.over.Load() != nil
		busy.mu.Unlock()
		if !asked {
			t.Fatal("nobody waited for the old connection")
		}
		if ack := next.expect(packets.Connack); ack.ReasonCode != 0 {
			t.Fatalf("CONNACK %#x", ack.ReasonCode)
		}
		watcher.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
		pk, err := watcher.read(waitMost)
		if err != nil {
			t.Fatal(err)
		}
		if pk.FixedHeader.Type == packets.Publish {
			watcher.expect(packets.Pingresp)
		} else {
			kept++
		}
		old = next
	}
	if kept == 0 {
		t.Error("its will was published each time")
	}
}

// service is the wire of a token's only client.
func (r *rig) service(t *testing.T, token string) (w *wire) {
	t.Helper()
	eventually(t, "one client with "+token, func() bool {
		r.Broker.tokens.mu.Lock()
		defer r.Broker.tokens.mu.Unlock()
		for s := range r.Broker.tokens.sessions[token] {
			w = s.link.(wireLink).wire
		}
		return len(r.Broker.tokens.sessions[token]) == 1
	})
	return w
}

// Nobody waits for a client that is silent, nor for long for one that does not come to its end.
func TestTakeoversAreNotHeldUp(t *testing.T) {
	r := start(t)
	c := r.connect(t, service("root"))
	w := r.service(t, "root")
	w.leave()
	if w.over.Load() != nil {
		t.Error("waited for somebody who is silent")
	}
	r.listening(t, dev("d1"))
	busy := r.Broker.registry.all("d1")[0]
	busy.mu.Lock() // holds up its reader
	defer busy.mu.Unlock()
	c.publish("meterline/v1/d1/down/command", commandJSON("m", time.Minute), 1, 1)
	c.publish("news", strings.Repeat("x", 64<<10), 0, 0) // more than is read ahead
	eventually(t, "something has arrived", func() bool { return w.Arrived() })
	w.leave()
	if w.over.Load() == nil || w.ended.Load() {
		t.Error("it has come to its end")
	}
}
