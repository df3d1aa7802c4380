package broker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt"
	"meterline/mqtt/door"
	"meterline/testkit"
)

func TestMain(m *testing.M) { testkit.NoGoroutineLeft(m) }

// rig is a running broker with everything it needs in memory.
type rig struct {
	*Broker
	log      *memLog
	creds    *memCredentials
	sessions *memSessions
	registry *prometheus.Registry
	stop     context.CancelFunc
	done     chan error
}

// start runs a broker until the end of the test. Devices d1 to d9 of tenant t1, ipc1 of t1 and x1 of t2 are known; the
// secret of each is its id. Tokens: reader (t1, mqtt), reader2 (t2, mqtt), root (t1, mqtt:admin), web (no scope).
func start(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{
		log: newMemLog(), sessions: newMemSessions(), registry: prometheus.NewRegistry(), done: make(chan error, 1),
		creds: &memCredentials{known: map[fleet.DeviceID]fleet.Credential{}},
	}
	for i := 1; i <= 9; i++ {
		r.creds.set(device(fleet.DeviceID(fmt.Sprintf("d%d", i)), "t1", fleet.Direct))
	}
	r.creds.set(device("ipc1", "t1", fleet.IPC))
	r.creds.set(device("x1", "t2", fleet.Direct))
	r.creds.set(device("meter1", "t1", fleet.Meter))
	off := device("off1", "t1", fleet.Direct)
	off.Enabled = false
	r.creds.set(off)
	past := time.Now().Add(-time.Hour)
	o := Options{
		Gateway:     command.Gateway{ID: "gw1", Incarnation: "i1"},
		Listeners:   []door.Listen{{Name: "mqtt", Address: "127.0.0.1:0"}},
		Log:         r.log,
		Credentials: r.creds,
		Sessions:    r.sessions,
		Tokens: memTokens{
			"reader":  {ID: "reader", Tenant: "t1", Scopes: []fleet.Scope{fleet.MQTT}},
			"reader2": {ID: "reader2", Tenant: "t2", Scopes: []fleet.Scope{fleet.MQTT}},
			"root":    {ID: "root", Tenant: "t1", Scopes: []fleet.Scope{fleet.MQTTAdmin}},
			"web":     {ID: "web", Tenant: "t1", Scopes: []fleet.Scope{fleet.FleetRead}},
			"old":     {ID: "old", Tenant: "t1", Scopes: []fleet.Scope{fleet.MQTT}, ExpiresAt: &past},
		},
		Pepper: pepper, BackendSecret: "backend secret", Partitions: 16, Registerer: r.registry,
	}
	if os.Getenv("BROKER_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, f := range change {
		f(&o)
	}
	// A gateway that is a second one shares what the change put in.
	if l, ok := o.Log.(*memLog); ok {
		r.log = l
	}
	if s, ok := o.Sessions.(*memSessions); ok {
		r.sessions = s
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Broker = b
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.done <- b.Run(ctx) }()
	t.Cleanup(func() { r.shutdown(t) })
	return r
}

// shutdown drains the broker; calling it again does nothing.
func (r *rig) shutdown(t testing.TB) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		r.done <- nil
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(drainPatience + waitMost):
		t.Fatal("Run did not return")
	}
}

// metric sums a counter or gauge over the labels given as name, value pairs.
func (r *rig) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "meterline_mqtt_"+name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				for _, l := range m.GetLabel() {
					if l.GetName() == labels[i] && l.GetValue() != labels[i+1] {
						continue metrics
					}
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func (r *rig) awaitMetric(t testing.TB, want float64, name string, labels ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s%v is %v", name, labels, want), func() bool { return r.metric(t, name, labels...) >= want })
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitMost)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}

// hi is what a test client says in CONNECT.
type hi struct {
	id, user, pass string
	version        byte // 0: 4
	persistent     bool
	expiry         uint32 // of the session, MQTT 5
	keepAlive      uint16
	receiveMaximum uint16
	will           string
	nobody         bool   // no user name, no password
	from           string // address to connect from; "": 127.0.0.1
	unspoken       bool   // no password
}

func dev(id string) hi { return hi{id: id, user: id, pass: id} }

func (h hi) v5() hi { h.version = 5; return h }

// client is a raw MQTT client: what it reads really came, and nothing is sent that a test did not.
type client struct {
	t       testing.TB
	conn    net.Conn
	in      *bufio.Reader
	version byte
	connack packets.Packet
}

// dial connects and reads CONNACK, whatever it says.
func (r *rig) dial(t testing.TB, h hi) *client {
	t.Helper()
	c := r.knock(t, h)
	c.connack = c.expect(packets.Connack)
	return c
}

// connect connects and wants to be admitted.
func (r *rig) connect(t testing.TB, h hi) *client {
	t.Helper()
	c := r.dial(t, h)
	if c.connack.ReasonCode != 0 {
		t.Fatalf("%q was refused: %#x", h.id, c.connack.ReasonCode)
	}
	return c
}

// knock sends CONNECT.
func (r *rig) knock(t testing.TB, h hi) *client {
	t.Helper()
	var dialer net.Dialer
	if h.from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(h.from)}
	}
	conn, err := dialer.Dial("tcp", r.Addr("mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return say(t, conn, h)
}

// say sends CONNECT by a connection.
func say(t testing.TB, conn net.Conn, h hi) *client {
	t.Helper()
	c := speaker(t, conn, h)
	c.send(h.packet())
	return c
}

func speaker(t testing.TB, conn net.Conn, h hi) *client {
	if h.version == 0 {
		h.version = 4
	}
	return &client{t: t, conn: conn, in: bufio.NewReader(conn), version: h.version}
}

// packet is the CONNECT.
func (h hi) packet() packets.Packet {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: h.id, Clean: !h.persistent, Keepalive: h.keepAlive,
			Username: []byte(h.user), UsernameFlag: !h.nobody, Password: []byte(h.pass), PasswordFlag: !h.nobody && !h.unspoken,
		},
		Properties: packets.Properties{
			SessionExpiryInterval: h.expiry, SessionExpiryIntervalFlag: h.expiry > 0, ReceiveMaximum: h.receiveMaximum,
		},
	}
	if h.will != "" {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, h.will, []byte("gone")
	}
	return pk
}

func (c *client) send(pk packets.Packet) {
	c.t.Helper()
	if err := c.trySend(pk); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *client) trySend(pk packets.Packet) error {
	pk.ProtocolVersion = c.version
	pk.Mods.AllowResponseInfo = true
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&buf)
	case packets.Unsubscribe:
		pk.FixedHeader.Qos = 1
		err = pk.UnsubscribeEncode(&buf)
	case packets.Pingreq:
		err = pk.PingreqEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	default:
		err = fmt.Errorf("no encoder for %d", pk.FixedHeader.Type)
	}
	if err != nil {
		return err
	}
	_, err = c.conn.Write(buf.Bytes())
	return err
}

// read reads the next packet within the time.
func (c *client) read(within time.Duration) (packets.Packet, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(within))
	pk := packets.Packet{ProtocolVersion: c.version}
	first, err := c.in.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	if pk.FixedHeader.Remaining, _, err = packets.DecodeLength(c.in); err != nil {
		return pk, err
	}
	body := make([]byte, pk.FixedHeader.Remaining)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	}
	return pk, err
}

// expect reads the next packet, which must be of the kind.
func (c *client) expect(kind byte) packets.Packet {
	c.t.Helper()
	pk, err := c.read(waitMost)
	if err != nil {
		c.t.Fatalf("expected %s: %v", packets.PacketNames[kind], err)
	}
	if pk.FixedHeader.Type != kind {
		c.t.Fatalf("expected %s, got %s", packets.PacketNames[kind], packets.PacketNames[pk.FixedHeader.Type])
	}
	return pk
}

// closed wants the connection to be closed by the broker, and returns what came before.
func (c *client) closed() (before []packets.Packet) {
	c.t.Helper()
	for {
		pk, err := c.read(waitMost)
		switch {
		case err == nil:
			before = append(before, pk)
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.t.Fatalf("still connected, after %d packets", len(before))
		default:
			return before
		}
	}
}

// publish sends without waiting for anything.
func (c *client) publish(topic string, payload string, qos byte, id uint16) {
	c.t.Helper()
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload), PacketID: id,
	})
}

// subscribe subscribes and returns the code.
func (c *client) subscribe(filter string, qos byte, id uint16) byte {
	c.t.Helper()
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: id,
		Filters: packets.Subscriptions{{Filter: filter, Qos: qos}},
	})
	ack := c.expect(packets.Suback)
	if ack.PacketID != id || len(ack.ReasonCodes) != 1 {
		c.t.Fatalf("SUBACK %+v", ack)
	}
	return ack.ReasonCodes[0]
}

func (c *client) puback(id uint16) {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
}

// ping proves that everything sent before has been read.
func (c *client) ping() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.expect(packets.Pingresp)
}

// listening connects an endpoint and subscribes it to its commands.
func (r *rig) listening(t testing.TB, h hi) *client {
	t.Helper()
	c := r.connect(t, h)
	if code := c.subscribe(mqtt.CommandTopic(fleet.DeviceID(h.user)), 1, 1); code != 1 {
		t.Fatalf("subscribe: %#x", code)
	}
	return c
}

// backend connects as a backend.
func (r *rig) backend(t testing.TB) *client {
	t.Helper()
	return r.connect(t, hi{id: "b1", user: "backend", pass: "backend secret"})
}

// command publishes a command message and waits for the PUBACK.
func (c *client) command(endpoint, messageID string, id uint16) {
	c.t.Helper()
	c.publish(mqtt.CommandTopic(fleet.DeviceID(endpoint)), commandJSON(messageID, time.Minute), 1, id)
	if ack := c.expect(packets.Puback); ack.PacketID != id || ack.ReasonCode != 0 {
		c.t.Fatalf("PUBACK %d %#x for %d", ack.PacketID, ack.ReasonCode, id)
	}
}

func commandJSON(messageID string, left time.Duration) string {
	return fmt.Sprintf(`{"v":1,"message_id":%q,"message_type":"unicast","command_id":"c1","kind":"meter.read",`+
		`"traceparent":"00-1-2-01","expires_at":%q,"targets":[]}`, messageID, time.Now().Add(left).UTC().Format(time.RFC3339Nano))
}
