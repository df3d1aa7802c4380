package broker

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/fleet"
	"meterline/mqtt/door"
)

func TestWhoIsAdmitted(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		name string
		hi   hi
		v4   byte // CONNACK of MQTT 3.1.1
		v5   byte
	}{
		{"direct device", dev("d1"), 0, 0},
		{"IPC", dev("ipc1"), 0, 0},
		{"suffixed session", hi{id: "d1:x", user: "d1", pass: "d1"}, 0, 0},
		{"wrong secret", hi{id: "d1", user: "d1", pass: "d2"}, 5, 0x86},
		{"unknown device", dev("nobody"), 5, 0x86},
		{"meter behind an IPC", dev("meter1"), 5, 0x86},
		{"disabled device", dev("off1"), 5, 0x86},
		{"not a device id", hi{id: "d 1", user: "d 1", pass: "d 1"}, 5, 0x86},
		{"reserved id", dev("all"), 5, 0x86},
		{"another's client id", hi{id: "d2", user: "d1", pass: "d1"}, 2, 0x85},
		{"client id that only begins so", hi{id: "d11", user: "d1", pass: "d1"}, 2, 0x85},
		{"empty suffix", hi{id: "d1:", user: "d1", pass: "d1"}, 2, 0x85},
		{"no client id", hi{user: "d1", pass: "d1"}, 2, 0x85},
		{"endpoint with a will", hi{id: "d1", user: "d1", pass: "d1", will: "meterline/v1/d1/up/event"}, 5, 0x87},
		{"service", hi{id: "any", user: "service", pass: "reader"}, 0, 0},
		{"service with a device's client id", hi{id: "d1", user: "service", pass: "reader"}, 0, 0},
		{"unknown token", hi{id: "any", user: "service", pass: "no"}, 5, 0x86},
		{"token without the scope", hi{id: "any", user: "service", pass: "web"}, 5, 0x86},
		{"expired token", hi{id: "any", user: "service", pass: "old"}, 5, 0x86},
		{"service with a will", hi{id: "any", user: "service", pass: "reader", will: "plant/gone"}, 0, 0},
		{"service with a will below meterline", hi{id: "any", user: "service", pass: "root", will: "meterline/v1/d1/down/command"}, 5, 0x87},
		{"backend", hi{id: "b", user: "backend", pass: "backend secret"}, 0, 0},
		{"wrong backend secret", hi{id: "b", user: "backend", pass: "x"}, 5, 0x86},
		{"backend with a will", hi{id: "b", user: "backend", pass: "backend secret", will: "x"}, 5, 0x87},
		{"nobody", hi{id: "x", nobody: true}, 5, 0x86},
	} {
		t.Run(c.name, func(t *testing.T) {
			for version, want := range map[byte]byte{4: c.v4, 5: c.v5} {
				c.hi.version = version
				cl := r.dial(t, c.hi)
				if got := cl.connack.ReasonCode; got != want {
					t.Errorf("v%d: CONNACK %#x, want %#x", version, got, want)
				}
				if want != 0 {
					cl.closed()
				}
				_ = cl.conn.Close()
			}
		})
	}
}

func TestAnonymous(t *testing.T) {
	for _, c := range []struct {
		role    Anonymous
		admit   bool
		command bool
	}{{AnonymousNone, false, false}, {AnonymousMQTT, true, false}, {AnonymousAdmin, true, true}} {
		t.Run(string(c.role), func(t *testing.T) {
			r := start(t, func(o *Options) { o.Anonymous = c.role })
			cl := r.dial(t, hi{id: "x", nobody: true, version: 5})
			if admitted := cl.connack.ReasonCode == 0; admitted != c.admit {
				t.Fatalf("CONNACK %#x", cl.connack.ReasonCode)
			}
			if !c.admit {
				return
			}
			cl.publish("meterline/v1/d1/down/command", "{}", 1, 1)
			if ack := cl.expect(packets.Puback); (ack.ReasonCode == 0) != c.command {
				t.Errorf("a command is answered %#x", ack.ReasonCode)
			}
		})
	}
}

func TestLimitsAreToldToMQTT5(t *testing.T) {
	r := start(t)
	h := dev("d1").v5()
	h.keepAlive = 3600
	p := r.connect(t, h).connack.Properties
	if !p.ServerKeepAliveFlag || p.ServerKeepAlive != 600 {
		t.Errorf("keep-alive %d", p.ServerKeepAlive)
	}
	if !p.MaximumQosFlag || p.MaximumQos != 1 || !p.RetainAvailableFlag || p.RetainAvailable != 0 || p.ReceiveMaximum != 128 ||
		p.MaximumPacketSize < defaultPayload {
		t.Errorf("%+v", p)
	}
	long := dev("d2") // MQTT 3.1.1 cannot be told, and 65535 must not overflow
	long.keepAlive = 65535
	c := r.connect(t, long)
	c.publish("meterline/v1/d2/up/event", "x", 1, 1)
	c.expect(packets.Puback)
}

func TestCredentialsAreCached(t *testing.T) {
	r := start(t)
	r.connect(t, dev("d1"))
	calls := r.creds.calls
	r.connect(t, dev("d1"))
	if r.creds.calls != calls {
		t.Error("asked again within 30 s")
	}
	r.creds.fail(errors.New("away"))
	setClock(&r.Broker.creds.mu, &r.Broker.creds.now, time.Now().Add(time.Hour))
	r.connect(t, dev("d1")) // stale is good enough now
	c := r.dial(t, dev("d2"))
	if c.connack.ReasonCode != 3 { // server unavailable: not the client's fault
		t.Errorf("CONNACK %#x", c.connack.ReasonCode)
	}
	c.closed()
}

func TestChangedSecret(t *testing.T) {
	r := start(t)
	old := r.listening(t, dev("d1"))
	side := r.connect(t, hi{id: "d1:side", user: "d1", pass: "d1"})
	k := device("d1", "t1", fleet.Direct)
	k.MAC = pepper.MAC("new")
	r.creds.set(k)
	r.Forget("d1")
	old.closed()
	side.closed()
	if c := r.dial(t, dev("d1")); c.connack.ReasonCode != 5 {
		t.Errorf("the old secret is answered %#x", c.connack.ReasonCode)
	}
	r.connect(t, hi{id: "d1", user: "d1", pass: "new"})

	// Without Forget a secret that does not match is looked up once more.
	k.MAC = pepper.MAC("newer")
	r.creds.set(k)
	setClock(&r.Broker.creds.mu, &r.Broker.creds.now, time.Now().Add(2*credentialsDoubt))
	r.connect(t, hi{id: "d1", user: "d1", pass: "newer"})
}

func TestRecheckClosesWhoMayNotStay(t *testing.T) {
	r := start(t)
	gone, stays := r.listening(t, dev("d1")), r.listening(t, dev("d2"))
	k := device("d1", "t1", fleet.Direct)
	k.Enabled = false
	r.creds.set(k)
	r.creds.fail(errors.New("away"))
	for i := range rollCallSlices {
		r.recheckSlice(t.Context(), i)
	}
	gone.ping() // the source is away: nobody is closed
	r.creds.fail(nil)
	for i := range rollCallSlices {
		r.recheckSlice(t.Context(), i)
	}
	gone.closed()
	stays.ping()
	if c := r.dial(t, dev("d1")); c.connack.ReasonCode != 5 {
		t.Errorf("CONNACK %#x", c.connack.ReasonCode)
	}
}

func TestRevokedTokenIsClosed(t *testing.T) {
	r := start(t)
	c := r.connect(t, hi{id: "a", user: "service", pass: "reader"})
	other := r.connect(t, hi{id: "a", user: "service", pass: "root"})
	r.ForgetTokens("reader")
	c.closed()
	other.ping()
}

// slowSource holds look-ups up until it is told to go on.
type slowSource struct {
	mu      sync.Mutex
	asked   [][]fleet.DeviceID
	entered chan struct{}
	release chan []fleet.Credential
}

func (s *slowSource) Credentials(_ context.Context, ids []fleet.DeviceID) ([]fleet.Credential, error) {
	s.mu.Lock()
	s.asked = append(s.asked, ids)
	s.mu.Unlock()
	s.entered <- struct{}{}
	return <-s.release, nil
}

func TestLookupsAreGathered(t *testing.T) {
	source := &slowSource{entered: make(chan struct{}), release: make(chan []fleet.Credential)}
	c := newCredentials(source, newMetrics(nil))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { c.run(ctx) })
	get := func(id fleet.DeviceID) {
		all.Go(func() {
			if k, err := c.ask(t.Context(), id); err != nil || k == nil {
				t.Errorf("%s: %v, %v", id, k, err)
			}
		})
	}
	get("d1")
	<-source.entered
	for _, id := range []fleet.DeviceID{"d2", "d3", "d4"} {
		get(id)
	}
	eventually(t, "three ids wait", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.next) == 3
	})
	again, _, _ := c.begin("d2")     // waits for the same
	c.forget([]fleet.DeviceID{"d1"}) // while it is on its way: it is asked for again
	source.release <- []fleet.Credential{device("d1", "t1", fleet.Direct)}
	<-source.entered
	source.release <- []fleet.Credential{
		device("d1", "t1", fleet.Direct), device("d2", "t1", fleet.Direct), device("d3", "t1", fleet.Direct), device("d4", "t1", fleet.Direct),
	}
	eventually(t, "everybody knows", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.loading) == 0
	})
	cancel()
	all.Wait()
	<-again.done
	if len(source.asked) != 2 || len(source.asked[1]) != 4 {
		t.Errorf("asked for %v", source.asked)
	}
}

func TestAPanicClosesOnlyThatClient(t *testing.T) {
	r := start(t)
	fine := r.listening(t, dev("d1"))
	r.knock(t, hi{id: "a", user: "service", pass: "panic"}).closed()
	r.awaitMetric(t, 1, "panics_total")
	fine.publish("meterline/v1/d1/up/event", "x", 1, 5)
	fine.expect(packets.Puback)

	// Also in the middle of a session, of a service client: this one has no link.
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	c := &mochiConn{wire: newWire(&door.Conn{Conn: near}, r.guard)}
	c.session.Store(&session{who: identity{role: roleService}})
	victim := r.server.NewClient(c, "mqtt", "x", false)
	h := &hooks{guard: r.guard}
	pk, _ := h.OnPacketRead(victim, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "x"})
	if pk.FixedHeader.Type != packets.Reserved || !c.parting.Load() {
		t.Errorf("packet %+v, parting %v", pk, c.parting.Load())
	}
	r.awaitMetric(t, 2, "panics_total")
	fine.ping()
}
