package holes_test

import (
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
)

// offline lets n messages be acknowledged while their only subscriber, with a persistent session, is away, and returns
// the subscriber when it is back.
func offline(t *testing.T, at string, n int) *client {
	sub := connect(t, at, service("sub").keep())
	sub.subscribe("queue")
	sub.leave()
	connect(t, at, service("pub")).feedAll("queue", 0, n, 0)
	return connect(t, at, service("sub").keep())
}

func offlineQueuePlain(t *testing.T) {
	const n = 10_000
	pks, _ := offline(t, plain(t), n).rest(true)
	got := numbers(pks)
	if len(got) == n || inversions(got) == 0 {
		gone(t, "%d of %d came, with %d inversions", len(got), n, inversions(got))
	}
	t.Logf("%d acknowledged, %d lost, %d inversions", n, n-len(got), inversions(got))
}

// Nothing is queued for an endpoint that is away: every command is told to be undeliverable.
func offlineQueueEndpoint(t *testing.T) {
	const n = 1000
	o := ours(t)
	o.backend(t, "b").feedAll(commands("d1"), 0, n, 0)
	o.log.await(t, command.UplinkUndeliverable, n-1)
	inOrder(t, o.log.of(command.UplinkUndeliverable), 0, n)
}

func offlineQueueService(t *testing.T) {
	few := offline(t, ours(t).address(), 500)
	if !few.connack.SessionPresent {
		t.Error("the session was not there")
	}
	inOrder(t, numbers(few.take(500, true)), 0, 500)
	const n = 10_000
	o := ours(t)
	back := offline(t, o.address(), n)
	pks, _ := back.until(true, func(pks []packets.Packet) bool { return len(pks)+o.dropped() >= n || !back.connack.SessionPresent })
	got := numbers(pks)
	if inversions(got) > 0 || back.connack.SessionPresent && len(got)+o.dropped() < n {
		t.Errorf("%d came (session present: %t), %d were counted as dropped, %d inversions", len(got), back.connack.SessionPresent, o.dropped(), inversions(got))
	}
	t.Logf("%d acknowledged: %d came in order, %d counted as dropped; session present %t", n, len(got), o.dropped(), back.connack.SessionPresent)
}

// A subscriber reads everything as it comes, and acknowledges it later.
func laggingAcksPlain(t *testing.T) {
	const n = 8_500
	c := spawn(t, spec{})
	sub := connect(t, c.at, service("sub"))
	sub.subscribe("burst")
	failed := make(chan int, 1)
	go func() { failed <- c.number(t, "publish burst 8500") }()
	refused, returned := 0, false
	pks, over := sub.until(false, func([]packets.Packet) bool { // while Publish is being called
		select {
		case refused = <-failed:
			returned = true
		default:
		}
		return returned
	})
	more, _ := sub.rest(false)
	pks = append(pks, more...)
	sub.puback(pks...)
	later, _ := sub.rest(true)
	got := numbers(append(pks, later...))
	if refused > 0 || over || len(got) == n {
		gone(t, "%d came of %d, %d were refused, disconnected %t", len(got), n, refused, over)
	}
	t.Logf("Server.Publish returned nil %d times, %d lost, the subscriber stays connected", n, n-len(got))
}

// Whatever of a burst does not fit is told; the rest waits for the endpoint.
func laggingAcksEndpoint(t *testing.T) {
	const each, fit = 600, 16 + 256 // the window, and what waits for it
	o := ours(t)
	d := o.online(t, endpoint("d1"))
	var publishers sync.WaitGroup
	for i, id := range []string{"b1", "b2", "b3", "b4"} {
		b := o.backend(t, id)
		publishers.Go(func() { b.feed(commands("d1"), i*each, (i+1)*each, 0, waitMost) })
	}
	first := d.take(16, false)
	publishers.Wait()
	d.puback(first...)
	got := numbers(append(first, d.take(fit-16, true)...))
	eventually(t, "the rest is told", func() bool { return len(o.log.of(command.UplinkUndeliverable)) >= 4*each-fit })
	told := o.log.of(command.UplinkUndeliverable)
	if missing := without(4*each, got, told); len(missing) > 0 || len(got)+len(told) > 4*each {
		t.Errorf("%d came, %d were told undeliverable; lost: %v", len(got), len(told), missing)
	}
	t.Logf("%d commands: %d delivered, %d told undeliverable, none lost", 4*each, len(got), len(told))
}

func laggingAcksService(t *testing.T) {
	o := ours(t)
	for _, n := range []int{500, 10_000} {
		sub, pub := connect(t, o.address(), service("sub")), connect(t, o.address(), service("pub"))
		sub.subscribe("burst")
		published := make(chan struct{})
		go func() {
			pub.feed("burst", 0, n, 0, waitMost)
			close(published)
		}()
		first, over := sub.until(false, func([]packets.Packet) bool {
			select {
			case <-published:
				return true
			default:
				return false
			}
		})
		<-published
		sub.puback(first...)
		later, ended := sub.until(true, func(pks []packets.Packet) bool { return len(first)+len(pks)+o.dropped() >= n })
		pks := numbers(append(first, later...))
		over = over || ended
		switch {
		case n == 500:
			inOrder(t, pks, 0, n)
		case inversions(pks) > 0, len(pks)+o.dropped() < n && !over:
			t.Errorf("%d of %d came, %d were counted as dropped; disconnected %t", len(pks), n, o.dropped(), over)
		}
		t.Logf("%d acknowledged, %d came, %d counted as dropped; disconnected %t", n, len(pks), o.dropped(), over)
	}
}

// full floods a subscriber that reads, but slowly, at QoS 0, while n messages at QoS 1 are published to it, and returns
// those that reach it and how many were acknowledged. What does not come within the patience is lost.
func full(t *testing.T, at string, n int, patience time.Duration) (got []int, acked int, over bool) {
	sub, pub := connect(t, at, service("sub")), connect(t, at, service("pub"))
	sub.subscribe("mixed")
	acknowledged, stop := make(chan struct{}), make(chan struct{})
	var flooding, reading sync.WaitGroup
	floods := []*client{connect(t, at, service("f1")), connect(t, at, service("f2"))}
	for _, f := range floods {
		f.flood("mixed", 15_000, 1000) // until the queue is full
	}
	for _, f := range floods {
		flooding.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f.pour("mixed", 100, 1000)
				}
			}
		})
	}
	reading.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; len(got) < n; i++ {
			pk, err := sub.next(patience)
			if err != nil {
				over = !errors.Is(err, os.ErrDeadlineExceeded)
				return
			}
			if pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos == 1 {
				sub.puback(pk)
				got = append(got, numbers([]packets.Packet{pk})...)
			}
			if i%5 > 0 {
				continue
			}
			select {
			case <-acknowledged:
			case <-tick.C:
			}
		}
	})
	acked, _ = pub.feed("mixed", 0, n, 0, max(patience, 10*time.Second))
	close(stop)
	close(acknowledged)
	flooding.Wait()
	reading.Wait()
	return got, acked, over
}

// Whether the queue is full when a message meets it is a race; should a run not meet it, the plain side says so.
func fullQueuePlain(t *testing.T) {
	const n = 50
	got, acked, over := full(t, plain(t), n, 2*time.Second)
	lost := len(without(acked, got))
	if over {
		gone(t, "disconnected")
	}
	if lost == 0 {
		t.Logf("NOT MET in this run: %d acknowledged, %d came", acked, len(got))
		return
	}
	t.Logf("%d acknowledged, %d lost, the subscriber stays connected", acked, lost)
}

// Commands that do not fit are told at once, those that do are delivered.
func fullQueueEndpoint(t *testing.T) {
	const n, fit = 400, 16 + 256
	o := ours(t)
	d := o.online(t, endpoint("d1"))
	o.backend(t, "b").feedAll(commands("d1"), 0, n, 0)
	o.log.await(t, command.UplinkUndeliverable, n-1)
	inOrder(t, o.log.of(command.UplinkUndeliverable), fit, n)
	inOrder(t, numbers(d.take(fit, true)), 0, fit)
}

func fullQueueService(t *testing.T) {
	const n = 50
	got, acked, over := full(t, ours(t).address(), n, waitMost)
	if acked < n {
		t.Errorf("%d of %d were acknowledged", acked, n)
	}
	if len(got) < n && !over {
		t.Errorf("%d of %d came, and the subscriber is still connected", len(got), n)
	}
	if !slices.IsSorted(got) {
		t.Error("out of order")
	}
	t.Logf("%d acknowledged, %d came; disconnected %t", acked, len(got), over)
}
