package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"meterline/testkit"
	"meterline/testkit/proxy"
)

const patience = time.Minute

// echo is a server that answers every line with itself in capitals.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					_, _ = io.WriteString(c, strings.ToUpper(s.Text())+"\n")
				}
			}()
		}
	}()
	return l.Addr().String()
}

func start(t *testing.T) *proxy.Proxy {
	t.Helper()
	addr, err := testkit.FreeAddress() // it stays free while the proxy refuses
	if err != nil {
		t.Fatal(err)
	}
	p, err := proxy.New(addr, echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// client is a connection through the proxy.
type client struct {
	*testing.T
	net.Conn
	lines *bufio.Reader
}

func dial(t *testing.T, p *proxy.Proxy) *client {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) say(line string) {
	c.Helper()
	if _, err := io.WriteString(c.Conn, line+"\n"); err != nil {
		c.Fatal(err)
	}
}

func (c *client) hear(within time.Duration) (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(within))
	s, err := c.lines.ReadString('\n')
	return strings.TrimSpace(s), err
}

func (c *client) answers(line string) {
	c.Helper()
	c.say(line)
	if got, err := c.hear(patience); err != nil || got != strings.ToUpper(line) {
		c.Fatalf("%q: %v", got, err)
	}
}

func (c *client) silent() {
	c.Helper()
	if got, err := c.hear(100 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.Fatalf("%q: %v, want silence", got, err)
	}
}

func (c *client) ended(want error) {
	c.Helper()
	if _, err := c.hear(patience); !errors.Is(err, want) {
		c.Fatalf("the connection ended with %v, want %v", err, want)
	}
}

func TestPassesAndCounts(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	c.answers("hello")
	testkit.Eventually(t, patience, func() bool { // what has arrived is counted a moment later
		s := p.Stats()
		return s.Opened == 1 && s.Up == 6 && s.Down == 6
	}, "six bytes each way are counted")
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	c.ended(io.EOF) // an end is passed on, and its answer
}

func TestCutAndReset(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	c.answers("a")
	if n := p.Cut(); n != 1 {
		t.Errorf("cut %d", n)
	}
	c.ended(io.EOF)
	c = dial(t, p)
	c.answers("b")
	p.Reset()
	c.ended(syscall.ECONNRESET)
	dial(t, p).answers("c")
}

// Either direction is held back by itself, and nothing of it is lost.
func TestStall(t *testing.T) {
	t.Parallel()
	for _, d := range []proxy.Direction{proxy.Up, proxy.Down} {
		p := start(t)
		c := dial(t, p)
		c.answers("a")
		p.Set(d, proxy.Link{Flow: proxy.Stall})
		c.say("b")
		testkit.Eventually(t, patience, func() bool { return p.Stats().Held == 1 }, "the piece that is held")
		c.silent()
		up := int64(2) // of "a"
		if d == proxy.Down {
			up = 4
		}
		testkit.Eventually(t, patience, func() bool { return p.Stats().Up == up }, "what went up to be counted")
		p.Set(d, proxy.Link{})
		if got, err := c.hear(patience); got != "B" {
			t.Errorf("direction %d: %q, %v", d, got, err)
		}
	}
}

// What was dropped stays lost: the connection that it belonged to is reset.
func TestDrop(t *testing.T) {
	t.Parallel()
	p := start(t)
	c, untouched := dial(t, p), dial(t, p)
	c.answers("a")
	untouched.answers("a")
	p.Set(proxy.Up, proxy.Link{Flow: proxy.Drop})
	c.say("b")
	testkit.Eventually(t, patience, func() bool { return p.Stats().Lost == 2 }, "the bytes that are lost")
	c.silent()
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
	c.say("c")
	c.ended(syscall.ECONNRESET)
	untouched.answers("b")
}

// One connection is slowed down, another is not.
func TestDelayAndTrickleOfOne(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	c.answers("a")
	one := p.Conns()[0]
	other := dial(t, p)
	if one.From() != c.LocalAddr().String() {
		t.Errorf("from %s", one.From())
	}
	for _, l := range []proxy.Link{{Delay: 300 * time.Millisecond}, {Rate: 20}} { // six bytes at 20 a second
		one.Set(proxy.Down, l)
		began := time.Now() // before it is on its way
		c.say("12345")
		other.answers("b")
		if got, err := c.hear(patience); got != "12345" {
			t.Errorf("%q: %v", got, err)
		}
		if took := time.Since(began); took < 200*time.Millisecond {
			t.Errorf("%+v took only %v", l, took)
		}
	}
}

func TestEntrance(t *testing.T) {
	t.Parallel()
	p := start(t)
	enter := func(e proxy.Entrance) {
		t.Helper()
		if err := p.Enter(e); err != nil {
			t.Fatal(err)
		}
	}
	old := dial(t, p)
	old.answers("a")
	enter(proxy.Refuse)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if _, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want a refusal", err)
	}
	old.answers("b") // only new ones are refused
	enter(proxy.Ignore)
	c := dial(t, p)
	c.say("c")
	c.silent()
	enter(proxy.Open)
	c.ended(syscall.ECONNRESET)
	dial(t, p).answers("d")
}

// The question is carried, its answer is not.
func TestCutAfter(t *testing.T) {
	t.Parallel()
	p := start(t)
	c, other := dial(t, p), dial(t, p)
	c.answers("a")
	sprung := p.CutAfter([]byte("commit"))
	other.answers("b")
	select {
	case <-sprung:
		t.Fatal("sprang too early")
	default:
	}
	c.say("commit")
	c.ended(syscall.ECONNRESET)
	testkit.Eventually(t, patience, func() bool {
		select {
		case <-sprung:
			return true
		default:
			return false
		}
	}, "the trap")
	testkit.Eventually(t, patience, func() error { // bytes are counted once they are through
		if s := p.Stats(); s.Up != 2+2+7 || s.Down != 2+2 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}, "all that was carried to be counted")
	other.answers("commit") // once
}
