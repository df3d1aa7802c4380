package holes_test

import (
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const job = "$share/workers/jobs"

// workers connects two that share a subscription.
func workers(t *testing.T, at string, a, b hello) (first, second *client) {
	first, second = connect(t, at, a), connect(t, at, b)
	first.subscribe(job)
	second.subscribe(job)
	return first, second
}

// dying lets one of two workers read its share of 200 jobs without PUBACK and die. It returns what that got, and the other.
func dying(t *testing.T, at string) (dead []int, alive *client) {
	a, b := workers(t, at, service("a"), service("b"))
	connect(t, at, service("pub")).feedAll("jobs", 0, 200, 0)
	theirs, _ := a.rest(false)
	a.die()
	return numbers(theirs), b
}

func shareOfTheDeadPlain(t *testing.T) {
	dead, b := dying(t, plain(t))
	pks, _ := b.rest(true)
	lost := without(200, numbers(pks))
	if len(lost) == 0 {
		gone(t, "the other worker got everything")
	}
	t.Logf("200 jobs, %d of them at a worker that dies without PUBACK: %d never reach the other", len(dead), len(lost))
}

// shareEndpoint: an endpoint has nothing to share.
func shareEndpoint(t *testing.T) {
	o := ours(t)
	d := connect(t, o.address(), endpoint("d1"))
	if code := d.ask("$share/workers/"+commands("d1"), 1); code != 0x80 {
		t.Errorf("SUBACK %#x", code)
	}
}

func shareOfTheDeadService(t *testing.T) {
	dead, b := dying(t, ours(t).address())
	pks, _ := b.until(true, func(pks []packets.Packet) bool { return len(without(200, numbers(pks))) == 0 })
	if lost := without(200, numbers(pks)); len(lost) > 0 || len(dead) == 0 {
		t.Fatalf("%d jobs were at the dead worker, %d never reached the other", len(dead), len(lost))
	}
	t.Logf("%d jobs at a worker that dies: all reach the other", len(dead))
}

func shareOfTheAbsentPlain(t *testing.T) {
	at := plain(t)
	a, b := workers(t, at, service("a").keep(), service("b").keep())
	a.leave()
	connect(t, at, service("pub")).feedAll("jobs", 0, 200, 0)
	pks, _ := b.rest(true)
	if len(pks) == 200 {
		gone(t, "the worker that is there got everything")
	}
	t.Logf("200 jobs, one of two workers away: %d reach the other, %d wait for the one that is away", len(pks), 200-len(pks))
}

func shareOfTheAbsentService(t *testing.T) {
	at := ours(t).address()
	a, b := workers(t, at, service("a").keep(), service("b").keep())
	a.leave()
	connect(t, at, service("pub")).feedAll("jobs", 0, 200, 0)
	inOrder(t, numbers(b.take(200, true)), 0, 200)
}

// brief is a worker whose session lasts a second.
func brief() hello {
	h := service("a").keep().five()
	h.expiry = 1
	return h
}

func shareOfTheExpiredPlain(t *testing.T) {
	c := spawn(t, spec{})
	a, b := workers(t, c.at, brief(), service("b"))
	a.leave()
	eventually(t, "the session expires", func() bool { return c.number(t, "clients") == 1 })
	connect(t, c.at, service("pub")).feedAll("jobs", 0, 200, 0)
	mine, _ := b.rest(true)
	again := connect(t, c.at, brief())
	theirs, _ := again.rest(true)
	if len(mine)+len(theirs) == 200 {
		gone(t, "%d and %d came", len(mine), len(theirs))
	}
	t.Logf("200 jobs, the session of one of two workers has expired: %d reach the other, %d are lost", len(mine), 200-len(mine)-len(theirs))
}

// Before, while and after the session expires, the other worker gets every job.
func shareOfTheExpiredService(t *testing.T) {
	at := ours(t).address()
	a, b := workers(t, at, brief(), service("b"))
	a.leave()
	pub := connect(t, at, service("pub"))
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := range 16 {
		pub.feedAll("jobs", 20*i, 20*(i+1), 0)
		inOrder(t, numbers(b.take(20, true)), 20*i, 20*(i+1))
		<-tick.C
	}
	if again := connect(t, at, brief()); again.connack.SessionPresent {
		t.Error("the session had not expired")
	}
}
