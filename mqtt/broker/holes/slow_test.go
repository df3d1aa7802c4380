package holes_test

import (
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/testkit"
)

const promptly = 3 * time.Second // generous: with the race detector, on a machine that does a lot beside; docs/edge.md has figures

// A subscriber at QoS 1 that does not read, among others of the same publisher.
func slowSubscriberPlain(t *testing.T) {
	const n = 20_000
	at := plain(t)
	slow := service("slow")
	slow.tiny, slow.keepAlive = true, 60
	connect(t, at, slow).subscribe("news")
	acked, _ := connect(t, at, service("pub")).feed("news", 0, n, 1024, 1500*time.Millisecond)
	if acked == n {
		gone(t, "all were acknowledged")
	}
	t.Logf("the publisher's PUBACKs stop after %d messages of 1 KiB", acked)
}

func slowSubscriberEndpoint(t *testing.T) {
	o := ours(t)
	slow := endpoint("d1")
	slow.tiny = true
	o.online(t, slow)
	good, b := o.online(t, endpoint("d2")), o.backend(t, "b")
	var feeding sync.WaitGroup
	done := make(chan struct{})
	feeding.Go(func() {
		defer close(done)
		o.backend(t, "flood").feed(commands("d1"), 0, 500, 16<<10, waitMost)
	})
	var longest time.Duration
	pulse, trips := testkit.StartPulse(t), 0
	for busy := true; busy; trips++ {
		began := time.Now()
		b.feedAll(commands("d2"), trips, trips+1, 0)
		inOrder(t, numbers(good.take(1, true)), trips, trips+1)
		longest = max(longest, time.Since(began))
		select {
		case <-done:
			busy = false
		default:
		}
	}
	feeding.Wait()
	if longest > pulse.Limit(promptly) {
		t.Errorf("another device waited %v", longest)
	}
	t.Logf("500 commands of 16 KiB for a device that does not read: another got %d meanwhile, none later than after %v", trips, longest)
}

func slowSubscriberService(t *testing.T) {
	o := ours(t)
	h := service("slow")
	h.tiny, h.keepAlive = true, 60
	slow, good, pub := connect(t, o.address(), h), connect(t, o.address(), service("good")), connect(t, o.address(), service("pub"))
	slow.subscribe("news")
	good.subscribe("news")
	var longest time.Duration
	pulse := testkit.StartPulse(t)
	for i := range 100 {
		acked, took := pub.feed("news", 200*i, 200*(i+1), 1024, waitMost)
		if acked != 200 {
			t.Fatalf("round %d: %d acknowledged", i, acked)
		}
		inOrder(t, numbers(good.take(200, true)), 200*i, 200*(i+1))
		longest = max(longest, took)
	}
	if longest > pulse.Limit(promptly) {
		t.Errorf("the publisher waited %v", longest)
	}
	eventually(t, "the slow one is disconnected", func() bool { return o.clients() == 2 })
	t.Logf("20000 messages of 1 KiB: the publisher waited %v at most, the other subscriber got them all, the slow one was disconnected", longest)
}

// stall makes a connected subscriber of topic, which does not read, as full as can be.
func stall(t *testing.T, at, topic string) {
	f := connect(t, at, service("flood"))
	for range 4 {
		f.flood(topic, 5000, 1024)
	}
}

func stalledTakeoverPlain(t *testing.T) {
	const patience = 2 * time.Second
	at := plain(t)
	old := service("dev")
	old.tiny = true
	connect(t, at, old).subscribe("news")
	stall(t, at, "news")
	again := open(t, at, service("dev"))
	again.hello(service("dev"))
	if pk, err := again.next(patience); err == nil {
		gone(t, "answered by %s", packets.PacketNames[pk.FixedHeader.Type])
	}
	t.Logf("keep-alive 0, the old link does not read: no CONNACK within %v", patience)
}

func stalledTakeoverEndpoint(t *testing.T) {
	o := ours(t)
	h := endpoint("d1")
	h.tiny = true
	o.online(t, h)
	b := o.backend(t, "b")
	b.feedAll(commands("d1"), 0, 5, 200<<10)
	pulse, began := testkit.StartPulse(t), time.Now()
	o.online(t, endpoint("d1"))
	took := time.Since(began)
	eventually(t, "the old link is closed", func() bool { return o.clients() == 2 })
	if took > pulse.Limit(promptly) {
		t.Errorf("it took %v", took)
	}
	o.log.await(t, command.UplinkUndeliverable, 0, 1, 2, 3, 4)
	t.Logf("CONNACK and SUBACK after %v; the 5 commands on the old link are told undeliverable", took)
}

func stalledTakeoverService(t *testing.T) {
	o := ours(t)
	h := service("dev")
	h.tiny = true
	connect(t, o.address(), h).subscribe("news")
	stall(t, o.address(), "news")
	pulse, began := testkit.StartPulse(t), time.Now()
	connect(t, o.address(), service("dev"))
	took := time.Since(began)
	eventually(t, "the old link is closed", func() bool { return o.clients() == 2 })
	if took > pulse.Limit(promptly) {
		t.Errorf("it took %v", took)
	}
	t.Logf("CONNACK after %v", took)
}
