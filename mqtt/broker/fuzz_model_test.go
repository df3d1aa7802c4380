package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"meterline/command"
)

// What a fuzzed client sent and was sent is read here by other code than the broker's, so that it can be told whether
// the broker may have taken it.

// wirePacket is a packet as it is on the wire.
type wirePacket struct {
	first byte
	body  []byte
}

func (p wirePacket) kind() byte { return p.first >> 4 }

var (
	errPart   = errors.New("a packet is not complete")
	errLength = errors.New("a length of more than four bytes")
)

// cutPacket takes the first packet off. errPart: there is none yet.
func cutPacket(b []byte) (p wirePacket, rest []byte, err error) {
	if len(b) == 0 {
		return p, b, errPart
	}
	length := 0
	for i := 1; ; i++ {
		switch {
		case i > 4:
			return p, b, errLength
		case i >= len(b):
			return p, b, errPart
		}
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			if len(b)-i-1 < length {
				return p, b, errPart
			}
			return wirePacket{b[0], b[i+1 : i+1+length]}, b[i+1+length:], nil
		}
	}
}

// cutPackets takes all whole packets off.
func cutPackets(b []byte) (all []wirePacket, rest []byte, err error) {
	for {
		p, rest, err := cutPacket(b)
		if errors.Is(err, errPart) {
			return all, rest, nil
		}
		if err != nil {
			return all, rest, err
		}
		all, b = append(all, p), rest
	}
}

// wireFields takes a body apart. After the first failure everything is empty.
type wireFields struct {
	b   []byte
	bad bool
}

func (f *wireFields) take(n int) []byte {
	if f.bad || n > len(f.b) {
		f.bad = true
		return make([]byte, min(n, 4))
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *wireFields) byte() byte     { return f.take(1)[0] }
func (f *wireFields) uint16() uint16 { return binary.BigEndian.Uint16(f.take(2)) }

func (f *wireFields) text() string {
	b := f.take(int(f.uint16()))
	if f.bad {
		return ""
	}
	return string(b)
}

func (f *wireFields) properties(version byte) {
	if version < 5 {
		return
	}
	length := 0
	for i := 0; i < 4; i++ {
		b := f.byte()
		length |= int(b&0x7f) << (7 * i)
		if b < 0x80 {
			f.take(length)
			return
		}
	}
	f.bad = true
}

// introduced is what a CONNECT says.
type introduced struct {
	version                  byte
	id, user, pass           string
	hasUser, hasPass         bool
	will                     bool
	willTopic                string
	endpoint, service, admin bool // who it may be taken for; none: nobody
	backend                  bool
}

// introduction reads a CONNECT and says who may be behind it by the rules: nobody when it is not well formed.
func introduction(p wirePacket) (in introduced) {
	f := &wireFields{b: p.body}
	name := f.text()
	in.version = f.byte()
	flags := f.byte()
	f.uint16()
	f.properties(in.version)
	in.id = f.text()
	if in.will = flags&0x04 != 0; in.will {
		f.properties(in.version)
		in.willTopic = f.text()
		f.text()
	}
	if in.hasUser = flags&0x80 != 0; in.hasUser {
		in.user = f.text()
	}
	if in.hasPass = flags&0x40 != 0; in.hasPass {
		in.pass = f.text()
	}
	if f.bad || p.first>>4 != 1 || name != "MQTT" || in.version != 4 && in.version != 5 || flags&0x01 != 0 {
		return in
	}
	switch {
	case !in.hasUser && !in.hasPass:
		in.service = true
	case in.user == "service":
		in.service = slices.Contains([]string{"reader", "reader2", "root"}, in.pass)
		in.admin = in.pass == "root"
	case in.user == "backend":
		in.backend = in.pass == "backend secret"
	case slices.Contains([]string{"d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9", "ipc1", "x1"}, in.user):
		suffix, own := strings.CutPrefix(in.id, in.user)
		in.endpoint = in.pass == in.user && own && (suffix == "" || suffix[0] == ':' && len(suffix) > 1)
	}
	if in.will && (!in.service || strings.HasPrefix(in.willTopic, "$") || in.willTopic == "" || isOurs(in.willTopic)) {
		in.endpoint, in.service, in.backend = false, false, false
	}
	return in
}

func isOurs(topic string) bool { return topic == "meterline" || strings.HasPrefix(topic, "meterline/") }

// published is what a PUBLISH says.
type published struct {
	topic   string
	qos, id int
	retain  bool
	payload string
}

func publicationOf(p wirePacket, version byte) (out published, ok bool) {
	f := &wireFields{b: p.body}
	out.topic, out.qos, out.retain = f.text(), int(p.first>>1&3), p.first&1 != 0
	if out.qos > 0 {
		out.id = int(f.uint16())
	}
	f.properties(version)
	out.payload = string(f.b)
	return out, !f.bad
}

// uplinkOf is the entry that a PUBLISH of the endpoint becomes; false: it must not become one.
func uplinkOf(endpoint string, p published) (command.Uplink, bool) {
	channel, ok := strings.CutPrefix(p.topic, "meterline/v1/"+endpoint+"/up/")
	kinds := map[string]command.UplinkKind{
		"ack": command.UplinkAck, "result": command.UplinkResult, "readings": command.UplinkReadings, "event": command.UplinkEvent,
	}
	if !ok || kinds[channel] == "" || p.retain || p.qos > 1 || len(p.payload) > defaultPayload {
		return command.Uplink{}, false
	}
	return command.Uplink{Kind: kinds[channel], Payload: []byte(p.payload)}, true
}

// mayBeSent complains about a packet that the broker must not send to the client.
func mayBeSent(p wirePacket, in introduced) error {
	switch p.kind() {
	case 2, 4, 5, 6, 7, 9, 11, 13:
		return nil
	case 14:
		if in.version < 5 {
			return errors.New("a DISCONNECT for a client of 3.1.1")
		}
		return nil
	case 3:
	default:
		return fmt.Errorf("a packet of type %d is not a server's", p.kind())
	}
	m, ok := publicationOf(p, in.version)
	switch {
	case ok && m.topic == "" && in.version == 5 && in.service: // by an alias
		return nil
	case !ok || m.topic == "" || !utf8.ValidString(m.topic) || strings.ContainsAny(m.topic, "+#\x00"):
		return fmt.Errorf("a malformed PUBLISH: %.80q", p.body)
	case m.qos == 3 || m.qos > 0 && m.id == 0:
		return fmt.Errorf("a PUBLISH with QoS %d and packet id %d", m.qos, m.id)
	case in.endpoint && m.topic != "meterline/v1/"+in.user+"/down/command":
		return fmt.Errorf("%s was sent %q", in.user, m.topic)
	case in.backend:
		return fmt.Errorf("a backend was sent %q", m.topic)
	case in.service && !in.admin && isOurs(m.topic):
		level := strings.Split(m.topic, "/")
		if len(level) != 5 || level[3] != "up" {
			return fmt.Errorf("a service was sent %q", m.topic)
		}
	}
	return nil
}
