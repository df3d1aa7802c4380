package broker

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/door"
	"meterline/mqtt/frame"
)

// last reads to the end of the connection and returns the last packet, if it is a DISCONNECT.
func (c *client) lastWord() (code byte, said bool) {
	c.t.Helper()
	before := c.closed()
	if len(before) == 0 {
		return 0, false
	}
	pk := before[len(before)-1]
	return pk.ReasonCode, pk.FixedHeader.Type == packets.Disconnect
}

// What is not sound never reaches mochi, and only clients of MQTT 5 are told (4.13.1).
func TestMalformedPackets(t *testing.T) {
	r := start(t)
	fine := r.listening(t, dev("d9"))
	for _, c := range []struct {
		name string
		raw  []byte
		want byte
	}{
		{"a SUBSCRIBE that ends after its filter", []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}, 0x81},
		{"a length of five bytes", []byte{0x30, 0x80, 0x80, 0x80, 0x80, 1}, 0x81},
		{"CONNECT again", []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 0}, 0x82},
		{"more than may be", []byte{0x30, 0xff, 0xff, 0x7f}, 0x95},
		{"PINGRESP", []byte{0xd0, 0}, 0x82},
	} {
		for _, h := range []hi{dev("d1").v5(), dev("d1"), service("reader").v5(), service("reader")} {
			bad := r.connect(t, h)
			if _, err := bad.conn.Write(c.raw); err != nil {
				t.Fatal(err)
			}
			code, said := bad.lastWord()
			if said != (bad.version == 5) || said && code != c.want {
				t.Errorf("%s, v%d as %s: told %v, %#x", c.name, bad.version, h.user, said, code)
			}
		}
	}
	fine.ping()
	if n := r.metric(t, "panics_total"); n != 0 {
		t.Errorf("%v panics", n)
	}
}

// A socket that is closed with unread bytes is reset, and what was written last is lost with it.
func TestTheLastWordIsReadThoughTheClientWentOnSending(t *testing.T) {
	r := start(t)
	for range 20 {
		c := r.connect(t, dev("d1").v5())
		flood := append([]byte{0xc1, 0}, bytes.Repeat([]byte{0xc0, 0}, 32<<10)...)
		if _, err := c.conn.Write(flood); err != nil {
			t.Fatal(err)
		}
		if code, said := c.lastWord(); !said || code != packets.ErrMalformedPacket.Code {
			t.Fatalf("told %v, %#x", said, code)
		}
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, h := range []hi{dev("d1").v5(), dev("d2"), service("reader").v5()} {
		h.keepAlive = 1
		began := time.Now() // before the CONNECT, from which on the broker counts
		c := r.connect(t, h)
		_, _ = c.conn.Write([]byte{0xc0}) // a packet that only begins does not count
		code, said := c.lastWord()
		if took := time.Since(began); took < 1400*time.Millisecond {
			t.Errorf("%s: ended after %v", h.user, took)
		}
		if said != (h.version == 5) || said && code != packets.ErrKeepAliveTimeout.Code {
			t.Errorf("%s: told %v, %#x", h.user, said, code)
		}
	}
	for _, keep := range []uint16{43691, 65535} { // mochi's own would overflow
		h := dev("d3")
		h.keepAlive = keep
		r.connect(t, h).ping()
	}
	h := dev("d4").v5()
	c := r.connect(t, h)
	if p := c.connack.Properties; !p.ServerKeepAliveFlag || p.ServerKeepAlive != keepAliveMost {
		t.Errorf("server keep-alive %v %d", p.ServerKeepAliveFlag, p.ServerKeepAlive)
	}
}

// Who may not come in is answered in the words of its version.
func TestRefusals(t *testing.T) {
	r := start(t)
	raw := func(name string, connect []byte, want ...byte) {
		t.Helper()
		conn, err := net.Dial("tcp", r.Addr("mqtt"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write(connect)
		_ = conn.SetReadDeadline(time.Now().Add(waitMost))
		got, err := io.ReadAll(conn)
		if errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got[:min(len(got), len(want))], want) || len(want) == 0 && len(got) > 0 {
			t.Errorf("%s: % x, %v; want % x", name, got, err, want)
		}
	}
	raw("HTTP", []byte("GET / HTTP/1.1\r\n\r\n"))
	raw("PINGREQ first", []byte{0xc0, 0})
	raw("MQTT 3.1", []byte("\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01a"), 0x20, 2, 0, 1)
	raw("level 9", []byte("\x10\x0d\x00\x04MQTT\x09\x02\x00\x00\x00\x01a"), 0x20, 2, 0, 1)
	raw("3.1.1, no client id and a session", []byte("\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00"), 0x20, 2, 0, 2)
	raw("3.1.1, reserved flag", []byte("\x10\x0c\x00\x04MQTT\x04\x03\x00\x00\x00\x00"))
	raw("5, reserved flag", []byte("\x10\x0d\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x00"), 0x20, 3, 0, 0x81, 0)
	raw("5, authentication method", []byte("\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x04\x15\x00\x01x\x00\x00"), 0x20, 3, 0, 0x8c, 0)
	for _, h := range []hi{{id: "d1", user: "d1", pass: "wrong"}, {id: "nobody", user: "nobody", pass: "x"}} {
		if c := r.dial(t, h); c.connack.ReasonCode != 5 {
			t.Errorf("%s: %#x", h.user, c.connack.ReasonCode)
		}
		if c := r.dial(t, h.v5()); c.connack.ReasonCode != packets.ErrBadUsernameOrPassword.Code {
			t.Errorf("%s: %#x", h.user, c.connack.ReasonCode)
		}
	}
}

func TestAClientWithoutIDIsGivenOne(t *testing.T) {
	r := start(t)
	h := service("reader")
	h.id = ""
	a, b := r.connect(t, h.v5()), r.connect(t, h.v5())
	one, two := a.connack.Properties.AssignedClientID, b.connack.Properties.AssignedClientID
	if one == "" || one == two {
		t.Errorf("given %q and %q", one, two)
	}
	r.connect(t, h).ping()
	a.ping()
}

var errDeaf = errors.New("it does not read")

// deaf is a connection that has something to read and cannot be written to.
type deaf struct {
	net.Conn
	in io.Reader
}

func (d deaf) Read(p []byte) (int, error)    { return d.in.Read(p) }
func (deaf) Write([]byte) (int, error)       { return 0, errDeaf }
func (deaf) SetReadDeadline(time.Time) error { return nil }

// A client that took nothing and was given up may have asked for much before: nobody works it off.
func TestNothingIsReadOfAClientThatCannotBeWrittenTo(t *testing.T) {
	d := deaf{in: io.MultiReader(bytes.NewReader(introduce(4)), bytes.NewReader(bytes.Repeat([]byte{0xc0, 0}, 100)))}
	w := &wire{Conn: &door.Conn{Conn: d}, frames: frame.NewReader(d, 1<<10), version: 4}
	if _, err := w.frames.Next(); err != nil { // CONNECT
		t.Fatal(err)
	}
	if _, err := w.next(); err != nil {
		t.Fatal(err)
	}
	if err := w.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingresp}}); !errors.Is(err, errDeaf) {
		t.Fatal(err)
	}
	if _, err := w.next(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read on: %v", err)
	}
}
