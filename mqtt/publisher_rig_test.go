package mqtt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/meterread"
	"meterline/mqtt"
	"meterline/testkit"
)

// waitMost is how long a test waits for what must come. Only a test that fails waits so long.
const waitMost = time.Minute

// edge is a gateway as far as a publisher sees it: a broker that keeps what it was given.
type edge struct {
	mochi.HookBase
	server *mochi.Server
	addr   string
	silent atomic.Bool // sends no PUBACK
	killed sync.Once

	mu       sync.Mutex
	clients  []string
	messages []packets.Packet
}

func (e *edge) Provides(b byte) bool {
	return bytes.Contains([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublish}, []byte{b})
}

func (e *edge) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.clients = append(e.clients, cl.ID)
	return string(pk.Connect.Username) == "backend" && string(pk.Connect.Password) == "secret" && pk.Connect.Clean
}

func (e *edge) OnACLCheck(*mochi.Client, string, bool) bool { return true }

func (e *edge) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.messages = append(e.messages, pk)
	if e.silent.Load() {
		return pk, packets.ErrRejectPacket
	}
	return pk, packets.CodeSuccessIgnore
}

func (e *edge) got() []packets.Packet {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]packets.Packet(nil), e.messages...)
}

// connects is how many connections there were.
func (e *edge) connects() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.clients)
}

// startEdge starts a broker, on addr if that is not "".
func startEdge(t *testing.T, addr string) *edge {
	t.Helper()
	if addr == "" { // one that stays free while the broker is down
		var err error
		if addr, err = testkit.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	o := mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Capabilities: mochi.NewDefaultServerCapabilities()}
	e := &edge{server: mochi.New(&o)}
	l := listeners.NewTCP(listeners.Config{ID: "tcp", Address: addr})
	for _, err := range []error{e.server.AddHook(e, nil), e.server.AddListener(l), e.server.Serve()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	e.addr = l.Address()
	t.Cleanup(e.kill)
	return e
}

// kill ends the broker and its connections.
func (e *edge) kill() { e.killed.Do(func() { _ = e.server.Close() }) }

func (e *edge) gateway(id, incarnation string) command.Gateway {
	return command.Gateway{ID: id, Incarnation: incarnation, Address: e.addr}
}

// directory is a Directory that tests change.
type directory struct {
	mu   sync.Mutex
	all  map[command.Gateway]int64
	fail error
}

func (d *directory) Gateways(context.Context) (map[command.Gateway]int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.all), d.fail
}

func (d *directory) set(fail error, gateways ...command.Gateway) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all, d.fail = map[command.Gateway]int64{}, fail
	for _, g := range gateways {
		d.all[g] = 1
	}
}

// start runs a publisher. stop ends it and waits.
func start(t *testing.T, opt mqtt.PublisherOptions, gateways ...command.Gateway) (p *mqtt.Publisher, d *directory, stop func()) {
	t.Helper()
	d = &directory{}
	d.set(nil, gateways...)
	opt.ID, opt.Directory, opt.LookEvery = "b-1", d, 5*time.Millisecond
	if opt.Secret == "" {
		opt.Secret = "secret"
	}
	p = mqtt.NewPublisher(opt)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run says %v", err)
		}
	})
	t.Cleanup(stop)
	return p, d, stop
}

func reachable(t *testing.T, p *mqtt.Publisher, gateway string, want bool) {
	t.Helper()
	testkit.Eventually(t, waitMost, func() bool { return p.Reachable(gateway) == want }, fmt.Sprintf("%s reachable: %v", gateway, want))
}

// answers collects what becomes of messages, each once.
type answers struct {
	t    *testing.T
	mu   sync.Mutex
	got  map[int][]error
	sent int
}

func (a *answers) publish(p *mqtt.Publisher, gateway string, endpoint meterread.DeviceID) {
	a.send(p, gateway, endpoint, nil)
}

func (a *answers) send(p *mqtt.Publisher, gateway string, endpoint meterread.DeviceID, params json.RawMessage) {
	a.mu.Lock()
	i := a.sent
	a.sent++
	a.mu.Unlock()
	m := message(i)
	m.Params = params
	p.Publish(a.t.Context(), gateway, endpoint, m, func(err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.got == nil {
			a.got = map[int][]error{}
		}
		a.got[i] = append(a.got[i], err)
	})
}

// all waits until every message is answered, and checks that each is once.
func (a *answers) all() []error {
	a.t.Helper()
	testkit.Eventually(a.t, waitMost, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.got) == a.sent
	}, "all answers")
	a.mu.Lock()
	defer a.mu.Unlock()
	errs := make([]error, a.sent)
	for i := range errs {
		if len(a.got[i]) != 1 {
			a.t.Fatalf("message %d was answered %d times: %v", i, len(a.got[i]), a.got[i])
		}
		errs[i] = a.got[i][0]
	}
	return errs
}

func message(i int) command.Message {
	return command.Message{V: 1, MessageID: fmt.Sprintf("m-%d", i), MessageType: "unicast", CommandID: "c-1", Kind: command.MeterRead,
		Items: []meterread.Item{"1-0:1.8.0"}, Targets: []command.Target{{DeviceID: "d-1"}}}
}
