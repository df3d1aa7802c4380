package door

import (
	"bufio"
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

	"meterline/testkit"
)

func beginWeb(t *testing.T) *rig {
	t.Helper()
	return begin(t, func(o *Options) {
		o.Listeners = []Listen{{Name: "ws", Address: "127.0.0.1:0", WebSocket: true}}
	})
}

// web opens a WebSocket.
func (r *rig) web(t testing.TB) *websocket.Conn {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	ws, _, err := dialer.Dial("ws://"+r.address("ws")+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(waitMost))
	return ws
}

// webAdmitted opens one and is admitted.
func (r *rig) webAdmitted(t testing.TB) *websocket.Conn {
	t.Helper()
	ws := r.web(t)
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte("+")); err != nil {
		t.Fatal(err)
	}
	if kind, got, err := ws.ReadMessage(); err != nil || kind != websocket.BinaryMessage || string(got) != "+" {
		t.Fatalf("%d %q, %v", kind, got, err)
	}
	return ws
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
	r := beginWeb(t)
	url := "ws://" + r.address("ws") + "/"
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
	r.awaitMetric(t, 3, "clients_refused_total", "websocket")
}

func TestWebSocketCloseCodes(t *testing.T) {
	r := beginWeb(t)
	ws := r.webAdmitted(t)
	if err := ws.WriteMessage(websocket.TextMessage, []byte("x")); err != nil {
		t.Fatal(err)
	}
	wantClose(t, ws, websocket.CloseUnsupportedData)

	ws = r.webAdmitted(t)
	long := binary.BigEndian.AppendUint64([]byte{0x82, 0xFF}, webMessageLeast+1) // the header is enough
	if _, err := ws.NetConn().Write(append(long, 1, 2, 3, 4)); err != nil {
		t.Fatal(err)
	}
	wantClose(t, ws, websocket.CloseMessageTooBig)

	ws = r.webAdmitted(t)
	if _, err := ws.NetConn().Write([]byte{0x82, 0x02, 0xC0, 0}); err != nil { // not masked
		t.Fatal(err)
	}
	wantClose(t, ws, websocket.CloseProtocolError)

	ws = r.webAdmitted(t)
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte("-")); err != nil {
		t.Fatal(err)
	}
	wantClose(t, ws, websocket.CloseNormalClosure)

	ws = r.webAdmitted(t)
	r.end()
	wantClose(t, ws, websocket.CloseGoingAway)
}

// Whoever is slow over HTTP or says something else has no more time than others, and one answer.
func TestWebHandshakesAreLimited(t *testing.T) {
	t.Parallel()
	r := beginWeb(t)
	raw := func() net.Conn { return from(t, "127.0.0.1", r.address("ws")) }
	slow := raw()
	pulse, began := testkit.StartPulse(t), time.Now()
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
	ws := r.web(t) // a WebSocket without CONNECT, and with pings that would keep it
	for err := error(nil); err == nil; {
		if time.Since(began) > ConnectTimeout+pulse.Limit(ConnectTimeout) {
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
	if took := time.Since(began); took > ConnectTimeout+pulse.Limit(2*time.Second) {
		t.Errorf("closed after %v", took)
	}
	eventually(t, "all places are free", func() bool { return r.metric(t, "connections") == 0 })
}
