package door

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"meterline/testkit"
)

// pair is a conn and the client at its other end.
func pair(t *testing.T, limit int) (c *socket, far net.Conn, causes func() []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	far, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []net.Conn{near, far} {
		_ = end.(*net.TCPConn).SetWriteBuffer(128 << 10)
		_ = end.(*net.TCPConn).SetReadBuffer(128 << 10)
	}
	var mu sync.Mutex
	var told []string
	drains := &sync.WaitGroup{}
	c = newSocket(near, limit, drains, func(cause string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, cause)
	})
	t.Cleanup(func() {
		_ = c.Close()
		_ = far.Close()
		drains.Wait()
	})
	return c, far, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return told
	}
}

func TestConnKeepsTheOrderThroughTheBacklog(t *testing.T) {
	c, far, causes := pair(t, 8<<20)
	c.patience = waitMost // what is not read until all is written is no stalled client's
	var sent bytes.Buffer
	pulse := testkit.StartPulse(t)
	for i := range 400 { // 4 MB: more than the kernel takes
		line := bytes.Repeat([]byte{byte(i)}, 10_000)
		sent.Write(line)
		began := time.Now()
		if n, err := c.Write(line); err != nil || n != len(line) {
			t.Fatalf("write %d: %d, %v", i, n, err)
		}
		if took := time.Since(began); took > pulse.Limit(500*time.Millisecond) {
			t.Fatalf("a write took %v", took)
		}
	}
	c.mu.Lock()
	backlogged := c.draining
	c.mu.Unlock()
	if !backlogged {
		t.Fatal("the kernel took everything: nothing is tested")
	}
	got := make([]byte, sent.Len())
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent.Bytes()) {
		t.Error("the bytes came in another order")
	}
	eventually(t, "the drainer is gone", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.draining && c.pending == 0
	})
	if _, err := c.Write([]byte("and on")); err != nil { // directly again
		t.Error(err)
	}
	if len(causes()) > 0 {
		t.Errorf("given up: %v", causes())
	}
}

func TestConnGivesUpAnOverflow(t *testing.T) {
	c, far, causes := pair(t, 64<<10)
	line := make([]byte, 10_000)
	var err error
	for i := 0; i < 2000 && err == nil; i++ {
		_, err = c.Write(line)
	}
	if !errors.Is(err, errBacklog) {
		t.Fatalf("error %v", err)
	}
	if got := causes(); len(got) != 1 || got[0] != "backlog" {
		t.Errorf("causes %v", got)
	}
	if _, err := io.Copy(io.Discard, far); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Logf("the client sees %v", err) // a reset is fine
	}
	if _, err := c.Write(line); err == nil {
		t.Error("still writes")
	}
}

func TestConnGivesUpAStalledClient(t *testing.T) {
	c, _, causes := pair(t, 8<<20)
	line := make([]byte, 100_000)
	for range 60 {
		if _, err := c.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "given up", func() bool { return len(causes()) == 1 })
	if got := causes(); got[0] != "stalled" {
		t.Errorf("causes %v", got)
	}
}

// standing is a connection that takes nothing, on a machine that stands still for a while, a few times.
type standing struct {
	net.Conn
	until time.Time
	still int // how often
	tries int
}

func (s *standing) SetWriteDeadline(t time.Time) error { s.until = t; return nil }
func (*standing) Close() error                         { return nil }

func (s *standing) Write([]byte) (int, error) {
	late := drainLate / 2
	if s.tries++; s.tries <= s.still {
		late = 2 * drainLate
	}
	time.Sleep(time.Until(s.until) + late)
	return 0, os.ErrDeadlineExceeded
}

// When the machine stands still, the client's time is over before the client could do anything.
func TestConnIsPatientWhenItIsLateItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drains sync.WaitGroup
		far, causes := &standing{still: 3}, 0
		c := newSocket(far, 1<<10, &drains, func(string) { causes++ })
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		drains.Wait()
		if far.tries != far.still+1 || causes != 1 {
			t.Errorf("given up %d times, after %d tries", causes, far.tries)
		}
	})
}

func TestConnDeadlineIsForReading(t *testing.T) {
	c, far, _ := pair(t, 64<<10)
	_ = c.SetDeadline(time.Now().Add(-time.Second))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("a write is subject to the keep-alive: %v", err)
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(far, b); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(b); !isTimeout(err) {
		t.Errorf("read: %v", err)
	}
}

// The last word arrives, also when the peer has sent more than was read.
func TestCloseDoesNotResetThePeer(t *testing.T) {
	c, far, _ := pair(t, 64<<10)
	if _, err := far.Write(make([]byte, 20<<10)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("goodbye")); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(far); err != nil || string(said) != "goodbye" {
		t.Errorf("%q, %v", said, err)
	}
}

// Before admission nothing that is asked for goes beyond the deadline for CONNECT; from admission on, what was asked for
// holds.
func TestConnDeadlineBeforeAdmission(t *testing.T) {
	c, _, _ := pair(t, 64<<10)
	g := newGate(10, 10, newMetrics(nil))
	p := g.enter(c.Conn, Neighbourhood(ipOf(c.Conn.RemoteAddr())))
	p.since = time.Now().Add(50*time.Millisecond - ConnectTimeout)
	c.begin(g, p)
	for _, asked := range []time.Time{{}, time.Now().Add(time.Hour)} {
		_ = c.SetDeadline(asked)
		if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
			t.Fatalf("asked for %v: %v", asked, err)
		}
	}
	soon := time.Now().Add(-time.Second)
	_ = c.SetReadDeadline(soon)
	if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
		t.Fatal(err)
	}
	began := time.Now()
	_ = c.SetReadDeadline(began.Add(150 * time.Millisecond))
	c.admitted()
	c.admitted()
	if _, err := c.Read(make([]byte, 1)); !isTimeout(err) || time.Since(began) < 100*time.Millisecond {
		t.Errorf("after admission: %v after %v", err, time.Since(began))
	}
	if g.places != 0 || g.open != 1 {
		t.Errorf("%d places, %d open", g.places, g.open)
	}
	_ = c.Close()
	_ = c.Close()
	if g.open != 0 {
		t.Errorf("%d open after the end", g.open)
	}
}
