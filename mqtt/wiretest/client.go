package wiretest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// conn is one connection. Its methods end the case when the server does not do what they are named for.
type conn struct {
	t     *T
	nc    net.Conn
	in    *bufio.Reader
	v     Version
	said  hello
	shook bool   // CONNACK came
	ack   packet // CONNACK

	queue   []packet          // read and not asked for yet
	unacked map[uint16]byte   // what the server sent at QoS 1 and 2 and was not acknowledged yet
	aliases map[uint32]string // what the server's topic aliases stand for
	ids     uint16            // the last packet identifier that was used
	wrote   time.Time         // when something was sent last
	mine    string            // when set, messages of topics without it belong to other cases and are passed over
}

// opt changes CONNECT.
type opt func(*hello)

// as gives the client a name of its own within the case.
func as(name string) opt { return func(h *hello) { h.id = h.base + name } }

// persist asks for the session there is, if any, and to keep it for so long (MQTT 5, in seconds).
func persist(expiry uint32) opt {
	return func(h *hello) { h.clean, h.props = false, append(h.props, num(sessionExpiry, expiry)) }
}

// fresh asks for a new session that is kept for so long (MQTT 5).
func fresh(expiry uint32) opt {
	return func(h *hello) { h.clean, h.props = true, append(h.props, num(sessionExpiry, expiry)) }
}

// with adds properties (MQTT 5).
func with(props ...prop) opt { return func(h *hello) { h.props = append(h.props, props...) } }

func keepAlive(seconds uint16) opt { return func(h *hello) { h.keepAlive = seconds } }

func lastWill(w will) opt { return func(h *hello) { h.will = &w } }

// hello is the CONNECT of a client that may come in.
func (t *T) hello(opts ...opt) hello {
	h := hello{version: t.v, name: "MQTT", level: byte(t.v), clean: true, base: t.unique, id: t.unique, keepAlive: 60}
	if t.deviceID != "" {
		h.id, h.base, h.user, h.pass = t.deviceID, t.deviceID+":", &t.deviceID, &t.secret
	} else if t.target.User != "" || t.target.Password != "" {
		h.user, h.pass = &t.target.User, &t.target.Password
	}
	for _, o := range opts {
		o(&h)
	}
	return h
}

// dial opens a connection and says nothing.
func (t *T) dial() *conn {
	dialer := net.Dialer{Timeout: t.patience}
	nc, err := dialer.DialContext(t.ctx, "tcp", t.target.Address)
	if err != nil {
		t.fail("dial: %w", err)
	}
	c := &conn{t: t, nc: nc, in: bufio.NewReader(nc), v: t.v, unacked: map[uint16]byte{}, aliases: map[uint32]string{}}
	t.conns = append(t.conns, c)
	return c
}

// raw opens a connection and sends bytes.
func (t *T) raw(b []byte) *conn {
	c := t.dial()
	c.write(b)
	return c
}

// knock sends CONNECT.
func (t *T) knock(h hello) *conn {
	c := t.dial()
	c.said = h
	c.write(h.encode())
	return c
}

// answer connects and returns with whatever CONNACK says.
func (t *T) answer(h hello) *conn {
	c := t.knock(h)
	c.ack = c.next(connackType)
	return c
}

// connect connects and wants to be let in.
func (t *T) connect(h hello) *conn {
	c := t.answer(h)
	if c.ack.code != 0 {
		t.fail("refused: %v", c.ack)
	}
	return c
}

// client connects with what is usual and these changes.
func (t *T) client(opts ...opt) *conn { return t.connect(t.hello(opts...)) }

// another is a client with an id of its own.
func (t *T) another(opts ...opt) *conn {
	t.serial++
	return t.client(append([]opt{as(fmt.Sprint("x", t.serial))}, opts...)...)
}

// present wants Session Present to be so.
func (c *conn) present(want bool) *conn {
	if c.ack.present != want {
		c.t.fail("Session Present is %t", c.ack.present)
	}
	return c
}

func (c *conn) write(b []byte) {
	c.wrote = time.Now()
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.t.patience))
	if _, err := c.nc.Write(b); err != nil {
		c.t.fail("write: %w", err)
	}
}

// try writes what the server may already have had enough of.
func (c *conn) try(b []byte) {
	c.wrote = time.Now()
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.t.patience))
	_, _ = c.nc.Write(b)
}

// read reads the next packet, of this case.
func (c *conn) read(within time.Duration) (packet, error) {
	for {
		_ = c.nc.SetReadDeadline(time.Now().Add(within))
		p, err := readPacket(c.in, c.v)
		if err == nil {
			err = c.check(&p)
		}
		if err != nil || p.typ != publishType || c.mine == "" || strings.Contains(p.topic, c.mine) {
			return p, err
		}
		if p.qos > 0 { // another case's
			c.t.fail("a foreign message at QoS %d: subscribe at QoS 0 to a filter that others match", p.qos)
		}
	}
}

// must reads the next packet.
func (c *conn) must(wanted string) packet {
	p, err := c.read(c.t.patience)
	switch {
	case err == nil && p.typ == disconnectType && wanted != typeNames[disconnectType]:
		c.t.fail("waiting for %s: %v", wanted, p)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.t.fail("waiting for %s: nothing came", wanted)
	case err != nil:
		c.t.fail("waiting for %s: %w", wanted, err)
	}
	return p
}

// next wants the next packet to be of the type.
func (c *conn) next(typ byte) packet {
	if len(c.queue) > 0 {
		p := c.queue[0]
		c.queue = c.queue[1:]
		if p.typ != typ {
			c.t.fail("wanted %s, got %v", typeNames[typ], p)
		}
		return p
	}
	p := c.must(typeNames[typ])
	if p.typ != typ {
		c.t.fail("wanted %s, got %v", typeNames[typ], p)
	}
	return p
}

// wait wants a packet that fits, and keeps what comes before it for later.
func (c *conn) wait(what string, fits func(packet) bool) packet {
	for i, p := range c.queue {
		if fits(p) {
			c.queue = slices.Delete(c.queue, i, i+1)
			return p
		}
	}
	for {
		p := c.must(what)
		if fits(p) {
			return p
		}
		c.queue = append(c.queue, p)
	}
}

// acked waits for an acknowledgement of the type for the identifier.
func (c *conn) acked(typ byte, id uint16) packet {
	return c.wait(typeNames[typ], func(p packet) bool { return p.typ == typ && p.id == id })
}

// ping sends PINGREQ and waits for its answer: everything sent before was read.
func (c *conn) ping() {
	c.write(pingreq)
	c.wait("PINGRESP", func(p packet) bool { return p.typ == pingrespType })
}

// id is a packet identifier that is not in use.
func (c *conn) id() uint16 {
	c.ids++
	return c.ids
}

// drop ends the connection as a network that fails.
func (c *conn) drop() { _ = c.nc.Close() }

// bye says DISCONNECT and wants the server to close: then it has seen it. What is still on its way is read.
func (c *conn) bye(props ...prop) {
	c.write(disconnectPacket(c.v, 0, props...))
	for {
		p, err := c.read(c.t.patience)
		switch {
		case err == nil && p.typ != disconnectType:
		case err == nil:
			c.t.fail("after DISCONNECT: %v", p)
		case gone(err):
			_ = c.nc.Close()
			return
		default:
			c.t.fail("after DISCONNECT: %w", err)
		}
	}
}

// gone says whether an error means that the other side closed.
func gone(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) }

// Codes for what is malformed or against the protocol when no other is said (4.13.1).
var wrong = []byte{0x81, 0x82}

// dies wants the server to close the connection. In MQTT 5, once connected, it says why with one of the codes; before
// CONNACK it may say so there. 3.1.1 clients are told nothing (3.2.2.3: but for the six codes of CONNACK). Without codes
// nothing may be said: the client ended it.
func (c *conn) dies(codes ...byte) { c.diesWithin(c.t.patience, codes...) }

func (c *conn) diesWithin(most time.Duration, codes ...byte) {
	last, err := c.end(most)
	switch {
	case !gone(err):
		c.t.fail("wanted the connection to be closed: %w", err)
	case last == nil && (len(codes) == 0 || c.v < V5 || !c.shook || errors.Is(err, syscall.ECONNRESET)):
	case last == nil:
		c.t.fail("closed without DISCONNECT")
	case last.typ == connackType && last.code == 0:
		c.t.fail("let in")
	case !slices.Contains(codes, last.code):
		c.t.fail("%v, wanted one of %#x", *last, codes)
	}
}

// silent wants the server to close without a word: it may not say DISCONNECT before CONNACK (3.14.0-1).
func (c *conn) silent() {
	if last, err := c.end(c.t.patience); last != nil || !gone(err) {
		c.t.fail("wanted the connection to be closed without a word: %v, %v", last, err)
	}
}

// end reads to the end of the connection, and returns the DISCONNECT or the CONNACK before it.
func (c *conn) end(most time.Duration) (last *packet, err error) {
	deadline := time.Now().Add(most)
	for {
		p, err := c.read(time.Until(deadline))
		switch {
		case err != nil:
			return last, err
		case last != nil:
			return last, violationf("%v after %v", p, *last)
		case p.typ == disconnectType:
			last = &p
		case p.typ == connackType:
			if last = &p; p.code == 0 {
				return last, io.EOF
			}
		}
	}
}

// refused wants CONNACK with one of the codes, then the end.
func (c *conn) refused(codes ...byte) {
	ack := c.next(connackType)
	if !slices.Contains(codes, ack.code) {
		c.t.fail("%v, wanted one of %#x", ack, codes)
	}
	if p, err := c.read(c.t.patience); !gone(err) {
		c.t.fail("after a refusal: %v, %v", p, err)
	}
}

// expires wants the server to close the connection because nothing comes for one and a half times the keep alive, not
// earlier than that once (3.1.2.10).
func (c *conn) expires(keep time.Duration) {
	if p, ok := find(c.ack.props, serverKeepAlive); ok {
		if keep = time.Duration(p.n) * time.Second; keep > 5*time.Second {
			c.t.skip("the server's keep alive is %v", keep)
		}
	}
	began := time.Now()
	c.diesWithin(keep*3/2+c.t.patience, 0x8d)
	if took := time.Since(c.wrote); took < keep-50*time.Millisecond {
		c.t.fail("closed %v after the last packet with a keep alive of %v", took, keep)
	}
	if took := time.Since(began); took > keep*3/2+c.t.slack() {
		c.t.fail("closed after %v with a keep alive of %v", took, keep)
	}
}
