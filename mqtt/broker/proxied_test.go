package broker

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"meterline/fleet"
	"meterline/mqtt/door"
)

const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// proxyHeader is a header of version 2.
func proxyHeader(command, family byte, addresses ...byte) []byte {
	head := append([]byte(proxySignature), command, family)
	head = binary.BigEndian.AppendUint16(head, uint16(len(addresses)))
	return append(head, addresses...)
}

var tcp4 = []byte{203, 0, 113, 7, 10, 0, 0, 1, 0xC3, 0x50, 0x07, 0x5B} // 203.0.113.7:50000 → 10.0.0.1:1883

// behindProxy is a broker with all four kinds of listeners, for which 127.0.0.9 is a proxy.
func behindProxy(t *testing.T) *rig {
	t.Helper()
	server, _ := certificate(t)
	return start(t, func(o *Options) {
		o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
		o.Listeners = append(o.Listeners,
			door.Listen{Name: "mqtts", Address: "127.0.0.1:0", TLS: server},
			door.Listen{Name: "ws", Address: "127.0.0.1:0", WebSocket: true},
			door.Listen{Name: "wss", Address: "127.0.0.1:0", WebSocket: true, TLS: server})
	})
}

// remote is where the endpoint's session comes from, as presence has it.
func (r *rig) remote(t *testing.T, endpoint string) string {
	t.Helper()
	sessions := r.Broker.registry.all(fleet.DeviceID(endpoint))
	if len(sessions) != 1 {
		t.Fatalf("%d sessions of %s", len(sessions), endpoint)
	}
	return sessions[0].remote
}

func TestProxyTellsTheClientsAddressOnEveryListener(t *testing.T) {
	r := behindProxy(t)
	for i, name := range []string{"mqtt", "mqtts", "ws", "wss"} {
		endpoint := "d" + string(rune('1'+i))
		conn := r.through(t, name, proxyHeader(0x21, 0x11, tcp4...), "127.0.0.9")
		if c := say(t, conn, dev(endpoint)); c.expect(2).ReasonCode != 0 {
			t.Fatalf("%s: refused", name)
		}
		if got := r.remote(t, endpoint); got != "203.0.113.7:50000" {
			t.Errorf("%s: remote address %s", name, got)
		}
	}
	conn := r.through(t, "mqtt", proxyHeader(0x20, 0), "127.0.0.9")
	if c := say(t, conn, dev("d5")); c.expect(2).ReasonCode != 0 || !strings.HasPrefix(r.remote(t, "d5"), "127.0.0.9:") {
		t.Errorf("LOCAL: remote address %s", r.remote(t, "d5"))
	}
}

// through opens a connection as a proxy does, up to where MQTT begins.
func (r *rig) through(t *testing.T, listener string, header []byte, local string) net.Conn {
	t.Helper()
	conn, err := from(local, r.Addr(listener))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write(header); err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(listener, "s") && listener != "ws" {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // who answers does not matter here
	}
	if strings.HasPrefix(listener, "ws") {
		dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, NetDial: func(string, string) (net.Conn, error) { return conn, nil }}
		ws, _, err := dialer.Dial("ws://"+r.Addr(listener)+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		conn = webClient(ws)
	}
	return conn
}

func TestWhoIsNoProxyAndHowProxiesFail(t *testing.T) {
	t.Parallel()
	r := behindProxy(t)
	if c := r.dial(t, dev("d1")); c.connack.ReasonCode != 0 || !strings.HasPrefix(r.remote(t, "d1"), "127.0.0.1:") {
		t.Error("who comes from elsewhere needs no proxy")
	}
	refused := func(name, local string, header []byte) {
		t.Helper()
		conn, err := from(local, r.Addr("mqtt"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		c := speaker(t, conn, dev("d2"))
		_, _ = conn.Write(header)
		_ = c.trySend(dev("d2").packet())
		if before := c.closed(); len(before) > 0 {
			t.Errorf("%s: answered %+v", name, before)
		}
	}
	refused("a header from elsewhere", "127.0.0.8", proxyHeader(0x21, 0x11, tcp4...))
	refused("no header", "127.0.0.9", nil)
	refused("version 1", "127.0.0.9", []byte("PROXY TCP4 203.0.113.7 10.0.0.1 50000 1883\r\n"))
	refused("UDP", "127.0.0.9", proxyHeader(0x21, 0x12, tcp4...))
	r.awaitMetric(t, 3, "clients_refused_total", "reason", "proxy")

	began := time.Now() // before the broker counts
	slow, err := from("127.0.0.9", r.Addr("mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	_, _ = slow.Write([]byte(proxySignature))
	_ = slow.SetReadDeadline(time.Now().Add(waitMost))
	if _, err := slow.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a slow header: %v", err)
	}
	if took := time.Since(began); took < door.ConnectTimeout-time.Second {
		t.Errorf("closed after %v", took)
	}
}
