package broker

import (
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// plainMochi is mochi as it is shipped, behind the listener given.
func plainMochi(t *testing.T, l listeners.Listener) *mochi.Server {
	t.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	return s
}

// once is a listener whose first Accept fails as one does without file descriptors, and which works from then on.
type once struct {
	net.Listener
	failed bool
}

func (o *once) Accept() (net.Conn, error) {
	if !o.failed {
		o.failed = true
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return o.Listener.Accept()
}

// The hole: one EMFILE, and mochi accepts nobody any more. TestAcceptSurvivesEMFILE and TestAProcessWithoutDescriptors
// show that we do.
func TestPlainMochiDoesNotSurviveEMFILE(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := plainMochi(t, listeners.NewNet("plain", &once{Listener: socket}))
	defer func() { _ = s.Close() }()
	conn, err := net.Dial("tcp", socket.Addr().String()) // the kernel takes it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := speaker(t, conn, hi{id: "x", nobody: true})
	c.send(hi{id: "x", nobody: true}.packet())
	if _, err := c.read(500 * time.Millisecond); !isTimeout(err) {
		t.Errorf("mochi answers (%v): this hole is closed, and our own listener less needed", err)
	}
}

// telling is a listener that tells when its one connection is read from.
type telling struct {
	net.Listener
	read chan struct{}
}

func (l *telling) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &tellingConn{Conn: c, read: l.read}, err
}

type tellingConn struct {
	net.Conn
	once sync.Once
	read chan struct{}
}

func (c *tellingConn) Read(p []byte) (int, error) {
	c.once.Do(func() { close(c.read) })
	return c.Conn.Read(p)
}

// The hole: somebody who connects and says nothing has all the time in the world, and Close waits for him.
// TestAClientThatDoesNotSayConnectIsClosed and TestTheDrainDoesNotWaitForSilentClients show that we do not.
func TestPlainMochiWaitsForTheSilent(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	s := plainMochi(t, listeners.NewNet("plain", &telling{Listener: socket, read: read}))
	conn, err := net.Dial("tcp", socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	<-read
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = s.Close()
	}()
	select {
	case <-closed:
		t.Error("mochi does not wait: this hole is closed, and our own listener less needed")
	case <-time.After(500 * time.Millisecond):
	}
	_ = conn.Close()
	<-closed
}
