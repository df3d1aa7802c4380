package broker

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/door"
)

// webClient is MQTT in the binary frames of a client's WebSocket.
func webClient(ws *websocket.Conn) net.Conn { return &framed{Conn: ws.NetConn(), ws: ws} }

type framed struct {
	net.Conn
	ws    *websocket.Conn
	frame io.Reader // what is left of the one being read
}

func (f *framed) Read(p []byte) (n int, err error) {
	for n == 0 && err == nil {
		if f.frame == nil {
			if _, f.frame, err = f.ws.NextReader(); err != nil {
				return 0, err
			}
		}
		if n, err = f.frame.Read(p); err == io.EOF { //nolint:errorlint // an io.Reader's own
			f.frame, err = nil, nil
		}
	}
	return n, err
}

func (f *framed) Write(p []byte) (int, error) {
	return len(p), f.ws.WriteMessage(websocket.BinaryMessage, p)
}

func startWeb(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	return start(t, append(change, func(o *Options) {
		o.Listeners = []door.Listen{{Name: "ws", Address: "127.0.0.1:0", WebSocket: true}}
	})...)
}

// webDial opens a WebSocket.
func (r *rig) webDial(t testing.TB) *websocket.Conn {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	ws, _, err := dialer.Dial("ws://"+r.Addr("ws")+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(waitMost))
	return ws
}

// webConnect signs in as d1.
func (r *rig) webConnect(t testing.TB) (*websocket.Conn, *client) {
	t.Helper()
	ws := r.webDial(t)
	c := say(t, webClient(ws), dev("d1"))
	if c.expect(packets.Connack).ReasonCode != 0 {
		t.Fatal("refused")
	}
	return ws, c
}

// Packets may be cut and joined at will, and pings and pongs come in between.
func TestWebSocketFramesAreNoPackets(t *testing.T) {
	r := startWeb(t)
	ws, c := r.webConnect(t)
	pongs := 0
	ws.SetPongHandler(func(text string) error {
		if text == "are you there" {
			pongs++
		}
		return nil
	})
	pings := bytes.Repeat([]byte{packets.Pingreq << 4, 0}, 10)
	for i := 0; i < len(pings); i += 5 {
		if err := ws.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(waitMost)); err != nil {
			t.Fatal(err)
		}
		if err := ws.WriteControl(websocket.PongMessage, nil, time.Now().Add(waitMost)); err != nil {
			t.Fatal(err)
		}
		if err := ws.WriteMessage(websocket.BinaryMessage, pings[i:i+5]); err != nil {
			t.Fatal(err)
		}
	}
	w, err := ws.NextWriter(websocket.BinaryMessage) // frames of one message
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(pings[:3])
	_, _ = w.Write(pings[3:])
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		c.expect(packets.Pingresp)
	}
	if pongs != 4 {
		t.Errorf("%d pongs", pongs)
	}
}
