package door

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"testing"
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

// Clients behind a proxy are counted each by its own address, not as one crowd.
func TestProxiedClientsAreCountedByTheirOwnAddresses(t *testing.T) {
	r := begin(t, func(o *Options) {
		o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
		o.Unadmitted = 20
	})
	client := func(last byte) []byte {
		a := slices.Clone(tcp4)
		a[3] = last
		return proxyHeader(0x21, 0x11, a...)
	}
	good := from(t, "127.0.0.9", r.address("tcp"))
	if _, err := good.Write(client(1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is counted", func() bool {
		r.gate.mu.Lock()
		defer r.gate.mu.Unlock()
		return r.gate.crowds[netip.MustParsePrefix("203.0.113.1/32")] != nil
	})
	for range 40 {
		conn := from(t, "127.0.0.9", r.address("tcp"))
		_, _ = conn.Write(client(66)) // it may be too late
	}
	r.awaitMetric(t, 20, "clients_refused_total", "full")
	if err := says(good, "+"); err != nil {
		t.Errorf("refused: %v", err)
	}
}
