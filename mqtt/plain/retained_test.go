package plain

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestRetained(t *testing.T) {
	both(t, func(t *testing.T, r *rig, fresh, _ func(string) *client) {
		p, live := fresh("publisher"), fresh("live")
		live.subscribe("#", 2)
		p.publish("a/b", "old", 1, retain)
		p.publish("a/b", "new", 2, retain)                                    // [MQTT-3.3.1-5]
		p.publish("a/b", "not kept", 1)                                       // [MQTT-3.3.1-8]
		p.publish("a", "zero", 0, retain)                                     // at QoS 0 too
		live.want("a/b=old q1", "a/b=new q2", "a/b=not kept q1", "a=zero q0") // flag 0 [MQTT-3.3.1-12], of 3.1.1 [MQTT-3.3.1-9]
		for granted := byte(0); granted <= 2; granted++ {
			c := fresh("c")
			c.subscribe("a/b", granted)
			c.want(fmt.Sprintf("a/b=new q%d retain", granted)) // of 3.1.1 [MQTT-3.3.1-8]
			c.subscribe("$share/g/a/b", granted)
			c.nothing() // [4.8.2]
		}
		p.publish("a/b", "", 1, retain) // forgotten, and given out [MQTT-3.3.1-6] [MQTT-3.3.1-7]
		live.want("a/b= q1")
		p.publish("none", "", 0, retain)
		live.want("none= q0")
		c := fresh("c")
		c.subscribe("#", 1)
		c.want("a=zero q0 retain")
		p.publish("a", "", 0, retain)
		if n, bytes := r.retained.size(); n != 0 || bytes != 0 || r.retained.root.children != nil {
			t.Errorf("%d retained, %d bytes, %v", n, bytes, r.retained.root)
		}
	})
}

func TestRetainHandling(t *testing.T) { // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
	r := newRig(t, Options{})
	r.Publish(Message{Topic: "t", Payload: []byte("x"), Retain: true})
	for handling, want := range [][2]bool{{true, true}, {true, false}, {false, false}} {
		c := r.v5("c")
		for _, sent := range want {
			c.subscribe("t", 0, option(func(s *packets.Subscription) { s.RetainHandling = byte(handling) }), subID(8))
			if sent {
				c.want("t=x q0 retain [8]")
			}
			c.nothing()
		}
		c.unsubscribe("t")
		c.subscribe("t", 0, option(func(s *packets.Subscription) { s.RetainHandling = byte(handling) }))
		if want[0] { // new again
			c.want("t=x q0 retain")
		}
		c.nothing()
	}
	old := r.v4("old") // of 3.1.1 [MQTT-3.8.4-3]
	for range 2 {
		old.subscribe("t", 0)
		old.want("t=x q0 retain")
	}
}

func TestRetainAsPublished(t *testing.T) { // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
	r := newRig(t, Options{})
	c := r.v5("c")
	asPublished := option(func(s *packets.Subscription) { s.RetainAsPublished = true })
	c.subscribe("t", 0, asPublished)
	c.subscribe("$share/g/t", 1, asPublished)
	c.subscribe("+", 0)
	r.Publish(Message{Topic: "t", Payload: []byte("x"), Retain: true, QoS: 1})
	c.want("t=x q0 retain", "t=x q1 retain")
	r.Publish(Message{Topic: "t", Payload: []byte("x"), QoS: 1})
	c.want("t=x q0", "t=x q1")
}

func TestRetainedExpire(t *testing.T) { // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
	synctest.Test(t, func(t *testing.T) {
		r := running(t, Options{})
		p := r.v5("publisher")
		p.publish("t", "x", 1, retain, expiry(100))
		time.Sleep(30*time.Second + time.Millisecond)
		c := r.v5("c")
		c.subscribe("t", 0)
		if pk := c.expect(packets.Publish); pk.Properties.MessageExpiryInterval != 70 {
			t.Errorf("%d s left", pk.Properties.MessageExpiryInterval)
		}
		time.Sleep(70 * time.Second)
		c.subscribe("t", 0)
		c.nothing()
		after(time.Minute)
		if n, bytes := r.retained.size(); n != 0 || bytes != 0 {
			t.Errorf("%d retained, %d bytes", n, bytes)
		}
	})
}

func TestRetainedLimits(t *testing.T) {
	r := newRig(t, Options{Retained: 2, RetainedBytes: 2 * (overhead + 20), Levels: 3})
	p, watcher := r.v5("p"), r.v5("watcher")
	watcher.subscribe("#", 1)
	p.publish("1", "x", 1, retain)
	p.publish("2", "x", 1, retain)
	watcher.want("1=x q1", "2=x q1")
	for topic, payload := range map[string]string{"3": "x", "2": "more than there is room for, as the other one is still there", "a/b/c/d": "deep"} {
		for qos := byte(1); qos <= 2; qos++ {
			if code := p.publish(topic, payload, qos, retain); code != packets.ErrQuotaExceeded.Code {
				t.Errorf("%s at QoS %d: %#x", topic, qos, code)
			}
			watcher.nothing() // refused as a whole
		}
	}
	p.publish("3", "x", 0, retain)
	watcher.want("3=x q0")
	old := r.v4("old") // can only be told that all is well: given out, not kept
	old.publish("3", "y", 1, retain)
	watcher.want("3=y q1")
	old.publish("2", "more than there is room for, as the other one is still there", 1, retain)
	watcher.expect(packets.Publish)
	c := r.v5("c")
	c.subscribe("2", 0)
	c.nothing() // the one before is not the last any more [MQTT-3.3.1-5]
	p.publish("2", "y", 1, retain)
	p.publish("2", "z", 1, retain) // in the place of another
	p.publish("1", "", 1, retain)
	if code := p.publish("3", "w", 1, retain); code != 0 {
		t.Errorf("there is room again: %#x", code)
	}
	c = r.v5("c")
	c.subscribe("2", 0)
	c.subscribe("3", 0)
	c.want("2=z q0 retain", "3=w q0 retain")
}

// More retained messages than the client takes at once wait in its queue, and newer ones of their topics behind them.
func TestManyRetained(t *testing.T) {
	r := newRig(t, Options{Queue: 500})
	for i := range 300 {
		r.Publish(Message{Topic: fmt.Sprint("t/", i), Payload: []byte("old"), Retain: true})
	}
	c := r.v5("c")
	c.setFull(true)
	c.subscribe("t/#", 0)
	c.nothing()
	r.Publish(Message{Topic: "t/7", Payload: []byte("new")})
	c.setFull(false)
	c.s.Resume()
	seen := map[string]string{}
	for range 301 {
		pk := c.expect(packets.Publish)
		seen[pk.TopicName] = string(pk.Payload)
	}
	if len(seen) != 300 || seen["t/7"] != "new" {
		t.Errorf("%d topics, t/7 is %s", len(seen), seen["t/7"])
	}
	c.setFull(true)
	c.subscribe("t/#", 0)
	c.do(packets.Packet{ // no end of it
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "t/+"}},
	})
	c.stoppedWith(packets.ErrQuotaExceeded)
}
