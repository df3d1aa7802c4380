package plain

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestWillIsSentUnlessTheClientSaysOtherwise(t *testing.T) { // [MQTT-3.1.2-8] [MQTT-3.14.4-3]
	for _, c := range []struct {
		name    string
		version byte
		leave   func(c *client)
		want    bool
	}{
		{"lost", 5, (*client).drop, true},
		{"lost, 3.1.1", 4, (*client).drop, true},
		{"disconnected", 5, func(c *client) { c.disconnect(0) }, false},
		{"disconnected, 3.1.1", 4, func(c *client) { c.disconnect(0) }, false},
		{"disconnected with will", 5, func(c *client) { c.disconnect(4) }, true},
		{"disconnected with an error", 5, func(c *client) { c.disconnect(0x80) }, true},
		{"ended in order by the caller", 5, func(c *client) { c.s.End(true) }, false},
		{"ended twice", 5, func(c *client) { c.s.End(false); c.s.End(false) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{})
			watcher := r.v5("watcher")
			watcher.subscribe("#", 2)
			c.leave(r.link(&wire{}, Connect{
				Key: "c", Version: c.version,
				Will: &Will{Message: Message{Topic: "w", Payload: []byte("gone"), QoS: 1, Retain: true, ContentType: "text"}},
			}))
			if !c.want {
				watcher.nothing()
				return
			}
			pk := watcher.expect(packets.Publish)
			if describe(pk) != "w=gone q1" || pk.Properties.ContentType != "text" {
				t.Errorf("%+v", pk)
			}
			watcher.nothing()
			late := r.v5("late")
			late.subscribe("w", 0)
			late.want("w=gone q0 retain") // [MQTT-3.1.2-15]
		})
	}
}

func TestWillDelay(t *testing.T) { // [3.1.3.2.2] [MQTT-3.1.3-9]
	hello := func(delay, session uint32) Connect {
		return Connect{
			Key: "c", Version: 5, SessionExpiry: session,
			Will: &Will{Message: Message{Topic: "w"}, Delay: delay, Expiry: 30},
		}
	}
	synctest.Test(t, func(t *testing.T) {
		r := running(t, Options{})
		watcher := r.v5("watcher")
		watcher.subscribe("w", 2)
		sentAfter := func(wait time.Duration) {
			t.Helper()
			after(wait - time.Second)
			watcher.nothing()
			after(time.Second)
			if pk := watcher.expect(packets.Publish); pk.Properties.MessageExpiryInterval != 30 {
				t.Errorf("expiry %d", pk.Properties.MessageExpiryInterval)
			}
		}
		r.link(&wire{}, hello(5, 60)).drop()
		sentAfter(5 * time.Second)
		after(2 * time.Hour)
		watcher.nothing()
		r.link(&wire{}, hello(500, 60)).drop() // the session is over before
		sentAfter(time.Minute)
		r.link(&wire{}, hello(5, 0)).drop() // at once
		watcher.expect(packets.Publish)

		r.link(&wire{}, hello(5, 60)).drop()
		after(4 * time.Second)
		c := r.link(&wire{}, Connect{Key: "c", Version: 5, SessionExpiry: 60}) // is back
		after(time.Hour)
		watcher.nothing()
		c.drop()
		after(time.Hour)
		watcher.nothing()

		r.link(&wire{}, hello(5, 60)).drop()
		c = r.link(&wire{}, Connect{Key: "c", Version: 5, Clean: true}) // ends the session
		watcher.expect(packets.Publish)
		after(time.Hour)
		c.drop()
		watcher.nothing()
	})
}

// Takeover closes the older connection, so its will is sent, unless it is delayed and the session goes on [MQTT-3.1.4-3].
func TestWillAtTakeover(t *testing.T) {
	for _, c := range []struct {
		name       string
		delay      uint32
		expiry     uint32
		clean      bool
		wantAtOnce bool
	}{
		{"resumed", 0, 10, false, true},
		{"resumed, delayed", 5, 10, false, false},
		{"clean start, delayed", 5, 10, true, true},
		{"session of no length, delayed", 5, 0, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{})
			watcher := r.v5("watcher")
			watcher.subscribe("w", 0)
			r.link(&wire{}, Connect{Key: "c", Version: 5, SessionExpiry: c.expiry, Will: &Will{Message: Message{Topic: "w"}, Delay: c.delay}})
			r.link(&wire{}, Connect{Key: "c", Version: 5, SessionExpiry: c.expiry, Clean: c.clean})
			if c.wantAtOnce {
				watcher.want("w= q0")
			}
			watcher.nothing()
		})
	}
}

func TestWillsAreJudgedWhenTheyAreSent(t *testing.T) {
	rules := &rules{mayPublish: func(who any, topic string) bool { return who == "good" }}
	r := newRig(t, Options{Rules: rules})
	watcher := r.v5("watcher")
	watcher.subscribe("#", 0)
	for _, topic := range []string{"w", "$SYS/w", "w/#", ""} {
		will := &Will{Message: Message{Topic: topic, Retain: true}}
		for _, who := range []string{"good", "bad"} {
			r.link(&wire{}, Connect{Key: "c", Version: 5, Will: will, Who: who}).drop()
		}
	}
	watcher.want("w= q0")
}
