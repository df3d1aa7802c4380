package door

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	subprotocol    = "mqtt"
	webHeaderBytes = 8 << 10

	// webMessageLeast is how long a message may be at least: a client may put many packets into one.
	webMessageLeast = 1 << 20
)

var errTextFrame = errors.New("only binary frames carry MQTT")

// Buffers for frames are shared: an idle connection holds none.
var frameBuffers sync.Pool

// webServer makes WebSocket connections of those that the listener has accepted. The deadline for CONNECT goes on
// meanwhile, whatever deadlines net/http sets (see early).
type webServer struct {
	of       *Listener
	http     *http.Server
	upgrader websocket.Upgrader
	accepted chan net.Conn
}

func newWebServer(l *Listener) *webServer {
	s := &webServer{of: l, accepted: make(chan net.Conn)}
	s.http = &http.Server{
		ReadHeaderTimeout: ConnectTimeout,
		MaxHeaderBytes:    webHeaderBytes,
		ErrorLog:          slog.NewLogLogger(l.door.o.Logger.Handler(), slog.LevelDebug),
	}
	s.http.SetKeepAlivesEnabled(false) // whoever does not ask for MQTT is answered once
	s.upgrader = websocket.Upgrader{
		ReadBufferSize:  1024,
		WriteBufferSize: 1024,
		WriteBufferPool: &frameBuffers,
		Subprotocols:    []string{subprotocol},
		// A page may connect from anywhere: it still needs a device's secret or a token, and no cookie counts.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	return s
}

// Accept, Close and Addr make a net.Listener of it, which net/http accepts from.
func (s *webServer) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.of.closed:
		return nil, net.ErrClosed
	}
}

// Close does nothing: the listener is closed by its owner.
func (s *webServer) Close() error { return nil }

// Addr is the listener's.
func (s *webServer) Addr() net.Addr { return s.of.bound.Addr() }

// hand gives a connection to net/http.
func (s *webServer) hand(c *Conn) {
	select {
	case s.accepted <- c:
	case <-s.of.closed:
		_ = c.Close()
	}
}

// serve answers until the listener is closed.
func (s *webServer) serve(handle Handle) {
	s.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.upgrade(w, r, handle) })
	_ = s.http.Serve(s)
}

// upgrade answers a handshake. The connection goes on in a goroutine of its own, without what net/http holds for a
// request.
func (s *webServer) upgrade(w http.ResponseWriter, r *http.Request, handle Handle) {
	l := s.of
	if !slices.Contains(websocket.Subprotocols(r), subprotocol) { // MQTT 5, 6: the client MUST offer it
		l.door.Refused("websocket")
		http.Error(w, "this is an MQTT endpoint: offer the WebSocket subprotocol mqtt", http.StatusBadRequest)
		return
	}
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		l.door.Refused("websocket")
		return // the upgrader has answered
	}
	ws.SetReadLimit(int64(max(webMessageLeast, l.door.o.Message)))
	below := ws.NetConn().(*Conn)
	c := &Conn{Conn: &webConn{Conn: below, ws: ws, gone: l.closed}, socket: below.socket, place: below.place, leaf: below.leaf}
	if !l.door.start(func() { l.run(c, handle) }) {
		_ = c.Close()
	}
}

// webConn is MQTT in the binary frames of a WebSocket connection. Frame borders mean nothing. gorilla answers pings, and
// closes with 1002 and 1009 for bad frames and messages that are too long.
type webConn struct {
	net.Conn // deadlines, addresses
	ws       *websocket.Conn
	gone     <-chan struct{} // closed when the gateway ends
	frame    io.Reader       // what is left of the frame being read; the reader's alone

	mu     sync.Mutex // gorilla allows one writer
	closed sync.Once
}

func (c *webConn) Read(p []byte) (int, error) {
	for {
		if c.frame == nil {
			kind, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage { // MQTT 5, 6.0.0-1
				c.end(websocket.CloseUnsupportedData)
				return 0, errTextFrame
			}
			c.frame = r
		}
		n, err := c.frame.Read(p)
		if errors.Is(err, io.EOF) {
			c.frame, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends p as one frame; it does not wait, for the socket below does not.
func (c *webConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close says goodbye, if nobody has said why before, and closes.
func (c *webConn) Close() error {
	code := websocket.CloseNormalClosure
	select {
	case <-c.gone:
		code = websocket.CloseGoingAway
	default:
	}
	c.end(code)
	return c.Conn.Close()
}

// end sends the close frame. It does not wait; what gorilla has sent one for itself is left at that.
func (c *webConn) end(code int) {
	c.closed.Do(func() {
		_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
	})
}
