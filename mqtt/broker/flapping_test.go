package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
)

func TestAFlappingEndpointIsHeldOff(t *testing.T) {
	r := start(t, func(o *Options) { o.FlapLimit = 3 })
	calm := r.listening(t, dev("d2"))
	var last *client
	for range 3 {
		r.answered(t, 5, dev("d1").with("wrong")) // does not count: anybody could
		last = r.connect(t, dev("d1"))
	}
	r.answered(t, 3, dev("d1"))
	if c := r.dial(t, dev("d1").v5()); c.connack.ReasonCode != packets.ErrConnectionRateExceeded.Code {
		t.Errorf("MQTT 5 is answered %#x", c.connack.ReasonCode)
	}
	last.ping() // one of the two may stay
	calm.ping()
	r.answered(t, 0, hi{id: "d1:side", user: "d1", pass: "d1"})
	r.answered(t, 0, dev("d3"))
	event := r.log.awaitKind(t, command.UplinkSecurity, 1)
	if len(event) != 1 || event[0].Endpoint != "d1" || !strings.Contains(string(event[0].Payload), `"type":"security.flapping"`) {
		t.Errorf("%d events, %s", len(event), event[0].Payload)
	}
	if now, all, refused := r.metric(t, "held_off"), r.metric(t, "hold_offs_total"), r.metric(t, "clients_refused_total", "reason", "flapping"); now != 1 || all != 1 || refused != 2 {
		t.Errorf("%v held off, %v in all, %v refused", now, all, refused)
	}
	f := r.front.admission.flapping
	setClock(&f.mu, &f.now, time.Now().Add(holdFirst+time.Second))
	r.answered(t, 0, dev("d1")) // released by itself
}

func TestHoldOffsGrowUntilItBehaves(t *testing.T) {
	f := newFlapping(Options{FlapLimit: 2}, nil, newMetrics(nil))
	now := time.Now()
	f.now = func() time.Time { return now }
	who := flapper{endpoint: "d1"}
	for _, minutes := range []int{1, 2, 4, 5, 5} {
		want := time.Duration(minutes) * time.Minute
		for range 2 {
			if _, _, ok := f.count(who); !ok {
				t.Fatal("held off too early")
			}
		}
		lasts, begins, ok := f.count(who)
		if ok || !begins || lasts != want {
			t.Fatalf("held off for %v, want %v", lasts, want)
		}
		now = now.Add(lasts - time.Second)
		if _, begins, ok := f.count(who); ok || begins {
			t.Fatal("released too early, or told twice")
		}
		now = now.Add(2 * time.Second)
	}
	now = now.Add(holdForgets)
	f.count(who)
	f.count(who)
	if lasts, _, _ := f.count(who); lasts != time.Minute {
		t.Errorf("held off for %v after it behaved", lasts)
	}
	// Three connects, but not within a minute.
	for range 5 {
		now = now.Add(holdMost + holdForgets + flapWindow)
		if _, _, ok := f.count(who); !ok {
			t.Fatal("held off for connects long ago")
		}
	}
}
