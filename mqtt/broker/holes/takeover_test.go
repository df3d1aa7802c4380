package holes_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const rivals = 6 // simultaneous CONNECTs with one client id

// compete opens as many connections as there are rivals, which all say CONNECT at once.
func compete(t *testing.T, at string, h hello) []*client {
	all := make([]*client, rivals)
	for i := range all {
		all[i] = open(t, at, h)
	}
	var connecting sync.WaitGroup
	for _, c := range all {
		connecting.Go(func() { c.hello(h) })
	}
	connecting.Wait()
	return all
}

// living are those that were admitted and are answered, when all have been or are closed.
func living(all []*client) (alive []*client) {
	for _, c := range all {
		if c.alive(waitMost) {
			alive = append(alive, c)
		}
	}
	return alive
}

// rivalsOfTheStalled are those who live on of the rivals for the id of a connection that is stalled. They all find it, wait for
// it, and none finds another, if all have said CONNECT in the time until it dies.
func rivalsOfTheStalled(t *testing.T, at, id string, lasts time.Duration) []*client {
	h := service(id)
	h.tiny = true
	old := connect(t, at, h)
	old.subscribe("news")
	stall(t, at, "news")
	all := compete(t, at, service(id))
	for _, c := range all {
		if pk, err := c.next(lasts / rivals); err == nil {
			t.Fatalf("%s while the old link is stalled", packets.PacketNames[pk.FixedHeader.Type])
		}
	}
	old.die()
	return living(all)
}

func zombiesPlain(t *testing.T) {
	at := plain(t)
	var alive []*client
	for try := range 4 { // on a busy machine with more time
		if alive = rivalsOfTheStalled(t, at, fmt.Sprint("dev", try), time.Second<<try/2); len(alive) > 1 {
			break
		}
	}
	for i, c := range alive {
		c.ask(fmt.Sprintf("to/%d", i), 1)
	}
	if len(alive) < 2 {
		gone(t, "%d alive", len(alive))
	}
	pub, reached := connect(t, at, service("pub")), 0
	for i, c := range alive {
		pub.feedAll(fmt.Sprintf("to/%d", i), 0, 1, 0)
		if pks, _ := c.rest(true); len(pks) > 0 {
			reached++
		}
	}
	t.Logf("%d simultaneous CONNECTs: %d connections live on, messages reach %d of them", rivals, len(alive), reached)
}

// survivor wants that one rival lives on.
func survivor(t *testing.T, all []*client) *client {
	t.Helper()
	for deadline := time.Now().Add(waitMost); ; {
		all = living(all)
		if len(all) == 1 {
			return all[0]
		}
		if len(all) == 0 || time.Now().After(deadline) {
			t.Fatalf("%d of %d live on", len(all), rivals)
		}
	}
}

const rounds = 20

func zombiesEndpoint(t *testing.T) {
	o := ours(t)
	b := o.backend(t, "b")
	for i := range rounds {
		h := endpoint(fmt.Sprintf("d%d", i+1))
		c := survivor(t, compete(t, o.address(), h))
		c.subscribe(commands(h.id))
		b.feedAll(commands(h.id), i, i+1, 0)
		inOrder(t, numbers(c.take(1, true)), i, i+1)
	}
	t.Logf("%d rounds of %d simultaneous CONNECTs: one lives on, and is reached", rounds, rivals)
}

func zombiesService(t *testing.T) {
	at := ours(t).address()
	pub := connect(t, at, service("pub"))
	for i := range rounds {
		h := service(fmt.Sprintf("dev%d", i))
		topic := "to/" + h.id
		if i == 0 { // as in the plain case
			h.tiny = true
			connect(t, at, h).subscribe("news")
			stall(t, at, "news")
		}
		c := survivor(t, compete(t, at, h))
		c.subscribe(topic)
		pub.feedAll(topic, i, i+1, 0)
		inOrder(t, numbers(c.take(1, true)), i, i+1)
	}
	t.Logf("%d rounds of %d simultaneous CONNECTs: one lives on, and is reached", rounds, rivals)
}

// A store that takes its time when a session ends: the old connection removes the one that took it over.
func removedPlain(t *testing.T) {
	c := spawn(t, spec{Hook: "slow"})
	pub := connect(t, c.at, service("pub"))
	for try := range 5 {
		h := service(fmt.Sprintf("dev%d", try))
		connect(t, c.at, h).subscribe("news")
		again := connect(t, c.at, h)
		again.subscribe("news")
		for deadline := time.Now().Add(2 * time.Second); c.number(t, "clients") > 1 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond) // the old connection is being forgotten
		}
		pub.feedAll("news", try, try+1, 0)
		if pks, over := again.rest(true); len(pks) == 0 && !over {
			t.Logf("the new connection is answered (%t), has its subscription, and gets nothing; try %d", again.alive(waitMost), try+1)
			return
		}
		again.leave()
	}
	gone(t, "the new connection was reached every time")
}

func removedEndpoint(t *testing.T) {
	o := ours(t)
	o.sessions.delay(20 * time.Millisecond)
	b := o.backend(t, "b")
	for i := range rounds {
		h := endpoint(fmt.Sprintf("d%d", i+1))
		old := o.online(t, h)
		again := o.online(t, h)
		old.closed(waitMost)
		for n := range 3 {
			b.feedAll(commands(h.id), n, n+1, 0)
			inOrder(t, numbers(again.take(1, true)), n, n+1)
		}
	}
	t.Logf("%d takeovers with a store that takes 20 ms: the new connection is reached every time", rounds)
}

func removedService(t *testing.T) {
	at := ours(t).address()
	pub := connect(t, at, service("pub"))
	for i := range rounds {
		h := service(fmt.Sprintf("dev%d", i))
		old := connect(t, at, h)
		old.subscribe("to/" + h.id)
		again := connect(t, at, h)
		again.subscribe("to/" + h.id)
		old.closed(waitMost)
		for n := range 3 {
			pub.feedAll("to/"+h.id, n, n+1, 0)
			inOrder(t, numbers(again.take(1, true)), n, n+1)
		}
	}
	t.Logf("%d takeovers: the new connection is reached every time", rounds)
}

// takenOver returns what an old connection of MQTT 3.1.1 is told when another takes it over.
func takenOver(t *testing.T, at string, h hello) []packets.Packet {
	old := connect(t, at, h)
	connect(t, at, h)
	return old.closed(waitMost)
}

func disconnect311Plain(t *testing.T) {
	told := takenOver(t, plain(t), service("dev"))
	if len(told) == 0 || told[0].FixedHeader.Type != packets.Disconnect {
		gone(t, "%v", told)
	}
	t.Log("a 3.1.1 client that is taken over is sent a DISCONNECT, which only clients may send there")
}

func disconnect311Endpoint(t *testing.T) {
	if told := takenOver(t, ours(t).address(), endpoint("d1")); len(told) > 0 {
		t.Errorf("sent %s", packets.PacketNames[told[0].FixedHeader.Type])
	}
}

func disconnect311Service(t *testing.T) {
	if told := takenOver(t, ours(t).address(), service("dev")); len(told) > 0 {
		t.Errorf("sent %s", packets.PacketNames[told[0].FixedHeader.Type])
	}
}
