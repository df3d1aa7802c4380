package holes_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	waitMost = time.Minute            // for what must come
	silence  = 500 * time.Millisecond // after which nothing more is going to come
	pipeline = 64                     // publishes a publisher sends ahead of the acknowledgements
)

// hello is what a client says of itself in CONNECT.
type hello struct {
	id, user, pass string
	version        byte // 4 is MQTT 3.1.1, 5 is 5
	persistent     bool
	expiry         uint32 // of the session, MQTT 5
	keepAlive      uint16
	window         uint16 // Receive Maximum
	largest        uint32 // Maximum Packet Size
	will           string // its topic
	tiny           bool   // the smallest receive buffer
}

// service is a client of plain MQTT: a plain broker lets it in as it does everybody.
func service(id string) hello { return hello{id: id, user: "service", pass: "reader", version: 4} }

// endpoint is a device; its secret is its id.
func endpoint(id string) hello { return hello{id: id, user: id, pass: id, version: 4} }

// five makes it a client of MQTT 5 whose session, if it is persistent, lasts.
func (h hello) five() hello {
	h.version = 5
	if h.persistent {
		h.expiry = 3600
	}
	return h
}

func (h hello) keep() hello { h.persistent = true; return h }

// client is a raw MQTT client: it sends what a test tells it, and what it reads really came.
type client struct {
	t       testing.TB
	conn    net.Conn
	in      *bufio.Reader
	version byte
	connack packets.Packet
	lastID  uint16
}

func dial(t testing.TB, at string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", at, waitMost)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// open opens a connection for h, and does not say CONNECT.
func open(t testing.TB, at string, h hello) *client {
	t.Helper()
	conn := dial(t, at)
	if h.tiny {
		_ = conn.(*net.TCPConn).SetReadBuffer(1024)
	}
	return &client{t: t, conn: conn, in: bufio.NewReader(conn), version: h.version}
}

// tryOpen is open for a broker that may close what it has accepted at once.
func tryOpen(t testing.TB, at string, h hello) (*client, error) {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t: t, conn: conn, in: bufio.NewReader(conn), version: h.version}, nil
}

func (c *client) hello(h hello) {
	c.t.Helper()
	if err := c.tryHello(h); err != nil {
		c.t.Fatal("send CONNECT:", err)
	}
}

// tryHello fails where a broker has closed the connection already.
func (c *client) tryHello(h hello) error {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: h.id, Clean: !h.persistent, Keepalive: h.keepAlive,
			Username: []byte(h.user), UsernameFlag: true, Password: []byte(h.pass), PasswordFlag: true,
		},
		Properties: packets.Properties{
			SessionExpiryInterval: h.expiry, SessionExpiryIntervalFlag: h.expiry > 0,
			ReceiveMaximum: h.window, MaximumPacketSize: h.largest,
		},
	}
	if h.will != "" {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, h.will, []byte("gone")
	}
	return c.trySend(pk)
}

// knock connects and reads CONNACK, whatever it says.
func knock(t testing.TB, at string, h hello) *client {
	t.Helper()
	c := open(t, at, h)
	c.hello(h)
	c.connack = c.want(packets.Connack)
	return c
}

// connect connects and wants to be let in.
func connect(t testing.TB, at string, h hello) *client {
	t.Helper()
	c := knock(t, at, h)
	if c.connack.ReasonCode != 0 {
		t.Fatalf("%s was refused: %#x", h.id, c.connack.ReasonCode)
	}
	return c
}

func (c *client) encode(pk packets.Packet) []byte {
	c.t.Helper()
	pk.ProtocolVersion, pk.Mods.AllowResponseInfo = c.version, true
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&buf)
	case packets.Pingreq:
		err = pk.PingreqEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	default:
		err = fmt.Errorf("no encoder for %d", pk.FixedHeader.Type)
	}
	if err != nil {
		c.t.Errorf("encode: %v", err)
	}
	return buf.Bytes()
}

func (c *client) trySend(pk packets.Packet) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(waitMost))
	_, err := c.conn.Write(c.encode(pk))
	return err
}

func (c *client) send(pk packets.Packet) {
	c.t.Helper()
	if err := c.trySend(pk); err != nil {
		c.t.Fatalf("send %s: %v", packets.PacketNames[pk.FixedHeader.Type], err)
	}
}

// next reads the next packet within the time.
func (c *client) next(within time.Duration) (packets.Packet, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(within))
	pk := packets.Packet{ProtocolVersion: c.version}
	first, err := c.in.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	if pk.FixedHeader.Remaining, _, err = packets.DecodeLength(c.in); err != nil {
		return pk, err
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(waitMost)) // it has begun
	body := make([]byte, pk.FixedHeader.Remaining)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Disconnect:
		if len(body) > 0 {
			err = pk.DisconnectDecode(body)
		}
	}
	return pk, err
}

// want reads the next packet, which must be of the kind.
func (c *client) want(kind byte) packets.Packet {
	c.t.Helper()
	pk, err := c.next(waitMost)
	if err != nil {
		c.t.Fatalf("expected %s: %v", packets.PacketNames[kind], err)
	}
	if pk.FixedHeader.Type != kind {
		c.t.Fatalf("expected %s, got %s", packets.PacketNames[kind], packets.PacketNames[pk.FixedHeader.Type])
	}
	return pk
}

// closed wants the broker to close the connection within the time, and returns what came before.
func (c *client) closed(within time.Duration) (before []packets.Packet) {
	c.t.Helper()
	for deadline := time.Now().Add(within); ; {
		pk, err := c.next(time.Until(deadline))
		switch {
		case err == nil && time.Now().Before(deadline):
			before = append(before, pk)
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
			c.t.Fatalf("still connected after %v", within)
		default:
			return before
		}
	}
}

// subscribe subscribes at QoS 1 and wants it granted.
func (c *client) subscribe(filter string) {
	c.t.Helper()
	if code := c.ask(filter, 60001); code != 1 {
		c.t.Fatalf("subscribe to %s: %#x", filter, code)
	}
}

// ask subscribes at QoS 1 and returns the answer.
func (c *client) ask(filter string, id uint16) byte {
	c.t.Helper()
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: id,
		Filters: packets.Subscriptions{{Filter: filter, Qos: 1}},
	})
	ack := c.want(packets.Suback)
	if ack.PacketID != id || len(ack.ReasonCodes) != 1 {
		c.t.Fatalf("SUBACK %+v", ack)
	}
	return ack.ReasonCodes[0]
}

func (c *client) puback(pks ...packets.Packet) {
	for _, pk := range pks {
		if pk.FixedHeader.Qos > 0 {
			_ = c.trySend(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
		}
	}
}

func (c *client) publish(topic string, payload []byte, qos byte, id uint16) {
	c.t.Helper()
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: payload, PacketID: id,
	})
}

// alive says whether a ping is answered within the time; publishes that come in between are not acknowledged.
func (c *client) alive(within time.Duration) bool {
	if err := c.trySend(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}}); err != nil {
		return false
	}
	for deadline := time.Now().Add(within); ; {
		pk, err := c.next(time.Until(deadline))
		if err != nil {
			return false
		}
		if pk.FixedHeader.Type == packets.Pingresp {
			return true
		}
	}
}

// leave disconnects and waits until the broker has closed the connection.
func (c *client) leave() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.closed(waitMost)
}

// die resets the connection.
func (c *client) die() {
	_ = c.conn.(*net.TCPConn).SetLinger(0)
	_ = c.conn.Close()
}

// take reads n publishes and acknowledges them, when it is told to.
func (c *client) take(n int, ack bool) (pks []packets.Packet) {
	c.t.Helper()
	for len(pks) < n {
		pk, err := c.next(waitMost)
		if err != nil {
			c.t.Fatalf("after %d of %d messages: %v", len(pks), n, err)
		}
		if pk.FixedHeader.Type != packets.Publish {
			continue
		}
		pks = append(pks, pk)
		if ack {
			c.puback(pk)
		}
	}
	return pks
}

// rest reads publishes until a ping has been answered and nothing more comes, or the connection is over.
func (c *client) rest(ack bool) (pks []packets.Packet, over bool) {
	_ = c.trySend(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	answered, deadline := false, time.Now().Add(waitMost)
	for {
		pk, err := c.next(silence)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && (answered || time.Now().After(deadline)):
			return pks, false
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return pks, true
		case pk.FixedHeader.Type == packets.Pingresp:
			answered = true
		case pk.FixedHeader.Type == packets.Publish:
			pks = append(pks, pk)
			if ack {
				c.puback(pk)
			}
		}
	}
}

// until reads publishes until it is enough, or the connection is over. It asks when nothing comes, and now and then.
func (c *client) until(ack bool, enough func(pks []packets.Packet) bool) (pks []packets.Packet, over bool) {
	for deadline := time.Now().Add(waitMost); time.Now().Before(deadline); {
		pk, err := c.next(silence / 5)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return pks, true
		case pk.FixedHeader.Type == packets.Publish:
			pks = append(pks, pk)
			if ack {
				c.puback(pk)
			}
		}
		if (err != nil || len(pks)%100 == 0) && enough(pks) {
			break
		}
	}
	return pks, false
}

// feed publishes the numbers from first up to end at QoS 1, a few ahead of their acknowledgements. It gives up when
// nothing is acknowledged for as long as its patience.
func (c *client) feed(topic string, first, end, size int, patience time.Duration) (acked int, longest time.Duration) {
	c.t.Helper()
	for sent, last := first, time.Now(); first+acked < end; {
		var out []byte
		for ; sent < end && sent < first+acked+pipeline; sent++ {
			c.lastID = c.lastID%50000 + 1
			out = append(out, c.encode(packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: topic,
				Payload: payload(topic, sent, size), PacketID: c.lastID,
			})...)
		}
		_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
		if _, err := c.conn.Write(out); err != nil {
			return acked, max(longest, time.Since(last))
		}
		pk, err := c.next(patience)
		longest = max(longest, time.Since(last))
		if err != nil {
			return acked, longest
		}
		if pk.FixedHeader.Type == packets.Puback && pk.ReasonCode < packets.ErrUnspecifiedError.Code {
			acked++
			last = time.Now()
		}
	}
	return acked, longest
}

// feedAll wants everything to be acknowledged, and given out when it returns.
func (c *client) feedAll(topic string, first, end, size int) {
	c.t.Helper()
	if acked, _ := c.feed(topic, first, end, size, waitMost); acked != end-first {
		c.t.Fatalf("%d of %d were acknowledged", acked, end-first)
	}
	if !c.alive(waitMost) { // mochi gives out after PUBACK, and before it reads on
		c.t.Fatal("the connection of the publisher is over")
	}
}

// pour publishes n messages at QoS 0.
func (c *client) pour(topic string, n, size int) {
	one := c.encode(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: topic, Payload: payload(topic, 0, size),
	})
	_ = c.conn.SetWriteDeadline(time.Now().Add(waitMost))
	if _, err := c.conn.Write(bytes.Repeat(one, n)); err != nil {
		c.t.Errorf("pour: %v", err)
	}
}

// flood publishes n messages at QoS 0, and returns when the broker has read them.
func (c *client) flood(topic string, n, size int) {
	c.t.Helper()
	c.pour(topic, n, size)
	if !c.alive(waitMost) {
		c.t.Fatal("the flood was never read")
	}
}

// payload is the message of that number: a command where the topic is one for commands.
func payload(topic string, number, size int) []byte {
	padding := strings.Repeat("x", size)
	if strings.HasSuffix(topic, "/down/command") {
		return fmt.Appendf(nil, `{"v":1,"message_id":"%08d","message_type":"unicast","command_id":"c1","kind":"meter.read",`+
			`"expires_at":%q,"params":{"padding":%q},"targets":[]}`, number, time.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano), padding)
	}
	return fmt.Appendf(nil, "%08d%s", number, padding)
}

// numbers are those of the messages, in the order they came.
func numbers(pks []packets.Packet) (ns []int) {
	for _, pk := range pks {
		text := string(pk.Payload[:min(8, len(pk.Payload))])
		if bytes.HasPrefix(pk.Payload, []byte("{")) {
			var m struct {
				ID string `json:"message_id"`
			}
			_ = json.Unmarshal(pk.Payload, &m) // it is ours
			text = m.ID
		}
		n := -1
		_, _ = fmt.Sscanf(text, "%08d", &n)
		ns = append(ns, n)
	}
	return ns
}

// inversions counts the neighbours that are in the wrong order.
func inversions(ns []int) (n int) {
	for i := 1; i < len(ns); i++ {
		if ns[i] <= ns[i-1] {
			n++
		}
	}
	return n
}

// inOrder wants the numbers from first up to end, once each and in order.
func inOrder(t testing.TB, got []int, first, end int) {
	t.Helper()
	for i, n := range got {
		if n != first+i {
			t.Errorf("message %d came in place of %d", n, first+i)
			return
		}
	}
	if len(got) != end-first {
		t.Errorf("%d of %d messages came", len(got), end-first)
	}
}

// without are the numbers from 0 up to end that are in none of the lists.
func without(end int, lists ...[]int) (missing []int) {
	for i := range end {
		if !slices.ContainsFunc(lists, func(l []int) bool { return slices.Contains(l, i) }) {
			missing = append(missing, i)
		}
	}
	return missing
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitMost)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}
