package broker

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/listeners"
)

const subprotocol = "mqtt"

var errTextFrame = errors.New("only binary frames carry MQTT")

// Buffers for frames are shared: an idle connection holds none.
var frameBuffers sync.Pool

// serveWeb accepts WebSocket connections until Close. Each is served by the goroutine net/http gave it.
func (l *listener) serveWeb(establish listeners.EstablishFn) {
	upgrader := &websocket.Upgrader{
		HandshakeTimeout: connectTimeout,
		ReadBufferSize:   1024,
		WriteBufferSize:  1024,
		WriteBufferPool:  &frameBuffers,
		Subprotocols:     []string{subprotocol},
		// A page may connect from anywhere: it still needs a device's secret or a token, and no cookie counts.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	_ = l.web.Serve(l.webSocketListener(upgrader, establish))
}

func (l *listener) webSocketListener(upgrader *websocket.Upgrader, establish listeners.EstablishFn) net.Listener {
	l.web.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(websocket.Subprotocols(r), subprotocol) { // MQTT 5, 6: the client MUST offer it
			l.metrics.refused.WithLabelValues("websocket").Inc()
			http.Error(w, "this is an MQTT endpoint: offer the WebSocket subprotocol mqtt", http.StatusBadRequest)
			return
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			l.metrics.refused.WithLabelValues("websocket").Inc()
			return // the upgrader has answered
		}
		_ = ws.SetReadDeadline(time.Now().Add(connectTimeout))
		l.establish(&webConn{Conn: ws.NetConn(), ws: ws}, establish)
	})
	if l.spec.TLS != nil {
		return tls.NewListener(l.socket, l.spec.TLS)
	}
	return l.socket
}

func newWebServer(log *slog.Logger) *http.Server {
	return &http.Server{
		ReadHeaderTimeout: connectTimeout,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// webConn is MQTT in the binary frames of a WebSocket connection. Frame borders mean nothing.
type webConn struct {
	net.Conn // deadlines, addresses
	ws       *websocket.Conn
	frame    io.Reader // what is left of the frame being read; the reader's alone

	mu sync.Mutex // gorilla allows one writer
}

func (c *webConn) Read(p []byte) (int, error) {
	for {
		if c.frame == nil {
			kind, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
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

// Write sends p as one frame; it does not wait, for the conn below does not.
func (c *webConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
