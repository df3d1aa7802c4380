package broker

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fleet"
	"meterline/testkit"
)

func TestPaceReserves(t *testing.T) {
	p := newPace(Options{PublishRate: 10, PublishBytes: 1000, MaxPayload: 1000}, newMetrics(nil))
	p.largest = 1000
	now := time.Unix(1e9, 0)
	for range 10 { // a second's worth at once
		if d := p.reserve("a", 1, now); d != 0 {
			t.Fatalf("held %v", d)
		}
	}
	if d := p.reserve("a", 1, now); d != 100*time.Millisecond {
		t.Errorf("the 11th is held %v", d)
	}
	if d := p.reserve("b", 1000, now); d != 0 {
		t.Errorf("another is held %v", d)
	}
	if d := p.reserve("b", 500, now); d != 500*time.Millisecond {
		t.Errorf("500 bytes too many are held %v", d)
	}
	if d := p.reserve("b", 1<<20, now.Add(500*time.Millisecond)); d != time.Second {
		t.Errorf("more than a publish can have: held %v", d)
	}
}

func TestPaceForgetsWhoIsQuiet(t *testing.T) {
	p := newPace(Options{PublishRate: 1, MaxPayload: 1000}, newMetrics(nil))
	now := time.Unix(1e9, 0)
	for i := range 10 * paceSweep {
		now = now.Add(10 * time.Millisecond)
		p.reserve(fleet.DeviceID(fmt.Sprint(i)), 10, now)
	}
	if len(p.known) > 2*paceSweep {
		t.Errorf("%d are known", len(p.known))
	}
}

func TestPaceEndsWithTheGateway(t *testing.T) {
	m := newMetrics(nil)
	p := newPace(Options{PublishRate: 0.001, MaxPayload: 1000}, m)
	var ending atomic.Bool
	p.hold(t.Context(), "a", 1, &ending)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	p.hold(ctx, "a", 1, &ending)
	go ending.Store(true)
	p.hold(t.Context(), "a", 1, &ending)
	if took := time.Since(began); took > waitMost { // without that, 1000 s
		t.Errorf("held %v", took)
	}
	var none *pace
	none.hold(t.Context(), "a", 1, &ending)
	if newPace(Options{}, m) != nil {
		t.Error("no limit, and a pace")
	}
}

// An endpoint that sends too much is slowed and loses nothing; its neighbour does not notice, nor does its keep-alive
// end it.
func TestPublishRateSlowsTheSender(t *testing.T) {
	r := start(t, func(o *Options) { o.PublishRate = 10 })
	h := dev("d1")
	h.keepAlive = 2 // it is held for longer than the 3 s that this gives it, which are also the machine's for all else
	fast, other := r.connect(t, h), r.connect(t, dev("d2"))
	pulse, began := testkit.StartPulse(t), time.Now()
	const messages = 45
	for i := range messages {
		fast.publish("meterline/v1/d1/up/readings", fmt.Sprint(i), 1, uint16(i+1))
	}
	at := time.Now()
	other.publish("meterline/v1/d2/up/readings", "mine", 1, 1)
	other.expect(packets.Puback)
	if took := time.Since(at); took > pulse.Limit(500*time.Millisecond) {
		t.Errorf("the neighbour waited %v", took)
	}
	for i := range messages {
		if ack := fast.expect(packets.Puback); ack.PacketID != uint16(i+1) {
			t.Fatalf("PUBACK %d", ack.PacketID)
		}
	}
	took := time.Since(began)
	if least := 3400 * time.Millisecond; took < least { // 10 at once, 35 at 10 a second
		t.Errorf("%d messages took %v", messages, took)
	}
	fast.ping()
	if held := r.metric(t, "publish_held_seconds_total"); held < 3-10*pulse.Longest().Seconds() || held <= 0 || held > took.Seconds() {
		t.Errorf("held %v s of %v", held, took)
	}
	i := 0
	for _, up := range r.log.awaitKind(t, command.UplinkReadings, messages+1) {
		if up.Endpoint != "d1" {
			continue
		}
		if string(up.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, up.Payload)
		}
		i++
	}
}

func TestPublishBytesSlowTheSender(t *testing.T) {
	r := start(t, func(o *Options) { o.PublishBytes, o.MaxPayload = 400<<10, 256<<10 })
	c := r.connect(t, dev("d1"))
	began := time.Now()
	for i := range 4 { // 800 KiB: 400 at once
		c.publish("meterline/v1/d1/up/readings", string(make([]byte, 200<<10)), 1, uint16(i+1))
	}
	for range 4 {
		c.expect(packets.Puback)
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("took %v", took)
	}
}
