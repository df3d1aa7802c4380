package broker

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"meterline/fleet"
)

// proxyHeader is a header of version 2.
func proxyHeader(command, family byte, addresses ...byte) []byte {
	head := append([]byte(proxySignature), command, family)
	head = binary.BigEndian.AppendUint16(head, uint16(len(addresses)))
	return append(head, addresses...)
}

var (
	tcp4 = []byte{203, 0, 113, 7, 10, 0, 0, 1, 0xC3, 0x50, 0x07, 0x5B} // 203.0.113.7:50000 → 10.0.0.1:1883
	tcp6 = slices.Concat(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice(), []byte{0xC3, 0x50, 0x07, 0x5B})
	tlv  = []byte{0x02, 0, 3, 'm', 'q', 't'} // PP2_TYPE_AUTHORITY
)

var proxyCases = []struct {
	name   string
	header []byte
	client string // "": that of the connection
	bad    bool
}{
	{"IPv4", proxyHeader(0x21, 0x11, tcp4...), "203.0.113.7:50000", false},
	{"IPv6", proxyHeader(0x21, 0x21, tcp6...), "[2001:db8::7]:50000", false},
	{"TLVs", proxyHeader(0x21, 0x11, slices.Concat(tcp4, tlv, tlv)...), "203.0.113.7:50000", false},
	{"IPv6 and TLVs", proxyHeader(0x21, 0x21, slices.Concat(tcp6, tlv)...), "[2001:db8::7]:50000", false},
	{"as long as may be", proxyHeader(0x21, 0x11, append(tcp4, make([]byte, proxyMost-12)...)...), "203.0.113.7:50000", false},
	{"LOCAL", proxyHeader(0x20, 0x00), "", false},
	{"LOCAL with addresses", proxyHeader(0x20, 0x11, tcp4...), "", false},
	{"unspecified", proxyHeader(0x21, 0x00, tlv...), "", false},
	{"unix", proxyHeader(0x21, 0x31, make([]byte, 216)...), "", false},
	{"UDP", proxyHeader(0x21, 0x12, tcp4...), "", true},
	{"too short for IPv4", proxyHeader(0x21, 0x11, tcp4[:11]...), "", true},
	{"too short for IPv6", proxyHeader(0x21, 0x21, tcp6[:35]...), "", true},
	{"too long", proxyHeader(0x21, 0x11, append(tcp4, make([]byte, proxyMost)...)...), "", true},
	{"version 1", []byte("PROXY TCP4 203.0.113.7 10.0.0.1 50000 1883\r\n"), "", true},
	{"version 3", proxyHeader(0x31, 0x11, tcp4...), "", true},
	{"another command", proxyHeader(0x22, 0x11, tcp4...), "", true},
	{"truncated", proxyHeader(0x21, 0x11, tcp4...)[:20], "", true},
	{"truncated in the signature", []byte(proxySignature)[:5], "", true},
	{"nothing", nil, "", true},
}

func TestReadProxy(t *testing.T) {
	for _, c := range proxyCases {
		r := bytes.NewReader(append(slices.Clone(c.header), "MQTT"...))
		if c.bad {
			r = bytes.NewReader(c.header)
		}
		client, err := readProxy(r)
		if (err != nil) != c.bad {
			t.Errorf("%s: error %v", c.name, err)
			continue
		}
		if got := client.String(); client.IsValid() && got != c.client || !client.IsValid() && c.client != "" {
			t.Errorf("%s: client %s", c.name, got)
		}
		if rest, _ := io.ReadAll(r); !c.bad && string(rest) != "MQTT" {
			t.Errorf("%s: %q is left", c.name, rest)
		}
	}
}

func FuzzReadProxy(f *testing.F) {
	for _, c := range proxyCases {
		f.Add(c.header)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		client, err := readProxy(r)
		read := len(in) - r.Len()
		if read > proxyFixed+proxyMost {
			t.Fatalf("%d bytes read", read)
		}
		if err != nil {
			if client.IsValid() {
				t.Fatal("an address, and an error")
			}
			return
		}
		if want := proxyFixed + int(binary.BigEndian.Uint16(in[14:])); read != want {
			t.Fatalf("%d bytes read of a header of %d", read, want)
		}
		if client.IsValid() && (in[12] != proxyProxy || client.Addr().Is4In6()) {
			t.Fatalf("client %v", client)
		}
	})
}

// behindProxy is a broker with all four kinds of listeners, for which 127.0.0.9 is a proxy.
func behindProxy(t *testing.T) *rig {
	t.Helper()
	server, _ := certificate(t)
	return start(t, func(o *Options) {
		o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
		o.Listeners = append(o.Listeners,
			Listen{Name: "mqtts", Address: "127.0.0.1:0", TLS: server},
			Listen{Name: "ws", Address: "127.0.0.1:0", WebSocket: true},
			Listen{Name: "wss", Address: "127.0.0.1:0", WebSocket: true, TLS: server})
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
		conn = &webConn{Conn: ws.NetConn(), ws: ws}
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

	slow, err := from("127.0.0.9", r.Addr("mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	began := time.Now()
	_, _ = slow.Write([]byte(proxySignature))
	_ = slow.SetReadDeadline(time.Now().Add(2 * connectTimeout))
	if _, err := slow.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a slow header: %v", err)
	}
	if took := time.Since(began); took < connectTimeout-time.Second {
		t.Errorf("closed after %v", took)
	}
}

// Clients behind a proxy are counted each by its own address, not as one crowd.
func TestProxiedClientsAreCountedByTheirOwnAddresses(t *testing.T) {
	r := start(t, func(o *Options) {
		o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
		o.Unadmitted = 20
	})
	client := func(last byte) []byte {
		a := slices.Clone(tcp4)
		a[3] = last
		return proxyHeader(0x21, 0x11, a...)
	}
	good := r.through(t, "mqtt", client(1), "127.0.0.9")
	eventually(t, "it is counted", func() bool {
		r.gate.mu.Lock()
		defer r.gate.mu.Unlock()
		return r.gate.crowds[netip.MustParsePrefix("203.0.113.1/32")] != nil
	})
	for range 40 {
		conn, err := from("127.0.0.9", r.Addr("mqtt"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write(client(66)) // it may be too late
	}
	r.awaitMetric(t, 20, "clients_refused_total", "reason", "full")
	if c := say(t, good, dev("d1")); c.expect(2).ReasonCode != 0 {
		t.Error("refused")
	}
}
