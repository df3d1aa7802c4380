package holes_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt"
	"meterline/mqtt/broker"
	"meterline/mqtt/door"
)

// ourBroker is our broker with everything it needs in memory. Devices d1 to d99 are known, the secret of each is its
// id; so is the token "reader". Whoever says "panic" makes what is asked panic.
type ourBroker struct {
	*broker.Broker
	log      *uplinkLog
	sessions *sessions
	registry *prometheus.Registry
	end      context.CancelFunc
	ended    chan error
}

func newOurs(ctx context.Context, log string) (*ourBroker, error) {
	o := &ourBroker{
		log: &uplinkLog{}, sessions: &sessions{newest: map[fleet.DeviceID]int64{}}, registry: prometheus.NewRegistry(), ended: make(chan error, 1),
	}
	switch {
	case log == "wrapped":
		o.log.failing = fmt.Errorf("%w: %w", errStore, packets.ErrQuotaExceeded)
	case log != "":
		file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		o.log.file = file
	}
	var err error
	o.Broker, err = broker.New(broker.Options{
		Gateway:   command.Gateway{ID: "gw1", Incarnation: "i1"},
		Listeners: []door.Listen{{Name: "mqtt", Address: "127.0.0.1:0"}},
		Log:       o.log, Credentials: credentials{}, Sessions: o.sessions, Tokens: tokens{},
		Pepper: fleet.Pepper("pepper"), BackendSecret: "backend secret", Partitions: 4, Registerer: o.registry,
	})
	if err != nil {
		return nil, err
	}
	ctx, o.end = context.WithCancel(ctx)
	go func() { o.ended <- o.Run(ctx) }()
	return o, nil
}

// ours is our broker in this process, until the end of the test.
func ours(t testing.TB) *ourBroker {
	t.Helper()
	o, err := newOurs(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.log.fail(nil)
		o.stop()
	})
	return o
}

func (o *ourBroker) address() string         { return o.Addr("mqtt") }
func (o *ourBroker) clients() int            { return int(o.metric("meterline_mqtt_connections", "")) }
func (o *ourBroker) publish(string, int) int { return -1 }

func (o *ourBroker) stop() {
	o.end()
	if err := <-o.ended; err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	o.ended <- nil
}

// metric sums the counters and gauges that are named so, or begin and end so.
func (o *ourBroker) metric(begin, end string) (sum float64) {
	families, _ := o.registry.Gather()
	for _, f := range families {
		if name := f.GetName(); name != begin && (end == "" || !strings.HasPrefix(name, begin) || !strings.HasSuffix(name, end)) {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// dropped is how many messages to service clients were dropped.
func (o *ourBroker) dropped() int { return int(o.metric("meterline_mqtt_plain_", "dropped_total")) }

// backend connects as one.
func (o *ourBroker) backend(t testing.TB, id string) *client {
	t.Helper()
	return connect(t, o.address(), hello{id: id, user: "backend", pass: "backend secret", version: 4})
}

// online connects an endpoint and subscribes it to its commands.
func (o *ourBroker) online(t testing.TB, h hello) *client {
	t.Helper()
	c := connect(t, o.address(), h)
	c.subscribe(commands(h.user))
	return c
}

// resumed connects an endpoint that has subscribed before. Its commands reach it from when that is told, just after CONNACK.
func (o *ourBroker) resumed(t testing.TB, h hello) *client {
	t.Helper()
	before := o.log.sessions(h.user)
	c := connect(t, o.address(), h)
	if !c.connack.SessionPresent {
		t.Error("the session was not there")
	}
	eventually(t, h.user+" is connected", func() bool { return o.log.sessions(h.user) > before })
	return c
}

func commands(device string) string { return mqtt.CommandTopic(fleet.DeviceID(device)) }
func readings(device string) string { return mqtt.UplinkTopic(fleet.DeviceID(device), mqtt.Readings) }

// uplinkLog is a Log in memory or in a file.
type uplinkLog struct {
	mu      sync.Mutex
	failing error
	entries []command.Uplink
	file    *os.File // a line for each entry
}

// Append keeps entries.
func (l *uplinkLog) Append(_ context.Context, entries []command.Uplink) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != nil {
		return l.failing
	}
	l.entries = append(l.entries, entries...)
	if l.file == nil {
		return nil
	}
	var lines strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&lines, "%s %s\n", e.Kind, e.Payload)
	}
	_, err := l.file.WriteString(lines.String())
	return err
}

func (l *uplinkLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = err
}

// of lists the payloads of a kind, as numbers.
func (l *uplinkLog) of(kind command.UplinkKind) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var pks []packets.Packet
	for _, e := range l.entries {
		if e.Kind == kind {
			pks = append(pks, packets.Packet{Payload: e.Payload})
		}
	}
	return numbers(pks)
}

// sessions is how many sessions of a device were told to be connected; each is told again now and then.
func (l *uplinkLog) sessions(device string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	epochs := map[int64]bool{}
	for _, e := range l.entries {
		if e.Kind == command.UplinkConnected && string(e.Endpoint) == device {
			epochs[e.Epoch] = true
		}
	}
	return len(epochs)
}

// await waits until the log has every number of the list in a kind.
func (l *uplinkLog) await(t testing.TB, kind command.UplinkKind, wanted ...int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s %v", kind, wanted), func() bool {
		got := l.of(kind)
		return !slices.ContainsFunc(wanted, func(n int) bool { return !slices.Contains(got, n) })
	})
}

// credentials know d1 to d99.
type credentials struct{}

// Credentials looks ids up.
func (credentials) Credentials(_ context.Context, ids []fleet.DeviceID) (found []fleet.Credential, err error) {
	for _, id := range ids {
		if id == "panic" {
			panic("a device that nobody has")
		}
		var n int
		if _, err := fmt.Sscanf(string(id), "d%d", &n); err != nil || n < 1 || n > 99 {
			continue
		}
		found = append(found, fleet.Credential{
			DeviceID: id, Tenant: "t1", Kind: fleet.Direct, Enabled: true, MAC: fleet.Pepper("pepper").MAC(string(id)),
		})
	}
	return found, nil
}

type tokens struct{}

// TokenBySecret knows one.
func (tokens) TokenBySecret(_ context.Context, secret string) (fleet.Token, error) {
	switch secret {
	case "panic":
		panic("a token that nobody bears")
	case "reader":
		return fleet.Token{ID: "reader", Tenant: "t1", Scopes: []fleet.Scope{fleet.MQTT}}, nil
	}
	return fleet.Token{}, broker.ErrUnknownToken
}

// sessions is presence in memory. Opening and closing may be slow.
type sessions struct {
	mu     sync.Mutex
	slow   time.Duration
	epoch  int64
	newest map[fleet.DeviceID]int64
}

// delay makes the store take its time.
func (s *sessions) delay(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = by
}

func (s *sessions) dawdle() {
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	time.Sleep(slow)
}

// Open gives the next epoch.
func (s *sessions) Open(_ context.Context, session command.Session) (int64, error) {
	s.dawdle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = max(s.epoch+1, time.Now().UnixMicro())
	s.newest[session.Endpoint] = s.epoch
	return s.epoch, nil
}

// Close forgets a session that is the newest.
func (s *sessions) Close(_ context.Context, session command.Session) error {
	s.dawdle()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest[session.Endpoint] == session.Epoch {
		delete(s.newest, session.Endpoint)
	}
	return nil
}

// Restore, Lost, Announce and Watch have nothing to do: presence is never away, and there is one gateway.
func (s *sessions) Restore(context.Context, []command.Session) error { return nil }

// Lost is never the case.
func (s *sessions) Lost(context.Context, string, string) (bool, error) { return false, nil }

// Announce does nothing.
func (s *sessions) Announce(context.Context, command.Gateway, int64) error { return nil }

// Watch waits.
func (s *sessions) Watch(ctx context.Context, _ func(command.Session)) error {
	<-ctx.Done()
	return nil
}
