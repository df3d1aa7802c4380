package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/mqtt/door"
	"meterline/testkit"
)

func TestAClientThatDoesNotSayConnectIsClosed(t *testing.T) {
	t.Parallel()
	r := start(t)
	began := time.Now() // before the broker counts
	c, err := net.Dial("tcp", r.Addr("mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte{0x10}); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(waitMost))
	if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("read: %v", err)
	}
	if took := time.Since(began); took < door.ConnectTimeout-time.Second {
		t.Errorf("closed after %v", took)
	}
}

// certificate is a self-signed one for 127.0.0.1.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

func TestEveryWayIn(t *testing.T) {
	server, trust := certificate(t)
	r := start(t, func(o *Options) {
		o.Listeners = append(o.Listeners,
			door.Listen{Name: "mqtts", Address: "127.0.0.1:0", TLS: server},
			door.Listen{Name: "ws", Address: "127.0.0.1:0", WebSocket: true},
			door.Listen{Name: "wss", Address: "127.0.0.1:0", WebSocket: true, TLS: server})
	})
	if got := r.presence.gateway.Address; got != r.Addr("mqtt") {
		t.Errorf("advertised as %q", got)
	}
	b := r.backend(t)
	for i, url := range []string{
		"tcp://" + r.Addr("mqtt"), "ssl://" + r.Addr("mqtts"), "ws://" + r.Addr("ws") + "/mqtt", "wss://" + r.Addr("wss"),
	} {
		scheme, _, _ := strings.Cut(url, ":")
		t.Run(scheme, func(t *testing.T) {
			o := paho.NewClientOptions().AddBroker(url).SetClientID("d1").SetUsername("d1").SetPassword("d1")
			o.SetTLSConfig(trust).SetAutoReconnect(false).SetConnectTimeout(waitMost)
			got := make(chan string, 1)
			c := paho.NewClient(o)
			finish(t, "connect", c.Connect())
			defer c.Disconnect(100)
			finish(t, "subscribe", c.Subscribe("meterline/v1/d1/down/command", 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()) }))
			payload := strings.Repeat("x", 100<<10)
			finish(t, "publish", c.Publish("meterline/v1/d1/up/readings", 1, false, payload))
			if up := r.log.awaitKind(t, command.UplinkReadings, i+1); string(up[i].Payload) != payload {
				t.Errorf("%d bytes came", len(up[i].Payload))
			}
			b.command("d1", "m1", uint16(i+1))
			select {
			case m := <-got:
				if !strings.Contains(m, `"message_id":"m1"`) {
					t.Errorf("got %s", m)
				}
			case <-time.After(waitMost):
				t.Error("no command came")
			}
			r.log.awaitKind(t, command.UplinkDelivered, i+1)
		})
	}
}

func finish(t *testing.T, what string, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(waitMost) {
		t.Fatalf("%s: no answer", what)
	}
	if err := token.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestMosquittoPlaysADevice(t *testing.T) {
	subscribe, publish := testkit.Program(t, "mosquitto_sub", "mosquitto-clients"), testkit.Program(t, "mosquitto_pub", "mosquitto-clients")
	r := start(t)
	host, port, err := net.SplitHostPort(r.Addr("mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitMost)
	defer cancel()
	login := []string{"-h", host, "-p", port, "-u", "d1", "-P", "d1", "-q", "1"}
	sub := exec.CommandContext(ctx, subscribe, append(login, "-i", "d1", "-t", "meterline/v1/d1/down/command", "-C", "1")...)
	var out strings.Builder
	sub.Stdout = &out
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	r.log.awaitKind(t, command.UplinkConnected, 1)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		pub := exec.CommandContext(ctx, publish, append(login, "-V", version, "-i", "d1:hand", "-t", "meterline/v1/d1/up/result", "-m", "by hand")...)
		if text, err := pub.CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub %s: %v: %s", version, err, text)
		}
	}
	if got := r.log.awaitKind(t, command.UplinkResult, 2); string(got[1].Payload) != "by hand" {
		t.Errorf("%s", got[1].Payload)
	}
	r.backend(t).command("d1", "m1", 1)
	if err := sub.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"message_id":"m1"`) {
		t.Errorf("mosquitto_sub printed %q", out.String())
	}
}

// The gateway ends in time whatever its clients do: say half a CONNECT or half a PUBLISH, do not read, or go on sending.
func TestDrainWhateverTheClientsDo(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, begun := range [][]byte{nil, {0x10}, {0x10, 30, 0, 4, 'M', 'Q'}} {
		conn, err := net.Dial("tcp", r.Addr("mqtt"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write(begun)
	}
	half := r.connect(t, dev("d1"))
	_, _ = half.conn.Write([]byte{0x32, 100, 0, 3})
	deaf := r.connect(t, service("reader"))
	_ = deaf.conn.(*net.TCPConn).SetReadBuffer(1 << 10)
	deaf.subscribe("deaf", 0, 1)
	talker := r.connect(t, hi{id: "talker", user: "service", pass: "reader"})
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		for talker.trySend(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "deaf", Payload: make([]byte, 10<<10),
		}) == nil {
		}
	}()
	r.awaitMetric(t, 20, "plain_received_total")
	pulse, began := testkit.StartPulse(t), time.Now()
	r.shutdown(t)
	if took := time.Since(began); took > pulse.Limit(drainPatience) {
		t.Errorf("it took %v", took)
	}
	<-sending
}

func TestDrain(t *testing.T) {
	r := start(t)
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	r.log.onAppend(func(_ context.Context, entries []command.Uplink) error {
		if count(entries, command.UplinkResult) > 0 { // its session's hint may be in the same batch
			entered <- struct{}{}
			<-release
		}
		return nil
	})
	d := r.listening(t, dev("d1").v5())
	silent, err := net.Dial("tcp", r.Addr("mqtt")) // never says CONNECT
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	r.backend(t).command("d1", "m1", 1)
	d.expect(packets.Publish)
	d.publish("meterline/v1/d1/up/result", "taken", 1, 1)
	<-entered
	d.publish("meterline/v1/d1/up/result", "taken too", 1, 2)
	d.ping()
	r.stop()
	eventually(t, "it does not accept", func() bool {
		c, err := net.Dial("tcp", r.Addr("mqtt"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	d.publish("meterline/v1/d1/up/result", "not taken", 1, 3)
	d.ping()
	close(release)
	for id := uint16(1); id <= 2; id++ {
		if ack := d.expect(packets.Puback); ack.PacketID != id {
			t.Errorf("PUBACK %d", ack.PacketID)
		}
	}
	if before := d.closed(); len(before) != 1 || before[0].ReasonCode != packets.ErrUseAnotherServer.Code {
		t.Errorf("got %+v", before)
	}
	r.shutdown(t)
	all := r.log.all()
	if count(all, command.UplinkResult) != 2 || count(all, command.UplinkUndeliverable) != 1 || count(all, command.UplinkDisconnected) != 1 {
		t.Errorf("the log holds %v", kinds(all))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{
		Listeners: []door.Listen{{Name: "mqtt", Address: "127.0.0.1:0"}}, Log: newMemLog(), Credentials: &memCredentials{},
		Sessions: newMemSessions(), Partitions: 16,
	}
	for name, spoil := range map[string]func(*Options){
		"log":        func(o *Options) { o.Log = nil },
		"partitions": func(o *Options) { o.Partitions = 0 },
		"listener":   func(o *Options) { o.Listeners = nil },
		"anonymous":  func(o *Options) { o.Anonymous = "all" },
		"address":    func(o *Options) { o.Listeners = []door.Listen{{Name: "mqtt", Address: "127.0.0.1:no"}} },
		"name twice": func(o *Options) { o.Listeners = append(o.Listeners, o.Listeners[0]) },
	} {
		o := good
		spoil(&o)
		if b, err := New(o); err == nil {
			t.Errorf("%s: taken", name)
			b.Close()
		}
	}
	b, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
}
