package packet

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// read decodes what was written with another codec.
func read(t *testing.T, wire []byte, decode func(*packets.Packet, []byte) error) packets.Packet {
	t.Helper()
	var p packets.Packet
	r := bytes.NewReader(wire[1:])
	if err := p.FixedHeader.Decode(wire[0]); err != nil {
		t.Fatal(err)
	}
	n, _, err := packets.DecodeLength(r)
	if err != nil || n != r.Len() {
		t.Fatalf("the length is %d, %v, and %d bytes follow", n, err, r.Len())
	}
	p.FixedHeader.Remaining = n
	p.ProtocolVersion = 4
	if err := decode(&p, wire[len(wire)-n:]); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConnect(t *testing.T) {
	who := Account{Client: "m-1", User: "u", Password: strings.Repeat("s", 200)}
	p := read(t, AppendConnect(nil, who, 600), (*packets.Packet).ConnectDecode)
	got := Account{p.Connect.ClientIdentifier, string(p.Connect.Username), string(p.Connect.Password)}
	if got != who || p.Connect.Keepalive != 600 || !p.Connect.Clean {
		t.Errorf("%+v", p.Connect)
	}
}

func TestSubscribe(t *testing.T) {
	p := read(t, AppendSubscribe(nil, 7, "a/b"), (*packets.Packet).SubscribeDecode)
	if p.PacketID != 7 || len(p.Filters) != 1 || p.Filters[0].Filter != "a/b" || p.Filters[0].Qos != 1 {
		t.Errorf("%+v", p)
	}
}

func TestPublish(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 20_000} {
		for _, id := range []uint16{0, 0x1234} {
			payload := bytes.Repeat([]byte("x"), size)
			wire := AppendPublish([]byte("before"), id, "a/b", payload)[len("before"):]
			if id != 0 {
				SetDup(wire)
			}
			p := read(t, wire, (*packets.Packet).PublishDecode)
			if p.PacketID != id || p.TopicName != "a/b" || !reflect.DeepEqual(p.Payload, payload) || p.FixedHeader.Dup != (id != 0) ||
				p.FixedHeader.Qos != byte(min(id, 1)) {
				t.Errorf("%d bytes under %d: %+v", size, id, p.FixedHeader)
			}
		}
	}
}

func TestPuback(t *testing.T) {
	if p := read(t, AppendPuback(nil, 0x1234), (*packets.Packet).PubackDecode); p.PacketID != 0x1234 {
		t.Errorf("%+v", p)
	}
}
