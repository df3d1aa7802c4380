package broker

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/mqtt"
	"meterline/testkit"
)

func TestConnectedMeansSubscribed(t *testing.T) {
	r := start(t)
	began := time.Now()
	d := r.connect(t, dev("d1"))
	d.publish("meterline/v1/d1/up/event", "hello", 1, 1)
	d.expect(packets.Puback)
	if n := len(r.log.of(command.UplinkConnected)); n != 0 {
		t.Fatalf("connected without a subscription")
	}
	if code := d.subscribe("meterline/v1/d1/down/command", 2, 2); code != 1 {
		t.Fatalf("granted %#x", code)
	}
	up := r.log.awaitKind(t, command.UplinkConnected, 1)[0]
	var hint struct {
		RemoteAddr string    `json:"remote_addr"`
		Since      time.Time `json:"since"`
	}
	if err := json.Unmarshal(up.Payload, &hint); err != nil {
		t.Fatal(err)
	}
	if hint.RemoteAddr != d.conn.LocalAddr().String() || hint.Since.Before(began.Add(-time.Second)) || hint.Since.After(time.Now()) {
		t.Errorf("hint %s", up.Payload)
	}
	d.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 3,
		Filters: packets.Subscriptions{{Filter: "meterline/v1/d1/down/command"}},
	})
	d.expect(packets.Unsuback)
	down := r.log.awaitKind(t, command.UplinkDisconnected, 1)[0]
	if down.Epoch != up.Epoch || up.Epoch == 0 {
		t.Errorf("epochs %d and %d", up.Epoch, down.Epoch)
	}
	r.sessions.await(t, "the session", func() bool { return r.sessions.newest["d1"].Epoch == up.Epoch })
	_ = d.conn.Close()
	r.sessions.await(t, "no session", func() bool { _, ok := r.sessions.newest["d1"]; return !ok })
}

func TestTheNewestSessionWins(t *testing.T) {
	r := start(t)
	old := r.listening(t, dev("d1"))
	pulse, began := testkit.StartPulse(t), time.Now()
	young := r.listening(t, dev("d1"))
	old.closed()
	if took := time.Since(began); took > pulse.Limit(2*time.Second) {
		t.Errorf("the old session lasted %v", took)
	}
	r.backend(t).command("d1", "m1", 1)
	young.puback(young.expect(packets.Publish).PacketID)
	r.log.awaitKind(t, command.UplinkDelivered, 1)
	r.log.awaitKind(t, command.UplinkDisconnected, 1)
	ups := eachOnce(r.log.of(command.UplinkConnected)) // in any order: the old session may have been held up between SUBACK and its hint
	slices.SortFunc(ups, func(a, b command.Uplink) int { return cmp.Compare(a.Epoch, b.Epoch) })
	if len(ups) != 2 || ups[1].Epoch <= ups[0].Epoch {
		t.Fatalf("%+v", ups)
	}
	if down := r.log.of(command.UplinkDisconnected); len(down) != 1 || down[0].Epoch != ups[0].Epoch {
		t.Errorf("%+v", down)
	}
	r.sessions.await(t, "the young session", func() bool { return r.sessions.newest["d1"].Epoch == ups[1].Epoch })
}

func TestSimultaneousConnectsLeaveOne(t *testing.T) {
	r := start(t)
	for range 50 {
		clients := make([]*client, 6)
		for i := range clients {
			clients[i] = r.knock(t, dev("d1"))
		}
		// When each has its CONNACK, or was closed without one, all but the newest have been stopped.
		var answered, asked sync.WaitGroup
		for _, c := range clients {
			answered.Go(func() { _, _ = c.read(waitMost) })
		}
		answered.Wait()
		var live atomic.Int32
		for _, c := range clients {
			asked.Go(func() {
				_ = c.trySend(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
				if pk, err := c.read(waitMost); err == nil && pk.FixedHeader.Type == packets.Pingresp {
					live.Add(1)
				}
			})
		}
		asked.Wait()
		if n := live.Load(); n != 1 {
			t.Fatalf("%d sessions are left", n)
		}
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func TestANewerSessionOnAnotherGatewayEndsOurs(t *testing.T) {
	one := start(t)
	two := start(t, func(o *Options) {
		o.Gateway, o.Sessions, o.Log = command.Gateway{ID: "gw2", Incarnation: "i2"}, one.sessions, one.log
	})
	one.sessions.await(t, "two watchers", func() bool { return len(one.sessions.watchers) == 2 })
	here := one.listening(t, dev("d1").v5())
	pulse, began := testkit.StartPulse(t), time.Now()
	there := two.listening(t, dev("d1"))
	if before := here.closed(); len(before) != 1 || before[0].ReasonCode != packets.ErrSessionTakenOver.Code {
		t.Errorf("got %+v", before)
	}
	if took := time.Since(began); took > pulse.Limit(2*time.Second) {
		t.Errorf("took %v", took)
	}
	there.ping()
	one.sessions.await(t, "the newer session", func() bool { return one.sessions.newest["d1"].Gateway == "gw2" })
}

func TestANewerSessionIsSeenEvenIfNobodyTells(t *testing.T) {
	shared := newMemSessions()
	r := start(t, func(o *Options) { o.Sessions = deafSessions{shared} })
	gone, stays := r.listening(t, dev("d1")), r.listening(t, dev("d2"))
	if _, err := shared.Open(t.Context(), command.Session{Endpoint: "d1", Gateway: "gw2", Incarnation: "i2"}); err != nil {
		t.Fatal(err)
	}
	pulse, began := testkit.StartPulse(t), time.Now()
	gone.closed()
	if took := time.Since(began); took > pulse.Limit(2*time.Second) {
		t.Errorf("took %v", took)
	}
	stays.ping()
}

func TestPersistentSessionsKeepTheirSubscription(t *testing.T) {
	for _, h := range []hi{
		{id: "d1", user: "d1", pass: "d1", version: 4, persistent: true},
		{id: "d1", user: "d1", pass: "d1", version: 5, persistent: true, expiry: 3600},
	} {
		r := start(t)
		first := r.listening(t, h)
		if first.connack.SessionPresent {
			t.Error("a session is present before the first")
		}
		first.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		first.closed()
		r.log.awaitKind(t, command.UplinkDisconnected, 1)
		r.sessions.await(t, "no session", func() bool { return len(r.sessions.newest) == 0 })

		second := r.connect(t, h)
		if !second.connack.SessionPresent {
			t.Errorf("v%d: the session is not present", h.version)
		}
		r.log.await(t, "both connected", func(all []command.Uplink) bool { return count(eachOnce(all), command.UplinkConnected) == 2 })
		r.backend(t).command("d1", "m1", 1)
		second.puback(second.expect(packets.Publish).PacketID)

		h.persistent, h.expiry = false, 0
		third := r.connect(t, h) // a clean start ends it
		if third.connack.SessionPresent {
			t.Error("a session is present after a clean start")
		}
		second.closed()
		third.ping()
		if n := len(eachOnce(r.log.of(command.UplinkConnected))); n != 2 {
			t.Errorf("%d times connected", n)
		}
		r.shutdown(t)
	}
}

func TestWithoutSharedPresenceTheGatewayGoesOn(t *testing.T) {
	began := time.Now()
	r := start(t)
	before := r.listening(t, dev("d1"))
	r.sessions.fail(errors.New("away"))
	old := r.listening(t, dev("d2"))
	young := r.listening(t, dev("d2"))
	old.closed()
	gone := before
	_ = gone.conn.Close()
	ups := r.log.await(t, "three connected", func(all []command.Uplink) bool { return count(eachOnce(all), command.UplinkConnected) == 3 })
	var epochs []int64
	for _, u := range eachOnce(ups) {
		if u.Kind == command.UplinkConnected && u.Endpoint == "d2" {
			epochs = append(epochs, u.Epoch)
		}
	}
	slices.Sort(epochs) // in any order: the old session may have been held up between SUBACK and its hint
	if len(epochs) != 2 || epochs[1] <= epochs[0] || epochs[0] < began.UnixMicro() {
		t.Errorf("epochs %v", epochs)
	}
	r.backend(t).command("d2", "m1", 1)
	young.puback(young.expect(packets.Publish).PacketID)
	r.log.awaitKind(t, command.UplinkDisconnected, 2)

	r.sessions.fail(nil) // and when it is back, it learns both
	r.sessions.await(t, "d2", func() bool { return r.sessions.newest["d2"].Epoch == epochs[1] })
	r.sessions.await(t, "no d1", func() bool { _, ok := r.sessions.newest["d1"]; return !ok })
}

func TestPresenceIsWrittenAgainAfterAFlush(t *testing.T) {
	r := start(t)
	r.listening(t, dev("d1"))
	r.listening(t, dev("d2"))
	var beat int64
	r.sessions.await(t, "a heartbeat", func() bool { beat = r.sessions.beats["gw1"]; return beat > 0 })
	r.sessions.await(t, "the next one", func() bool {
		if r.sessions.beats["gw1"] == beat {
			return false
		}
		r.sessions.forget() // right after it: between a look for what was lost and its announcement nobody would notice
		return true
	})
	r.sessions.await(t, "both again", func() bool { return len(r.sessions.newest) == 2 })
	r.sessions.await(t, "a heartbeat", func() bool { beat = r.sessions.beats["gw1"]; return true })
	r.sessions.await(t, "the next heartbeat", func() bool { return r.sessions.beats["gw1"] > beat })
}

func TestRollCall(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1"))
	r.connect(t, dev("d2")) // not subscribed: not called
	d.ping()
	r.log.awaitKind(t, command.UplinkConnected, 1)
	for i := range rollCallSlices {
		r.presence.call(t.Context(), i)
	}
	for _, u := range r.log.awaitKind(t, command.UplinkConnected, 2) {
		if u.Endpoint != "d1" {
			t.Errorf("%s is called", u.Endpoint)
		}
	}
}

func TestHintsAreShedBeforeUplinksAre(t *testing.T) {
	r := start(t, func(o *Options) { o.Shards = 1 })
	q := r.uplinks.shards[0].queue
	// Leave less room than hints may take, more than an uplink needs.
	weight := int64(queueWeight*hintShare) + 1
	if !q.room.TryAcquire(weight) {
		t.Fatal("the queue is not empty")
	}
	q.mu.Lock()
	q.load += weight
	q.mu.Unlock()
	d := r.connect(t, dev("d1"))
	d.subscribe(mqtt.CommandTopic("d1"), 1, 1)
	d.publish("meterline/v1/d1/up/readings", "x", 0, 0)
	d.publish("meterline/v1/d1/up/result", "x", 1, 2)
	d.expect(packets.Puback)
	if n := r.metric(t, "shed_total", "what", "connected"); n < 1 { // more of them by the roll call
		t.Errorf("%v hints shed", n)
	}
	if n := r.metric(t, "shed_total", "what", "qos0"); n != 1 {
		t.Errorf("%v uplinks of QoS 0 shed", n)
	}
	if got := r.log.all(); len(got) != 1 || got[0].Kind != command.UplinkResult {
		t.Errorf("the log holds %v", kinds(got))
	}
	q.done([]entry{{weight: weight}})
}

// The new link may come when the old one, that was lost, is half cleared away.
func TestASessionIsResumedWhileItsLinkIsClearedAway(t *testing.T) {
	r := start(t)
	h := dev("d1")
	h.persistent = true
	r.listening(t, h)
	r.delivery.end(r.Broker.registry.current("d1"), true)
	if again := r.connect(t, h); !again.connack.SessionPresent {
		t.Error("the session was not there")
	}
}

// A gateway that cannot announce itself lets its devices go, so that they find one that backends can see.
func TestAGatewayThatIsCutOffLetsItsDevicesGo(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) { o.FlapLimit = 1 })
	d := r.listening(t, dev("d1"))
	r.sessions.fail(errors.New("away"))
	pulse, began := testkit.StartPulse(t), time.Now()
	d.closed()
	if took := time.Since(began); took > pulse.Limit(10*time.Second) {
		t.Errorf("it took %v", took)
	}
	r.connect(t, dev("d1")) // is not flapping: it was sent away
}

func TestApart(t *testing.T) {
	t.Parallel()
	var a apart
	now := time.Now()
	var ended []time.Duration
	for after := range 300 {
		if a.failed(now.Add(time.Duration(after) * time.Second)) {
			ended = append(ended, time.Duration(after)*time.Second)
		}
	}
	if want := []time.Duration{7 * time.Second, 21 * time.Second, 49 * time.Second, 105 * time.Second, 217 * time.Second}; !slices.Equal(ended, want) {
		t.Errorf("links are ended after %v, want %v", ended, want)
	}
	if !a.told() {
		t.Error("links were ended, and nobody is told when it is over")
	}
	a = apart{}
	if a.failed(now); a.told() {
		t.Error("told of the end of what nobody was told of")
	}
}
