package plain

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestAQueueThatIsFullDisconnects(t *testing.T) {
	for name, o := range map[string]Options{
		"messages": {Inflight: 1, Queue: 3},
		"bytes":    {Inflight: 1, QueueBytes: 3 * (overhead + 2)},
		"total":    {Inflight: 1, TotalBytes: 3 * (overhead + 2), InflightBytes: 2 * (overhead + 2)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, o)
			slow, good := r.resume5("slow"), r.v5("good")
			slow.subscribe("t", 1)
			r.send("t", 1, 0, 4) // one in flight, three in the queue
			slow.alive()
			good.subscribe("t", 1)
			r.send("t", 1, 4, 6)
			slow.stoppedWith(packets.ErrQuotaExceeded)
			good.want("t=4 q1")
			good.alive()
		})
	}
}

func TestOfflineQueueDropsTheNewest(t *testing.T) {
	r := newRig(t, Options{Queue: 3})
	c := r.resume4("c")
	c.subscribe("t", 1)
	c.drop()
	r.send("t", 1, 0, 5)
	if n := count(t, r.metrics.dropped.queue); n != 2 {
		t.Errorf("%v dropped", n)
	}
	r.resume4("c").want("t=0 q1", "t=1 q1", "t=2 q1")
	if n, bytes := r.queued.Load(), r.queuedBytes.Load(); n != 0 || bytes != 0 {
		t.Errorf("%d queued, %d bytes", n, bytes)
	}
}

func TestExpiredMessagesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Queue: 2})
		c := r.resume5("c")
		c.subscribe("t", 1)
		c.drop()
		soon := time.Now().Add(5 * time.Second)
		r.Publish(Message{Topic: "t", Payload: []byte("stale"), QoS: 1, Expires: soon})
		r.Publish(Message{Topic: "t", Payload: []byte("1"), QoS: 1})
		time.Sleep(5 * time.Second)
		r.Publish(Message{Topic: "t", Payload: []byte("2"), QoS: 1})
		r.Publish(Message{Topic: "t", Payload: []byte("3"), QoS: 1})
		r.resume5("c").want("t=1 q1", "t=2 q1")
	})
}

// What is in flight is bounded in bytes too, so that a queue does not end up in the link's backlog.
func TestInflightBytes(t *testing.T) {
	r := newRig(t, Options{InflightBytes: 2 * (overhead + 101)})
	c := r.v5("c")
	c.subscribe("t", 1)
	for range 5 {
		r.Publish(Message{Topic: "t", Payload: make([]byte, 100), QoS: 1})
	}
	one := c.expect(packets.Publish)
	c.expect(packets.Publish)
	c.nothing()
	c.do(ack(packets.Puback, one.PacketID))
	c.expect(packets.Publish)
	c.nothing()
	big := r.v5("big") // one always goes
	big.subscribe("u", 2)
	r.Publish(Message{Topic: "u", Payload: make([]byte, 10_000), QoS: 2})
	r.Publish(Message{Topic: "u", QoS: 1})
	pk := big.expect(packets.Publish)
	big.nothing()
	big.do(ack(packets.Pubrec, pk.PacketID)) // the message can be forgotten: there is room
	big.expect(packets.Pubrel)
	big.want("u= q1")
}

// Without room in the link, messages wait in the queue, in order, and at QoS 0 too.
func TestFlow(t *testing.T) {
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		c := fresh("c")
		c.subscribe("t", 2)
		c.setFull(true)
		for i := range 300 {
			r.Publish(Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: byte(i % 3)})
		}
		c.nothing()
		c.s.Resume()
		c.nothing()
		c.setFull(false)
		c.s.Resume()
		for i := range 300 {
			if got, want := c.message(), fmt.Sprintf("t=%d q%d", i, i%3); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
		c.setFull(true)
		r.Publish(Message{Topic: "t", Payload: []byte("lost")})
		c.drop()
		if n := count(t, r.metrics.dropped.away); n != 1 {
			t.Errorf("%v dropped", n)
		}
	})
}

// A blocked client must not keep others waiting, whatever it subscribed to.
func TestOneStalledClientHoldsUpNobody(t *testing.T) {
	r := newRig(t, Options{Queue: 10})
	stalled, good := r.resume5("stalled"), r.v5("good")
	stalled.subscribe("#", 1)
	stalled.setFull(true)
	good.subscribe("t", 1)
	for range 100 {
		good.publish("t", "x", 1)
		good.do(ack(packets.Puback, good.expect(packets.Publish).PacketID))
	}
	stalled.stoppedWith(packets.ErrQuotaExceeded)
	good.alive()
}

func TestEverythingIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := running(t, Options{})
		for i := range 20 {
			c := r.link(&wire{}, Connect{
				Key: fmt.Sprint(i), Version: 5, SessionExpiry: uint32(i), ReceiveMaximum: 2,
				Will: &Will{Message: Message{Topic: "t", QoS: 2}, Delay: uint32(i / 2)},
			})
			c.subscribe("t", byte(i%3), subID(i+1))
			c.subscribe("+/#", 1)
			c.subscribe("$share/g/t", 2)
			c.publish("t", "x", 1)
			c.do(publish("t", "y", 2, 99))
			if i%3 > 0 {
				c.drop()
			}
		}
		r.send("t", 2, 0, 50)
		for i := range 20 {
			r.link(&wire{}, Connect{Key: fmt.Sprint(i), Version: 5, SessionExpiry: 30}).drop()
		}
		after(time.Minute)
		r.empty()
	})
}

// What a filter takes in memory goes by its levels, not by its length, and a client may have many sessions.
func TestDeepFiltersAreBounded(t *testing.T) {
	deep := func(i int) string { return fmt.Sprint(i) + strings.Repeat("/+", 99) }
	subscribed := func(c *client, filter string) bool {
		return c.subscribe(filter, 0) < packets.ErrUnspecifiedError.Code
	}
	for name, o := range map[string]Options{
		"of a session":  {FilterBytes: 4000},
		"in all":        {Branches: 400},
		"subscriptions": {Subscribed: 4},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, o)
			c := r.v5("c")
			n := 0
			for n < 100 && subscribed(c, deep(n)) {
				n++
			}
			if n < 3 || n > 4 {
				t.Errorf("%d filters of 100 levels", n)
			}
			if ok, want := subscribed(r.v5("other"), "x/y"), name == "of a session"; ok != want {
				t.Errorf("another session: subscribed %v", ok)
			}
			c.drop()
			if !subscribed(r.v5("third"), deep(0)) {
				t.Error("there is no room after the first has gone")
			}
		})
	}
}
