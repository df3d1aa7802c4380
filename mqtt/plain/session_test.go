package plain

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// running starts the hub's Run in a bubble of synctest.
func running(t *testing.T, o Options) *rig {
	t.Helper()
	r := newRig(t, o)
	done := make(chan error)
	go func() { done <- r.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	synctest.Wait()
	return r
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestSessionPresent(t *testing.T) { // [MQTT-3.2.2-2] [MQTT-3.2.2-3], [MQTT-3.1.2-4] to [MQTT-3.1.2-6]
	clean4, keep4 := Connect{Version: 4, Clean: true}, Connect{Version: 4}
	clean5, keep5 := Connect{Version: 5, Clean: true}, Connect{Version: 5, SessionExpiry: 10}
	cleanKeep5, short5 := Connect{Version: 5, Clean: true, SessionExpiry: 10}, Connect{Version: 5}
	for _, c := range []struct {
		name          string
		first, second Connect
		want          bool
	}{
		{"3.1.1 kept", keep4, keep4, true},
		{"3.1.1 cleaned", keep4, clean4, false},
		{"3.1.1 was clean", clean4, keep4, false},
		{"kept", keep5, keep5, true},
		{"kept after a clean start", cleanKeep5, keep5, true},
		{"cleaned", keep5, cleanKeep5, false},
		{"expiry 0", short5, keep5, false},
		{"clean start, expiry 0", clean5, keep5, false},
		{"kept, and not any longer", keep5, short5, true},
		{"from 3.1.1 to 5", keep4, keep5, true},
		{"from 5 to 3.1.1", keep5, keep4, true},
	} {
		for _, takeover := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, takeover %v", c.name, takeover), func(t *testing.T) {
				r := newRig(t, Options{})
				one := r.link(&wire{}, c.first)
				if one.present {
					t.Error("the first has a session")
				}
				one.subscribe("t", 1)
				if !takeover {
					one.drop()
				}
				two := r.link(&wire{}, c.second)
				if two.present != c.want {
					t.Errorf("session present %v, want %v", two.present, c.want)
				}
				if takeover {
					one.stoppedWith(packets.ErrSessionTakenOver)
					one.fails(publish("t", "zombie", 1, 1), packets.ErrSessionTakenOver)
					one.s.End(false)
					one.s.Start()
					one.s.Resume()
				}
				r.Publish(Message{Topic: "t", QoS: 1})
				one.nothing()
				if c.want {
					two.want("t= q1")
				}
				two.nothing()
				two.alive()
				two.drop()
				r.link(&wire{}, Connect{Version: 4, Clean: true}).drop()
				r.empty()
			})
		}
	}
}

func TestSessionExpiry(t *testing.T) { // [3.1.2.11.2] [MQTT-4.1.0-2]
	for _, c := range []struct {
		name  string
		hello Connect
		lives time.Duration // 0: for ever
	}{
		{"an interval", Connect{Version: 5, SessionExpiry: 60}, time.Minute},
		{"never", Connect{Version: 5, SessionExpiry: math.MaxUint32}, 0},
		{"3.1.1", Connect{Version: 4}, 7 * 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := running(t, Options{})
				for _, wait := range []time.Duration{c.lives - time.Second, c.lives} {
					r.link(&wire{}, c.hello).drop()
					want := wait < c.lives || c.lives == 0
					if c.lives == 0 {
						wait = 30 * 24 * time.Hour
					}
					after(wait)
					if sessions, away := r.registry.count(); (sessions == 1) != want || away != sessions {
						t.Errorf("after %v: %d sessions, %d away", wait, sessions, away)
					}
				}
			})
		})
	}
}

func TestAnExpiredSessionIsGoneAlsoWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		hello := Connect{Key: "c", Version: 5, SessionExpiry: 10, Will: &Will{Message: Message{Topic: "w"}, Delay: 100}}
		r.link(&wire{}, hello).drop()
		watcher := r.v5("watcher")
		watcher.subscribe("w", 0)
		time.Sleep(10 * time.Second)
		if r.link(&wire{}, hello).present {
			t.Error("session present")
		}
		watcher.want("w= q0")
	})
}

func TestDisconnectChangesSessionExpiry(t *testing.T) { // [3.14.2.2.2]
	leave := func(seconds uint32) packets.Packet {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
		return pk
	}
	synctest.Test(t, func(t *testing.T) {
		r := running(t, Options{})
		c := r.v5("c") // 0
		c.fails(leave(1), packets.ErrProtocolViolation)
		c.do(leave(0))
		c.fails(publish("t", "x", 0, 0), packets.ErrProtocolViolation) // [MQTT-3.14.4-1]
		c.s.End(true)
		r.empty()

		c = r.link(&wire{}, Connect{Key: "c", Version: 5, SessionExpiry: 10})
		c.do(leave(20))
		c.s.End(true)
		after(15 * time.Second)
		if c = r.link(&wire{}, Connect{Key: "c", Version: 5, SessionExpiry: 10}); !c.present {
			t.Error("gone after 15 s")
		}
		c.do(leave(0))
		c.s.End(true)
		r.empty()
	})
}

func TestTooManySessionsAway(t *testing.T) {
	r := newRig(t, Options{Offline: 2})
	for i := range 4 {
		r.resume5(fmt.Sprint(i)).drop()
	}
	r.resume5("2").drop() // is now the newest
	r.resume5("4").drop()
	for key, want := range map[string]bool{"0": false, "1": false, "2": true, "3": false, "4": true} {
		if st := r.registry.find(key); (st != nil) != want {
			t.Errorf("session %s: %v", key, st)
		}
	}
}

// Whoever is nobody any more at a given time has no session then, however long it asked for one.
func TestASessionEndsAtTheLatestWhenItIsSaid(t *testing.T) {
	for _, hello := range []Connect{{Version: 4}, {Version: 5, SessionExpiry: 7200}, {Version: 5, SessionExpiry: math.MaxUint32}} {
		synctest.Test(t, func(t *testing.T) {
			r := running(t, Options{})
			hello.Until = time.Now().Add(time.Hour)
			r.link(&wire{}, hello).drop()
			after(time.Hour - time.Second)
			if !r.link(&wire{}, hello).present {
				t.Error("the session is gone too early")
			}
			after(2 * time.Second) // connected; to close it is not the hub's business
			r.link(&wire{}, Connect{Key: "other", Version: 4}).drop()
			if r.registry.find("") == nil {
				t.Error("the session of a connected client is gone")
			}
		})
		synctest.Test(t, func(t *testing.T) {
			r := running(t, Options{})
			hello.Until = time.Now().Add(time.Hour)
			c := r.link(&wire{}, hello)
			after(2 * time.Hour)
			c.drop()
			r.empty()
			r.link(&wire{}, Connect{Version: hello.Version, SessionExpiry: hello.SessionExpiry, Until: time.Now().Add(time.Hour)}).drop()
			after(time.Hour)
			r.empty()
		})
	}
}

func TestDisconnectStopsWhoMatches(t *testing.T) {
	r := newRig(t, Options{})
	a, b := r.resume5("a"), r.resume5("b")
	a.subscribe("t", 1)
	if n := r.Disconnect(func(who any) bool { return who == "a" }, packets.ErrNotAuthorized, true); n != 1 {
		t.Errorf("%d stopped", n)
	}
	a.stoppedWith(packets.ErrNotAuthorized)
	a.fails(publish("t", "x", 1, 1), packets.ErrSessionTakenOver)
	a.drop()
	b.alive()
	if r.resume5("a").present {
		t.Error("a has a session still")
	}
	away := r.resume5("away")
	away.subscribe("t", 1)
	away.drop()
	r.Publish(Message{Topic: "t", QoS: 1})
	if n := r.Disconnect(func(who any) bool { return who == "away" }, packets.ErrNotAuthorized, true); n != 0 {
		t.Errorf("%d stopped that were not connected", n)
	}
	if r.registry.find("away") != nil || r.queued.Load() != 0 {
		t.Errorf("the session of one that was away is kept, with %d messages", r.queued.Load())
	}
	r.Disconnect(func(any) bool { return true }, packets.ErrServerShuttingDown, false)
	b.stoppedWith(packets.ErrServerShuttingDown)
	b.drop()
	if !r.resume5("b").present {
		t.Error("b has no session any more")
	}
}

func TestWhatAClientMustNotSend(t *testing.T) {
	for _, kind := range []byte{
		packets.Reserved, packets.Connect, packets.Connack, packets.Suback, packets.Unsuback, packets.Pingresp, packets.Auth, 77,
	} {
		for _, version := range []byte{4, 5} {
			r := newRig(t, Options{})
			r.link(&wire{}, Connect{Version: version}).fails(ack(kind, 1), packets.ErrProtocolViolation)
		}
	}
	c := newRig(t, Options{}).v5("c")
	c.do(ack(packets.Pingreq, 0))
	c.nothing()
}

func TestNothingIsSentBeforeStart(t *testing.T) {
	r := newRig(t, Options{})
	c := r.resume5("c")
	c.subscribe("t", 1)
	c.drop()
	r.Publish(Message{Topic: "t", Payload: []byte("1"), QoS: 1})
	w := &wire{}
	s, _ := r.Connect(w, Connect{Key: "c", Version: 5})
	r.Publish(Message{Topic: "t", Payload: []byte("2"), QoS: 1})
	r.Publish(Message{Topic: "t", Payload: []byte("0"), QoS: 0})
	if len(w.sent) > 0 {
		t.Errorf("sent %v", w.sent)
	}
	s.Start()
	s.Start() // once is enough
	c = &client{t: t, wire: w, s: s}
	c.want("t=1 q1", "t=2 q1")
}
