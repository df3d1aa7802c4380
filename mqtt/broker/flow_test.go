package broker

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/door"
)

// ways are a broker and how a slow network connects to it: the client's receive buffer is small.
func ways(t *testing.T) (r *rig, dial map[string]func(t *testing.T) net.Conn) {
	t.Helper()
	server, trust := certificate(t)
	r = start(t, func(o *Options) {
		o.Listeners = append(o.Listeners,
			door.Listen{Name: "mqtts", Address: "127.0.0.1:0", TLS: server},
			door.Listen{Name: "ws", Address: "127.0.0.1:0", WebSocket: true})
	})
	narrow := func(t *testing.T, name string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", r.Addr(name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
			t.Fatal(err)
		}
		return c
	}
	return r, map[string]func(*testing.T) net.Conn{
		"tcp": func(t *testing.T) net.Conn { return narrow(t, "mqtt") },
		"tls": func(t *testing.T) net.Conn {
			config := trust.Clone()
			config.ServerName = "127.0.0.1"
			return tls.Client(narrow(t, "mqtts"), config)
		},
		"ws": func(t *testing.T) net.Conn {
			c := narrow(t, "ws")
			dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, NetDial: func(string, string) (net.Conn, error) { return c, nil }}
			ws, _, err := dialer.Dial("ws://"+r.Addr("ws")+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			return webClient(ws)
		},
	}
}

// heap publishes n messages of 1 KiB, each to its own topic, in one breath.
func (c *client) heap(n int, qos0, retain bool) {
	c.t.Helper()
	var all bytes.Buffer
	for i := range n {
		pk := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: retain}, ProtocolVersion: c.version,
			TopicName: fmt.Sprintf("heap/%d", i), Payload: bytes.Repeat([]byte{'x'}, 1<<10),
		}
		if !qos0 {
			pk.FixedHeader.Qos, pk.PacketID = 1, uint16(i+1)
		}
		if err := pk.PublishEncode(&all); err != nil {
			c.t.Error(err)
		}
	}
	if _, err := c.conn.Write(all.Bytes()); err != nil {
		c.t.Error(err)
	}
}

// harvest reads n messages, and wants them in order when they are. It takes its time before each as pause says.
func (c *client) harvest(n int, ordered bool, pause func()) {
	c.t.Helper()
	seen := map[string]bool{}
	for i := range n {
		pause()
		pk := c.expect(packets.Publish)
		if ordered && pk.TopicName != fmt.Sprintf("heap/%d", i) || seen[pk.TopicName] {
			c.t.Fatalf("%s came as number %d", pk.TopicName, i)
		}
		seen[pk.TopicName] = true
		if pk.FixedHeader.Qos > 0 {
			c.puback(pk.PacketID)
		}
	}
	c.ping()
}

// letQueue reads slowly until something waits in a session, for a second at most. It does read: whoever takes nothing for 2 s is
// closed.
func (r *rig) letQueue(t *testing.T) (pause func()) {
	t.Helper()
	began, enough := time.Now(), false
	tick := time.NewTicker(5 * time.Millisecond)
	t.Cleanup(tick.Stop)
	return func() {
		if enough = enough || time.Since(began) > time.Second || r.metric(t, "plain_queued") > 0; !enough {
			<-tick.C
		}
	}
}

// What is more than the connection may have unread waits in the session: whoever reads gets all, by whatever way.
func TestAClientThatReadsGetsAll(t *testing.T) {
	const many = 10_000
	r, dial := ways(t)
	publisher := r.connect(t, hi{id: "publisher", user: "service", pass: "reader"})
	for way, dial := range dial {
		t.Run(way, func(t *testing.T) {
			h := service("reader2")
			c := say(t, dial(t), h)
			c.expect(packets.Connack)
			c.subscribe("heap/#", 0, 1)
			var publishing sync.WaitGroup
			defer publishing.Wait()
			publishing.Go(func() { publisher.heap(many, true, false) })
			c.harvest(many, true, r.letQueue(t))
		})
	}
	publisher.heap(many, true, true)
	publisher.ping()
	for way, dial := range dial {
		t.Run("retained "+way, func(t *testing.T) {
			for qos := range byte(2) {
				c := say(t, dial(t), service("reader2"))
				c.expect(packets.Connack)
				c.subscribe("heap/#", qos, 1)
				c.harvest(many, false, func() {})
			}
		})
	}
}

// And whoever does not read is closed all the same, as soon as it takes nothing for a while.
func TestAClientThatDoesNotReadIsClosed(t *testing.T) {
	r, dial := ways(t)
	publisher := r.connect(t, hi{id: "publisher", user: "service", pass: "reader"})
	closed := 0.0
	for way, dial := range dial {
		t.Run(way, func(t *testing.T) {
			c := say(t, dial(t), service("reader2"))
			c.expect(packets.Connack)
			c.subscribe("heap/#", 0, 1)
			publisher.heap(8000, true, false)
			closed++
			r.awaitMetric(t, closed, "slow_clients_closed_total", "cause", "stalled")
		})
	}
	publisher.ping()
}
