package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// bytesOf reads hexadecimal; text between quotes stands for itself.
func bytesOf(t testing.TB, s string) []byte {
	t.Helper()
	var out []byte
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			out = append(out, part...)
			continue
		}
		b, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// packet puts a fixed header before a body.
func packet(t testing.TB, header byte, body string) []byte {
	t.Helper()
	b := bytesOf(t, body)
	if len(b) > 127 {
		t.Fatal("too long for a test")
	}
	return append([]byte{header, byte(len(b))}, b...)
}

var cases = []struct {
	name    string
	clause  string
	version byte
	header  byte
	body    string
	want    byte // reason code; 0: well-formed
}{
	{"publish QoS 0", "3.3", 4, 0x30, "0003'a/b' 'x'", 0},
	{"publish without payload", "3.3.3", 4, 0x30, "0003'a/b'", 0},
	{"publish QoS 2, DUP, retain", "3.3.1", 4, 0x3d, "0003'a/b' 0001 'x'", 0},
	{"publish QoS 3", "3.3.1-4", 4, 0x36, "0003'a/b' 0001", 0x81},
	{"DUP at QoS 0", "3.3.1-2", 5, 0x38, "0003'a/b' 00", 0x82},
	{"topic with wildcard", "3.3.2-2", 4, 0x30, "0003'a/#'", 0x90},
	{"topic with plus", "3.3.2-2", 5, 0x30, "0003'a/+' 00", 0x90},
	{"topic empty", "4.7.3-1", 4, 0x30, "0000 'x'", 0x82},
	{"topic empty without alias", "3.3.2.1", 5, 0x30, "0000 00", 0x82},
	{"topic empty with alias", "3.3.2.3.4", 5, 0x30, "0000 03 23 0001", 0},
	{"topic with U+0000", "1.5.4-2", 4, 0x30, "0003 61 00 62", 0x81},
	{"topic with a surrogate", "1.5.4-1", 4, 0x30, "0003 eda080", 0x81},
	{"topic overlong", "1.5.4-1", 5, 0x30, "0002 c0af 00", 0x81},
	{"topic with BOM", "1.5.4-3", 4, 0x30, "0004 efbbbf 'a'", 0},
	{"topic cut off", "", 4, 0x30, "0009'a/b'", 0x81},
	{"packet id 0", "2.2.1-2", 4, 0x32, "0003'a/b' 0000", 0x82},
	{"packet id cut off", "", 5, 0x32, "0003'a/b' 00", 0x81},
	{"all properties of a publish", "3.3.2.3", 5, 0x30,
		"0001'a' 24 0101 0200000001 23 0001 08 0001'r' 09 0001'c' 03 0001't' 26 0001'k' 0001'v' 26 0001'k' 0001'v'", 0},
	{"payload format 2", "3.3.2.3.2", 5, 0x30, "0001'a' 02 0102", 0x82},
	{"response topic with wildcard", "3.3.2-14", 5, 0x30, "0001'a' 04 08 0001'#'", 0x82},
	{"content type not UTF-8", "3.3.2-19", 5, 0x30, "0001'a' 04 03 0001ff", 0x81},
	{"subscription identifier from a client", "3.3.4-6", 5, 0x30, "0001'a' 02 0b01", 0x82},
	{"content type twice", "3.3.2.3.9", 5, 0x30, "0001'a' 08 03 0001'x' 03 0001'y'", 0x82},
	{"unknown property", "2.2.2.2", 5, 0x30, "0001'a' 02 7f00", 0x81},
	{"property of CONNACK", "2.2.2.2", 5, 0x30, "0001'a' 02 2501", 0x82},
	{"property cut off by the length", "2.2.2.1", 5, 0x30, "0001'a' 03 02000000 01", 0x81},
	{"properties longer than the packet", "2.2.2.1", 5, 0x30, "0001'a' 09 0101", 0x81},
	{"property length not shortest", "1.5.5-1", 5, 0x30, "0001'a' 8000", 0x81},
	{"property length of five bytes", "1.5.5", 5, 0x30, "0001'a' 8080808001", 0x81},
	{"no property length", "2.2.2-1", 5, 0x30, "0001'a'", 0x81},

	{"puback", "3.4", 4, 0x40, "0001", 0},
	{"puback with a rest", "3.4", 4, 0x40, "0001 00", 0x81},
	{"puback with flags", "2.1.3-1", 4, 0x41, "0001", 0x81},
	{"puback id 0", "2.2.1", 4, 0x40, "0000", 0x82},
	{"puback cut off", "", 4, 0x40, "00", 0x81},
	{"puback with reason", "3.4.2.1", 5, 0x40, "0001 10", 0},
	{"puback with unknown reason", "3.4.2-1", 5, 0x40, "0001 01", 0x82},
	{"puback with properties", "3.4.2.2", 5, 0x40, "0001 80 09 1f 0001'x' 26 0000 0000", 0},
	{"puback with two reason strings", "3.4.2.2.2", 5, 0x40, "0001 80 08 1f 0001'x' 1f 0001'x'", 0x82},
	{"puback with a rest after properties", "", 5, 0x40, "0001 00 00 00", 0x81},
	{"pubrec", "3.5", 5, 0x50, "0001 97", 0},
	{"pubrel", "3.6", 4, 0x62, "0001", 0},
	{"pubrel with flags 0", "3.6.1-1", 4, 0x60, "0001", 0x81},
	{"pubrel not found", "3.6.2.1", 5, 0x62, "0001 92", 0},
	{"pubrel with a reason of pubrec", "3.6.2-1", 5, 0x62, "0001 97", 0x82},
	{"pubcomp", "3.7", 5, 0x70, "0001", 0},

	{"subscribe", "3.8", 4, 0x82, "0001 0003'a/b' 02 0001'#' 00", 0},
	{"subscribe with flags 0", "3.8.1-1", 4, 0x80, "0001 0001'a' 00", 0x81},
	{"subscribe to nothing", "3.8.3-2", 4, 0x82, "0001", 0x82},
	{"subscribe id 0", "2.2.1-3", 4, 0x82, "0000 0001'a' 00", 0x82},
	{"subscribe without options", "3.8.3", 5, 0x82, "0001 00 0001'a'", 0x81},
	{"subscribe QoS 3", "3.8.3-4", 4, 0x82, "0001 0001'a' 03", 0x81},
	{"subscribe reserved bits", "3.8.3-4", 4, 0x82, "0001 0001'a' 05", 0x81},
	{"subscribe QoS 3", "3.8.3.1", 5, 0x82, "0001 00 0001'a' 03", 0x82},
	{"subscribe reserved bits", "3.8.3-5", 5, 0x82, "0001 00 0001'a' 40", 0x81},
	{"subscribe retain handling 3", "3.8.3.1", 5, 0x82, "0001 00 0001'a' 30", 0x82},
	{"subscribe all options", "3.8.3.1", 5, 0x82, "0001 02 0b01 0001'a' 2e", 0},
	{"subscription identifier 0", "3.8.2.1.2", 5, 0x82, "0001 02 0b00 0001'a' 00", 0x82},
	{"subscription identifier largest", "3.8.2.1.2", 5, 0x82, "0001 05 0bffffff7f 0001'a' 00", 0},
	{"two subscription identifiers", "3.8.2.1.2", 5, 0x82, "0001 04 0b01 0b02 0001'a' 00", 0x82},
	{"filter not UTF-8", "3.8.3-1", 4, 0x82, "0001 0001ff 00", 0x81},
	{"unsubscribe", "3.10", 5, 0xa2, "0001 00 0001'a' 0001'b'", 0},
	{"unsubscribe flags", "3.10.1-1", 5, 0xa0, "0001 00 0001'a'", 0x81},
	{"unsubscribe nothing", "3.10.3-2", 5, 0xa2, "0001 00", 0x82},

	{"pingreq", "3.12", 4, 0xc0, "", 0},
	{"pingreq with a body", "3.12", 4, 0xc0, "00", 0x81},
	{"pingreq with flags", "2.1.3-1", 4, 0xc1, "", 0x81},
	{"disconnect", "3.14", 4, 0xe0, "", 0},
	{"disconnect with a body", "3.14", 4, 0xe0, "00", 0x81},
	{"disconnect with flags", "3.14.1-1", 5, 0xe1, "", 0x81},
	{"disconnect with will", "3.14.2.1", 5, 0xe0, "04", 0},
	{"disconnect with expiry", "3.14.2.2.2", 5, 0xe0, "00 05 1100000001", 0},
	{"disconnect with a reason of servers", "3.14.2.1", 5, 0xe0, "8b", 0x82},
	{"disconnect with server reference", "3.14.2.2.5", 5, 0xe0, "00 04 1c 0001'x'", 0x82},
	{"auth", "4.12", 5, 0xf0, "", 0x82},
	{"auth", "2.1.2", 4, 0xf0, "", 0x81},
	{"type 0", "2.1.2", 5, 0x00, "", 0x81},
	{"connect again", "3.1.0-2", 5, 0x10, "0004'MQTT' 05 02 0000 00 0001'a'", 0x82},
	{"connack from a client", "2.1.2", 5, 0x20, "0000 00", 0x82},
	{"suback from a client", "2.1.2", 4, 0x90, "0001 00", 0x82},
	{"pingresp from a client", "2.1.2", 4, 0xd0, "", 0x82},
}

func TestCheck(t *testing.T) {
	for _, c := range cases {
		p := packet(t, c.header, c.body)
		if got := codeOf(t, Check(c.version, p)); got != c.want {
			t.Errorf("v%d: %s [%s]: %#x, want %#x", c.version, c.name, c.clause, got, c.want)
		}
	}
}

func codeOf(t testing.TB, err error) byte {
	t.Helper()
	var code packets.Code
	if err != nil && !errors.As(err, &code) {
		t.Fatalf("not a code: %v", err)
	}
	return code.Code
}

var connects = []struct {
	name   string
	clause string
	body   string
	want   error // nil: well-formed
}{
	{"3.1.1, clean", "", "0004'MQTT' 04 02 003c 0001'a'", nil},
	{"3.1.1, no client id", "3.1.3-6", "0004'MQTT' 04 02 003c 0000", nil},
	{"3.1.1, all", "", "0004'MQTT' 04 f6 003c 0001'a' 0001't' 0001'w' 0001'u' 0001'p'", nil},
	{"empty will, user and password", "3.1.3", "0004'MQTT' 04 c6 003c 0001'a' 0001't' 0000 0000 0000", nil},
	{"5, clean", "", "0004'MQTT' 05 02 003c 00 0001'a'", nil},
	{"5, password alone", "3.1.2.9", "0004'MQTT' 05 42 003c 00 0001'a' 0001'p'", nil},
	{"5, all properties", "3.1.2.11",
		"0004'MQTT' 05 02 003c 1b 11 00000001 21 0001 27 00000001 22 0000 19 01 17 00 26 0001'k' 0001'v' 0001'a'", nil},
	{"5, all will properties", "3.1.3.2",
		"0004'MQTT' 05 06 003c 00 0001'a' 1b 18 00000001 01 01 02 00000001 03 0000 08 0001'r' 09 0000 26 0000 0000 0001't' 0000", nil},
	{"no MQTT", "3.1.2-1", "0004'HTTP' 04 02 003c 0001'a'", ErrNotMQTT},
	{"lower case", "3.1.2-1", "0004'mqtt' 04 02 003c 0001'a'", ErrNotMQTT},
	{"name only", "", "0004'MQTT'", ErrNotMQTT},
	{"nothing", "", "", ErrNotMQTT},
	{"MQTT 3.1", "3.1.2-2", "0006'MQIsdp' 03 02 003c 0001'a'", packets.ErrUnsupportedProtocolVersion},
	{"level 3", "3.1.2-2", "0004'MQTT' 03 02 003c 0001'a'", packets.ErrUnsupportedProtocolVersion},
	{"level 6", "3.1.2-2", "0004'MQTT' 06 02 003c 0001'a'", packets.ErrUnsupportedProtocolVersion},
	{"reserved flag", "3.1.2-3", "0004'MQTT' 04 03 003c 0001'a'", packets.ErrMalformedFlags},
	{"will QoS without will", "3.1.2-11", "0004'MQTT' 04 0a 003c 0001'a'", packets.ErrMalformedFlags},
	{"will retain without will", "3.1.2-13", "0004'MQTT' 05 22 003c 00 0001'a'", packets.ErrMalformedFlags},
	{"will QoS 3", "3.1.2-12", "0004'MQTT' 04 1e 003c 0001'a' 0001't' 0000", packets.ErrMalformedFlags},
	{"3.1.1, password alone", "3.1.2-22", "0004'MQTT' 04 42 003c 0001'a' 0001'p'", packets.ErrMalformedFlags},
	{"will topic empty", "4.7.3-1", "0004'MQTT' 04 06 003c 0001'a' 0000 0000", packets.ErrTopicNameInvalid},
	{"will topic with wildcard", "3.1.3-11", "0004'MQTT' 04 06 003c 0001'a' 0001'#' 0000", packets.ErrTopicNameInvalid},
	{"client id not UTF-8", "3.1.3-4", "0004'MQTT' 04 02 003c 0001ff", packets.ErrMalformedInvalidUTF8},
	{"user name not UTF-8", "3.1.3-11", "0004'MQTT' 04 82 003c 0001'a' 0001ff", packets.ErrMalformedInvalidUTF8},
	{"user name missing", "3.1.2-17", "0004'MQTT' 04 82 003c 0001'a'", packets.ErrMalformedPacket},
	{"user name without flag", "3.1.2-16", "0004'MQTT' 04 02 003c 0001'a' 0001'u'", packets.ErrMalformedPacket},
	{"receive maximum 0", "3.1.2.11.3", "0004'MQTT' 05 02 003c 03 210000 0001'a'", packets.ErrProtocolViolation},
	{"maximum packet size 0", "3.1.2.11.4", "0004'MQTT' 05 02 003c 05 2700000000 0001'a'", packets.ErrProtocolViolation},
	{"request problem information 2", "3.1.2.11.7", "0004'MQTT' 05 02 003c 02 1702 0001'a'", packets.ErrProtocolViolation},
	{"session expiry twice", "3.1.2.11.2", "0004'MQTT' 05 02 003c 0a 1100000000 1100000000 0001'a'", packets.ErrProtocolViolation},
	{"will delay outside the will", "3.1.3.2.2", "0004'MQTT' 05 02 003c 05 1800000000 0001'a'",
		packets.ErrProtocolViolationUnsupportedProperty},
	{"authentication method", "4.12-1", "0004'MQTT' 05 02 003c 04 150001'x' 0001'a'", packets.ErrBadAuthenticationMethod},
	{"authentication data alone", "3.1.2.11.10", "0004'MQTT' 05 02 003c 04 160001'x' 0001'a'", packets.ErrProtocolViolation},
}

func TestConnect(t *testing.T) {
	for _, c := range connects {
		p := packet(t, 0x10, c.body)
		pk, err := Connect(p)
		if !errors.Is(err, c.want) {
			t.Errorf("%s [%s]: %v, want %v", c.name, c.clause, err, c.want)
		}
		if c.want != nil {
			continue
		}
		if pk.Connect.ClientIdentifier != "a" && !strings.Contains(c.name, "no client id") {
			t.Errorf("%s: decoded as %+v", c.name, pk.Connect)
		}
		for n := 2; n < len(p); n++ {
			if _, err := Connect(append([]byte{p[0], byte(n - 2)}, p[2:n]...)); err == nil {
				t.Errorf("%s, %d bytes: well-formed", c.name, n)
			}
		}
		if _, err := Connect(append([]byte{p[0], p[1] + 1}, append(p[2:], 0)...)); err == nil {
			t.Errorf("%s and a byte: well-formed", c.name)
		}
	}
	for _, c := range []struct {
		header byte
		body   string
		want   error
	}{
		{0x11, "0004'MQTT' 04 02 003c 0001'a'", packets.ErrMalformedFlags},
		{0x30, "0001'a'", ErrNotMQTT},
		{0xc0, "", ErrNotMQTT},
	} {
		if _, err := Connect(packet(t, c.header, c.body)); !errors.Is(err, c.want) {
			t.Errorf("%#x %s: %v, want %v", c.header, c.body, err, c.want)
		}
	}
}

func TestReader(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		want []error // one for each call to Next
	}{
		{"two packets", "c000 300400 0161 78", []error{nil, nil, io.EOF}},
		{"nothing", "", []error{io.EOF}},
		{"cut off in the length", "30", []error{io.ErrUnexpectedEOF}},
		{"cut off in the body", "3004 00", []error{io.ErrUnexpectedEOF}},
		{"length of five bytes", "3080808080 01", []error{packets.ErrMalformedVariableByteInteger}},
		{"length not shortest", "30 8000", []error{packets.ErrMalformedVariableByteInteger}},
		{"too large", "30 ffffff7f", []error{packets.ErrPacketTooLarge}},
		{"as large as may be", "30 0e" + strings.Repeat("00", 14), []error{nil, io.EOF}},
		{"a byte more", "30 0f", []error{packets.ErrPacketTooLarge}},
	} {
		r := NewReader(bytes.NewReader(bytesOf(t, c.in)), 16)
		r.opened = true
		for i, want := range c.want {
			if _, err := r.Next(); !errors.Is(err, want) {
				t.Errorf("%s: call %d: %v, want %v", c.name, i, err, want)
			}
		}
		r.Release()
	}
}

func TestReaderWantsConnectFirst(t *testing.T) {
	for in, want := range map[string]error{"c0": ErrNotMQTT, "'GET /'": errHTTP, "0d0a": errProxy, "16 0301": io.ErrUnexpectedEOF, "10 00 c000": nil} {
		if _, err := NewReader(bytes.NewReader(bytesOf(t, in)), 16).Next(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", in, err, want)
		}
	}
}

// Memory follows what has come, not what was said.
func TestReaderHoldsWhatCame(t *testing.T) {
	r := NewReader(bytes.NewReader(bytesOf(t, "10 ffffff7f 00")), 1<<28)
	if n := testing.AllocsPerRun(1, func() { _, _ = r.Next() }); n > 20 {
		t.Errorf("%v allocations", n)
	}
	if r.held != nil && cap(*r.held) > 2*growFrame {
		t.Errorf("holds %d bytes", cap(*r.held))
	}
}

// FuzzFrame reads a stream as a broker does. What is well-formed can be decoded, and nothing panics.
func FuzzFrame(f *testing.F) {
	for _, c := range connects {
		f.Add(byte(4), packet(f, 0x10, c.body))
	}
	for _, c := range cases {
		f.Add(c.version, packet(f, c.header, c.body))
	}
	f.Fuzz(func(t *testing.T, version byte, stream []byte) {
		version = 4 + version%2
		r := NewReader(bytes.NewReader(stream), 1<<16)
		r.opened = true
		defer r.Release()
		for {
			p, err := r.Next()
			if err != nil {
				return
			}
			if pk, err := Connect(p); err == nil && pk.ProtocolVersion != 4 && pk.ProtocolVersion != 5 {
				t.Errorf("version %d", pk.ProtocolVersion)
			}
			if Check(version, p) == nil {
				decodes(t, version, p)
			}
		}
	})
}

// decodes wants mochi's codec to take a packet that was found well-formed.
func decodes(t *testing.T, version byte, p []byte) {
	t.Helper()
	pk := packets.Packet{ProtocolVersion: version}
	if err := pk.FixedHeader.Decode(p[0]); err != nil {
		t.Fatalf("%x: %v", p, err)
	}
	n, used, err := packets.DecodeLength(bytes.NewReader(p[1:]))
	if err != nil || 1+used+n != len(p) {
		t.Fatalf("%x: length %d: %v", p, n, err)
	}
	pk.FixedHeader.Remaining = n
	body := p[1+used:]
	switch pk.FixedHeader.Type {
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		err = pk.PubackDecode(body)
	case packets.Subscribe:
		err = pk.SubscribeDecode(body)
	case packets.Unsubscribe:
		err = pk.UnsubscribeDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	if err != nil {
		t.Errorf("v%d %x is well-formed, but: %v", version, p, err)
	}
	opens(t, p, pk)
}
