package simulator

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/meterread"
	"meterline/mqtt"
)

const patience = time.Minute

// testBroker is a stock mochi broker whose test sees every uplink and may keep PUBACKs back.
type testBroker struct {
	mochi.HookBase
	t       *testing.T
	server  *mochi.Server
	address string
	uplinks chan uplink

	mu       sync.Mutex
	withheld bool
	twins    bool // somebody may connect as one who is connected
	there    int  // connections
	closed   bool
}

type uplink struct {
	topic   string
	payload []byte
	dup     bool
}

func startBroker(t *testing.T) *testBroker {
	t.Helper()
	b := &testBroker{t: t, uplinks: make(chan uplink, 10_000)}
	b.server = mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	for _, err := range []error{b.server.AddHook(new(auth.AllowHook), nil), b.server.AddHook(b, nil), b.server.AddListener(door{tcp, b}), b.server.Serve()} {
		if err != nil {
			t.Fatalf("start broker: %v", err)
		}
	}
	t.Cleanup(func() {
		// mochi's Close deadlocks when a client comes or goes at that moment (a recursive read lock), so nobody must be there.
		eventually(t, "the clients have left", b.shut)
		_ = b.server.Close()
	})
	b.address = tcp.Address()
	return b
}

// door is a listener that counts who is there.
type door struct {
	*listeners.TCP
	b *testBroker
}

// Serve implements listeners.Listener.
func (d door) Serve(establish listeners.EstablishFn) {
	d.TCP.Serve(func(id string, c net.Conn) error {
		if !d.b.enter() {
			return c.Close()
		}
		defer d.b.leave()
		return establish(id, c)
	})
}

func (b *testBroker) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.there++
	}
	return !b.closed
}

func (b *testBroker) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.there--
}

// shut lets nobody in any more once nobody is there, and says whether that is so.
func (b *testBroker) shut() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = b.there == 0
	return b.closed
}

func (b *testBroker) ID() string { return "test" }

func (b *testBroker) Provides(what byte) bool {
	return what == mochi.OnPublish || what == mochi.OnConnect
}

// OnConnect waits until the connection before is forgotten: mochi may forget the new one with it when the two meet.
func (b *testBroker) OnConnect(cl *mochi.Client, _ packets.Packet) error {
	beat := time.NewTicker(time.Millisecond)
	defer beat.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-beat.C {
		if _, there := b.server.Clients.Get(cl.ID); !there || b.mayBeTwo() {
			return nil
		}
	}
	return packets.ErrServerUnavailable
}

func (b *testBroker) OnPublish(cl *mochi.Client, p packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		return p, nil
	}
	withheld := b.isWithheld() // before the test sees it, and may let the next ones through
	b.uplinks <- uplink{p.TopicName, p.Payload, p.FixedHeader.Dup}
	if withheld {
		return p, packets.ErrRejectPacket // no PUBACK
	}
	return p, nil
}

func (b *testBroker) isWithheld() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.withheld
}

func (b *testBroker) mayBeTwo() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.twins
}

// allowTwins lets a client take over the session of one who is connected.
func (b *testBroker) allowTwins() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.twins = true
}

// withhold makes the broker take uplinks without PUBACK.
func (b *testBroker) withhold(yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.withheld = yes
}

// cut closes the connection of a client.
func (b *testBroker) cut(id string) {
	b.t.Helper()
	client, ok := b.server.Clients.Get(id)
	if !ok {
		b.t.Fatalf("%s is not connected", id)
	}
	client.Stop(io.ErrClosedPipe)
}

func (b *testBroker) send(to meterread.DeviceID, m command.Message) {
	b.t.Helper()
	if err := b.server.Publish(mqtt.CommandTopic(to), encode(m), false, 1); err != nil {
		b.t.Fatalf("publish command: %v", err)
	}
}

// next waits for an uplink on a channel and drops others.
func (b *testBroker) next(channel string) uplink {
	b.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case u := <-b.uplinks:
			if strings.HasSuffix(u.topic, "/up/"+channel) {
				return u
			}
		case <-timeout:
			b.t.Fatalf("no uplink on %s", channel)
		}
	}
}

// results waits for n results, however many messages they come in.
func (b *testBroker) results(n int) []result {
	b.t.Helper()
	var all []result
	for len(all) < n {
		all = append(all, parseResults(b.t, b.next("result").payload)...)
	}
	return all
}

func parseResults(t *testing.T, payload []byte) []result {
	t.Helper()
	var m resultMessage
	if err := json.Unmarshal(payload, &m); err != nil {
		t.Fatalf("decode result %q: %v", payload, err)
	}
	results := make([]result, len(m.Results))
	for i, r := range m.Results {
		results[i] = *r
	}
	return results
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	beat := time.NewTicker(2 * time.Millisecond)
	defer beat.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-beat.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// quick is a fleet without faults that answers at once.
func quick() Behaviour {
	b := DefaultBehaviour()
	b.AnswerMin, b.AnswerMax = time.Millisecond, 2*time.Millisecond
	b.BusTimeoutRate, b.BusTimeout = 0, 5*time.Millisecond
	b.GroupDelay, b.ClockOff, b.Hello = 5*time.Millisecond, 0, false
	b.RetryMin, b.RetryMax = 5*time.Millisecond, 20*time.Millisecond
	b.LateBy, b.OfflineFor = 50*time.Millisecond, 50*time.Millisecond
	return b
}

func readCommand(id string, items []meterread.Item, targets ...command.Target) command.Message {
	return command.Message{V: 1, MessageID: "m-" + id, MessageType: "unicast", CommandID: command.ID(id), Kind: command.MeterRead,
		IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Minute), Attempt: 1, Items: items, Targets: targets}
}

func directSite(id meterread.DeviceID) Site {
	return Layout{Prefix: "x"}.site(string(id), KindDirect)
}

func ipcSite(id meterread.DeviceID, meters ...SiteMeter) Site {
	s := Layout{Prefix: "x"}.site(string(id), KindIPC)
	s.Meters = meters
	return s
}
