package broker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
)

func startWeb(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	return start(t, append(change, func(o *Options) {
		o.Listeners = []Listen{{Name: "ws", Address: "127.0.0.1:0", WebSocket: true}}
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
	c := say(t, &webConn{Conn: ws.NetConn(), ws: ws}, dev("d1"))
	if c.expect(packets.Connack).ReasonCode != 0 {
		t.Fatal("refused")
	}
	return ws, c
}

// wantClose reads until the close frame.
func wantClose(t testing.TB, ws *websocket.Conn, code int) {
	t.Helper()
	_ = ws.SetReadDeadline(time.Now().Add(waitMost))
	for {
		_, _, err := ws.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed):
			if closed.Code != code {
				t.Errorf("closed with %d, want %d", closed.Code, code)
			}
			return
		case err != nil:
			t.Errorf("no close frame: %v", err)
			return
		}
	}
}

func TestWebSocketNeedsTheSubprotocol(t *testing.T) {
	r := startWeb(t)
	url := "ws://" + r.Addr("ws") + "/"
	for _, offered := range [][]string{nil, {"mqttv3.1"}, {"soap", "wamp"}} {
		dialer := websocket.Dialer{Subprotocols: offered}
		_, answer, err := dialer.Dial(url, nil)
		if err == nil || answer == nil || answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%v: %v, %v", offered, answer, err)
		}
	}
	dialer := websocket.Dialer{Subprotocols: []string{"soap", "mqtt"}}
	ws, answer, err := dialer.Dial(url, nil)
	if err != nil || answer.Header.Get("Sec-WebSocket-Protocol") != "mqtt" {
		t.Fatalf("one of several: %v", err)
	}
	_ = ws.Close()
	r.awaitMetric(t, 3, "clients_refused_total", "reason", "websocket")
}

func TestWebSocketCloseCodes(t *testing.T) {
	r := startWeb(t)
	ws, _ := r.webConnect(t)
	if err := ws.WriteMessage(websocket.TextMessage, []byte{0xC0, 0}); err != nil {
		t.Fatal(err)
	}
	wantClose(t, ws, websocket.CloseUnsupportedData)

	ws, _ = r.webConnect(t)
	long := binary.BigEndian.AppendUint64([]byte{0x82, 0xFF}, webMessageLeast+1) // the header is enough
	if _, err := ws.NetConn().Write(append(long, 1, 2, 3, 4)); err != nil {
		t.Fatal(err)
	}
	wantClose(t, ws, websocket.CloseMessageTooBig)

	ws, _ = r.webConnect(t)
	if _, err := ws.NetConn().Write([]byte{0x82, 0x02, 0xC0, 0}); err != nil { // not masked
		t.Fatal(err)
	}
	wantClose(t, ws, websocket.CloseProtocolError)

	ws, c := r.webConnect(t)
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	wantClose(t, ws, websocket.CloseNormalClosure)

	ws, _ = r.webConnect(t)
	r.stop()
	wantClose(t, ws, websocket.CloseGoingAway)
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
		if err := ws.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := ws.WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Second)); err != nil {
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

// Whoever is slow over HTTP or says something else has no more time than others, and one answer.
func TestWebHandshakesAreLimited(t *testing.T) {
	t.Parallel()
	r := startWeb(t)
	raw := func() net.Conn {
		c, err := net.Dial("tcp", r.Addr("ws"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetReadDeadline(time.Now().Add(waitMost))
		return c
	}
	slow := raw()
	began := time.Now()
	_, _ = slow.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n"))

	big := raw()
	_, _ = fmt.Fprintf(big, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	if answer, err := http.ReadResponse(bufio.NewReader(big), nil); err == nil && answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a big header: %v", answer.Status)
	}

	twice := raw()
	in := bufio.NewReader(twice)
	_, _ = twice.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusBadRequest {
		t.Fatalf("%v, %v", answer, err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Error(err)
	}
	if _, err := in.ReadByte(); err == nil || isTimeout(err) {
		t.Errorf("after the answer: %v", err)
	}
	ws := r.webDial(t) // a WebSocket without CONNECT, and with pings that would keep it
	for err := error(nil); err == nil; {
		if time.Since(began) > 2*connectTimeout {
			t.Fatal("pings keep a connection without CONNECT")
		}
		err = ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
		if err == nil {
			_ = ws.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			_, err = ws.NetConn().Read(make([]byte, 100))
			if isTimeout(err) {
				err = nil
			}
		}
	}
	if _, err := bufio.NewReader(slow).ReadString(0); err == nil || isTimeout(err) {
		t.Errorf("a slow handshake: %v", err)
	}
	if took := time.Since(began); took > connectTimeout+2*time.Second {
		t.Errorf("closed after %v", took)
	}
	eventually(t, "all places are free", func() bool { return r.metric(t, "connections") == 0 })
}
