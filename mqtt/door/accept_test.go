package door

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// hungry is a listener that has no file descriptors left for a while.
type hungry struct {
	net.Listener
	failures int
	conn     net.Conn
	asked    chan struct{}
}

func (h *hungry) Accept() (net.Conn, error) {
	if h.failures--; h.failures >= 0 {
		h.asked <- struct{}{}
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return h.conn, nil
}

func TestAcceptSurvivesEMFILE(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	l := begin(t).Listeners()[0]
	l = &Listener{door: l.door, closed: make(chan struct{})} // nobody else accepts
	l.bound = &hungry{failures: 3, conn: near, asked: make(chan struct{}, 10)}
	began := time.Now()
	c, err := l.accept()
	if err != nil {
		t.Fatal(err)
	}
	if c.Conn != near {
		t.Errorf("accepted %v", c.Conn)
	}
	if took := time.Since(began); took < 7*acceptDelayMin {
		t.Errorf("tried again after %v", took)
	}

	starving := &hungry{failures: 1 << 30, asked: make(chan struct{}, 100)}
	l.bound = starving
	done := make(chan error)
	go func() {
		_, err := l.accept()
		done <- err
	}()
	<-starving.asked
	close(l.closed)
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}
