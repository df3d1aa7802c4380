package broker

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// A fuzzed connection test is a script: the input's bytes are read as steps, each of which makes one client send one
// packet, well formed or broken. Most inputs thus get past CONNECT, which random bytes alone never do.

const (
	fuzzClients = 3
	fuzzSteps   = 40 // of one script
)

// The actions of a step, by the low four bits of its first byte.
const (
	actConnect = iota
	actPublish
	actSubscribe
	actUnsubscribe
	actAck
	actPing
	actDisconnect
	actAuth
	actRaw
	actReset
	actionCount
)

// The other bits of a step's first byte.
const (
	stepClient = 0x30 // which client, in two bits
	stepSync   = 0x40 // wait until the broker has dealt with it
	stepBreak  = 0x80 // break the packet
)

// fuzzUser is how a client of a script may introduce itself.
type fuzzUser struct {
	user, pass string
	nobody     bool
}

var fuzzUsers = []fuzzUser{
	{"d1", "d1", false}, {"d2", "d2", false}, {"ipc1", "ipc1", false}, {"x1", "x1", false}, {"d1", "wrong", false},
	{"service", "reader", false}, {"service", "root", false}, {"service", "reader2", false}, {"", "", true},
	{"backend", "backend secret", false}, {"off1", "off1", false}, {"meter1", "meter1", false}, {"nobody", "x", false},
	{"service", "web", false}, {"service", "old", false}, {"backend", "", false}, {"all", "all", false}, {"d\x00", "d1", false},
}

var fuzzTopics = []string{
	"meterline/v1/d1/up/result", "meterline/v1/d1/up/readings", "meterline/v1/d2/up/ack", "meterline/v1/ipc1/up/event",
	"meterline/v1/x1/up/result", "meterline/v1/d1/down/command", "meterline/v1/d2/down/command", "meterline/v1/x1/down/command",
	"a", "a/b", "a/b/c", "b", "meterline/v1/all/down/command", "meterline/v1/group/g/down/command", "meterline/v1/d1/up/x", "meterline",
	"meterline/v1/+/up/#", "#", "+/b", "a/#", "$SYS/broker/uptime", "$SYS/#", "$share/g/a/b", "$share/g/#", "$share/g/meterline/v1/+/up/result",
	"$share//a", "$share/+/a", "", "a\x00b", "\xff", "a/+b", "$meterline/refused", "meterline/v1/d1/#", "$SHARE/g/meterline/#", "/", "ä/€",
	strings.Repeat("long/", 60),
}

// fuzzScript reads the input of a fuzz target. Past its end there are zeros.
type fuzzScript struct{ in []byte }

func (s *fuzzScript) byte() byte {
	if len(s.in) == 0 {
		return 0
	}
	b := s.in[0]
	s.in = s.in[1:]
	return b
}

func (s *fuzzScript) bytes(n int) []byte {
	n = min(n, len(s.in))
	b := s.in[:n]
	s.in = s.in[n:]
	return b
}

// topic is one of the table, or the script's own.
func (s *fuzzScript) topic() string {
	i := int(s.byte())
	if i < len(fuzzTopics) {
		return fuzzTopics[i]
	}
	return string(s.bytes(i & 0x1f))
}

// id is a packet id: mostly a small one.
func (s *fuzzScript) id() []byte {
	b := s.byte()
	if b == 0xff {
		return []byte{0xff, s.byte()}
	}
	return []byte{0, b & 0x0f}
}

// properties are those of MQTT 5: none, or whatever the script holds, with a length that is right.
func (s *fuzzScript) properties(version byte) []byte {
	if version < 5 {
		return nil
	}
	p := s.bytes(int(s.byte() & 0x1f))
	return append([]byte{byte(len(p))}, p...)
}

// packet is what a step sends. version is that of the client's CONNECT, and may be changed by this.
func (s *fuzzScript) packet(action byte, version *byte) []byte {
	switch action {
	case actConnect:
		return s.connect(version)
	case actPublish:
		return s.publish(*version)
	case actSubscribe:
		return s.subscribe(0x82, *version)
	case actUnsubscribe:
		return s.subscribe(0xa2, *version)
	case actAck:
		return s.ack(*version)
	case actPing:
		return []byte{0xc0, 0}
	case actDisconnect:
		return s.ending(0xe0, *version)
	case actAuth:
		return s.ending(0xf0, *version)
	case actRaw:
		return bytes.Clone(s.bytes(int(s.byte() & 0x7f)))
	}
	return nil
}

func (s *fuzzScript) connect(version *byte) []byte {
	u := fuzzUsers[int(s.byte())%len(fuzzUsers)]
	how := s.byte()
	*version = 4 + how&1
	flags, id := how&2, u.user // clean session
	if how&4 != 0 {
		id += ":" + string(s.bytes(int(s.byte()&0x0f)))
	}
	if how&8 != 0 {
		flags |= 0x04 | s.byte()&0x38 // a will, its QoS and retain
	}
	if !u.nobody {
		flags |= 0xc0
	}
	body := append(wireText("MQTT"), *version, flags, 0, s.byte())
	body = append(body, s.properties(*version)...)
	body = append(body, wireText(id)...)
	if flags&0x04 != 0 {
		body = append(body, s.properties(*version)...)
		body = append(body, wireText(s.topic())...)
		body = append(body, wireText("gone")...)
	}
	if !u.nobody {
		body = append(append(body, wireText(u.user)...), wireText(u.pass)...)
	}
	return wireFrame(0x10, body)
}

func (s *fuzzScript) publish(version byte) []byte {
	flags := s.byte() & 0x0f
	body := wireText(s.topic())
	if flags&0x06 != 0 {
		body = append(body, s.id()...)
	}
	body = append(body, s.properties(version)...)
	n := int(s.byte())
	if n == 0xff && s.byte() == 0xff { // more than is taken
		return wireFrame(0x30|flags, append(body, strings.Repeat("x", defaultPayload+1)...))
	}
	return wireFrame(0x30|flags, append(body, s.bytes(n)...))
}

// subscribe makes SUBSCRIBE, or UNSUBSCRIBE, which is the same without options.
func (s *fuzzScript) subscribe(first, version byte) []byte {
	body := append(s.id(), s.properties(version)...)
	for range s.byte() & 0x03 {
		body = append(body, wireText(s.topic())...)
		if first == 0x82 {
			body = append(body, s.byte())
		}
	}
	return wireFrame(first, body)
}

func (s *fuzzScript) ack(version byte) []byte {
	kind := s.byte()
	first := 0x40 + kind&0x03<<4
	if first == 0x60 { // PUBREL
		first |= 0x02
	}
	body := s.id()
	if version == 5 && kind&0x04 != 0 {
		body = append(append(body, s.byte()), s.properties(version)...)
	}
	return wireFrame(first, body)
}

// ending makes DISCONNECT or AUTH.
func (s *fuzzScript) ending(first, version byte) []byte {
	var body []byte
	if version == 5 {
		body = append([]byte{s.byte()}, s.properties(version)...)
	}
	return wireFrame(first, body)
}

// broken is a packet that was changed in one place.
func (s *fuzzScript) broken(packet []byte) []byte {
	if len(packet) == 0 {
		return packet
	}
	how, at := s.byte(), int(s.byte())%len(packet)
	switch how % 4 {
	case 0:
		packet[at] ^= s.byte()
	case 1:
		packet = packet[:at]
	case 2:
		packet = append(packet[:at:at], append([]byte{s.byte()}, packet[at:]...)...)
	case 3:
		packet = append(packet, packet...)
	}
	return packet
}

// wireText is a string as MQTT writes it (1.5.4).
func wireText(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// wireFrame puts a fixed header in front.
func wireFrame(first byte, body []byte) []byte {
	out := []byte{first}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			out = append(out, b)
			break
		}
		out = append(out, b|0x80)
	}
	return append(out, body...)
}
