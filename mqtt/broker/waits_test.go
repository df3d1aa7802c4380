package broker

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/semaphore"

	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt"
)

// Acknowledgements to a service client or a backend wait while its packets are handled (see gathering), so that must wait
// for nobody: not for the log, nor for presence, nor for whoever fills a queue or does not read, nor for the client's own
// acknowledgements. Here all of these stand still until the test is over. Whatever is handled must be answered all the same,
// and nothing may have been waited for meanwhile that would have gone on by itself.
func TestHandlingAServicePacketNeverWaits(t *testing.T) {
	for _, c := range []struct {
		name string
		as   hi
		what func(c *client)
		want map[byte]int // answers
	}{
		{"backend", hi{id: "b1", user: "backend", pass: "backend secret"}, sendCommands, map[byte]int{
			packets.Puback: len(allStates) * commandsEach, packets.Pingresp: 1,
		}},
		{"backend of MQTT 5", hi{id: "b1", user: "backend", pass: "backend secret"}.v5(), sendCommands, map[byte]int{
			packets.Puback: len(allStates) * commandsEach, packets.Pingresp: 1,
		}},
		{"service client", service("root"), func(c *client) { sendCommands(c); sendAllElse(c) }, map[byte]int{
			packets.Puback: len(allStates)*commandsEach + 4, packets.Pubrec: 2, packets.Pubcomp: 2, packets.Pubrel: 1,
			packets.Suback: 4, packets.Unsuback: 2, packets.Pingresp: 2,
		}},
		{"service client of MQTT 5", service("root").v5(), func(c *client) { sendCommands(c); sendAllElse(c) }, map[byte]int{
			packets.Puback: len(allStates)*commandsEach + 4, packets.Pubrec: 2, packets.Pubcomp: 2, packets.Pubrel: 1,
			packets.Suback: 4, packets.Unsuback: 2, packets.Pingresp: 2,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := standstill(t)
			b := r.connect(t, c.as)
			runtime.SetBlockProfileRate(1)
			defer runtime.SetBlockProfileRate(0)
			once := &atOnce{Conn: b.conn}
			b.conn = once
			c.what(b)
			b.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
			defer once.flush()()
			got := map[byte]int{}
			for _, pk := range b.closed() {
				got[pk.FixedHeader.Type]++
			}
			for kind, n := range c.want {
				if got[kind] != n {
					t.Errorf("%d %s, not %d: the others were never answered", got[kind], packets.PacketNames[kind], n)
				}
			}
			for _, stack := range waitedIn("OnPacketRead") {
				t.Errorf("handling a packet has waited:\n%s", stack)
			}
		})
	}
}

// allStates are devices in the states that may make a command wait; see standstill.
var allStates = []string{"d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "ipc1", "nobody"}

const commandsEach = 3

// sendCommands sends commands to devices in all states, small ones and large ones.
func sendCommands(c *client) {
	id := uint16(100)
	for i := range commandsEach {
		for _, endpoint := range allStates {
			id++
			payload := commandJSON(fmt.Sprint("m", id), time.Minute) + strings.Repeat(" ", i*100<<10)
			c.publish(mqtt.CommandTopic(fleet.DeviceID(endpoint)), payload, 1, id)
		}
	}
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
}

// sendAllElse sends whatever else a service client may.
func sendAllElse(c *client) {
	subscribe := func(id uint16, filters ...string) {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: id}
		for _, f := range filters {
			pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: 2})
		}
		c.send(pk)
	}
	unsubscribe := func(id uint16, filter string) {
		c.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: id,
			Filters: packets.Subscriptions{{Filter: filter}},
		})
	}
	subscribe(1, "own/#", "#")
	subscribe(2, "$share/slow/plant/#")
	subscribe(3, "$share/fast/own/#")
	for id := uint16(10); id < 12; id++ {
		c.publish("own/x", "x", 1, id)
		c.publish("plant/x", "x", 1, 10+id) // to the one that does not read
		c.publish("plant/x", "x", 0, 0)
		c.publish("own/y", "y", 2, 20+id)
		_, _ = c.conn.Write([]byte{packets.Pubrel<<4 | 2, 2, 0, byte(20 + id)})
	}
	_, _ = c.conn.Write([]byte{packets.Puback << 4, 2, 0xff, 1}) // of what never was
	_, _ = c.conn.Write([]byte{packets.Pubrec << 4, 2, 0xff, 2}) // ... which PUBREL answers
	_, _ = c.conn.Write([]byte{packets.Pubcomp << 4, 2, 0xff, 3})
	subscribe(4, "plant/+")
	unsubscribe(5, "$share/slow/plant/#")
	unsubscribe(6, "own/#")
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
}

// standstill is a broker in which everything that can stand still does, until the test is over: the log, what waits for it and
// is full, presence, look-ups, those who read what is given out, and
//
//	d1  listens, and reads
//	d2  listens and does not read: its window is full
//	d3  is connecting: presence is being told
//	d4  has gone: presence is being told
//	d5  is being taken over by itself: presence is being told
//	d6  listens, and waits for the log to take its uplink
//	d7  is connecting: its credential is being fetched
//	d8  is connected and does not listen
func standstill(t *testing.T) *rig {
	t.Helper()
	over := make(chan struct{})
	stuck := &still{memSessions: newMemSessions(), over: over, opens: map[fleet.DeviceID]int{"d3": 1, "d5": 2}}
	r := start(t, func(o *Options) {
		o.Sessions = stuck
		o.Credentials = stillCredentials{o.Credentials, over}
		o.Tokens = stillTokens{o.Tokens, over}
	})
	t.Cleanup(func() { close(over) })
	var d2, d6 *client
	for _, id := range []string{"d1", "d2", "d4", "d5", "d6", "ipc1"} {
		d := r.listening(t, dev(id))
		switch id {
		case "d2":
			d2 = d
		case "d4":
			_ = d.conn.Close()
		case "d6":
			d6 = d
		}
	}
	r.connect(t, dev("d8"))
	d2.ping()
	r.log.onAppend(func(context.Context, []command.Uplink) error { <-over; return nil })
	eventually(t, "d4 is gone", func() bool { return r.Broker.registry.current("d4") == nil })
	r.knock(t, dev("d3"))
	r.knock(t, dev("d5"))
	stuck.await(t, "presence is being told of three", func() bool { return stuck.waiting == 3 })
	r.knock(t, dev("d7"))
	r.knock(t, hi{id: "stuck", user: "service", pass: "stuck"})

	watcher := r.connect(t, hi{id: "watcher", user: "service", pass: "root"})
	watcher.subscribe("#", 1, 1)
	b := r.connect(t, hi{id: "b0", user: "backend", pass: "backend secret"})
	for id := uint16(1); id <= 8; id++ { // more than d2 may have in flight
		b.publish(mqtt.CommandTopic("d2"), commandJSON("m", time.Minute)+strings.Repeat(" ", 100<<10), 1, id)
		b.expect(packets.Puback)
	}
	for _, s := range r.uplinks.shards {
		held := fill(s.room)
		t.Cleanup(func() { s.room.Release(held) })
	}
	d6.publish(mqtt.UplinkTopic("d6", mqtt.Event), "x", 1, 1)
	fill(r.fanout.room)
	r.sleeper(t)
	return r
}

// sleeper is a client that subscribed to plant/#, alone and in a group, and does not read: there is no room for more.
func (r *rig) sleeper(t *testing.T) {
	t.Helper()
	asleep, filler := r.connect(t, service("reader")), r.connect(t, hi{id: "filler", user: "service", pass: "reader"})
	asleep.subscribe("plant/#", 2, 1)
	asleep.subscribe("$share/slow/plant/#", 2, 1)
	filler.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: "plant/x", PacketID: 1, Payload: []byte("x"),
	})
	filler.expect(packets.Puback)
	var wire *wire
	r.wires.mu.Lock()
	for w := range r.wires.open {
		if w.RemoteAddr().String() == asleep.conn.LocalAddr().String() {
			wire = w
		}
	}
	r.wires.mu.Unlock()
	big := strings.Repeat("x", 200<<10)
	for wire.Room() {
		filler.publish("plant/x", big, 0, 0)
		filler.ping()
	}
}

// fill leaves no room.
func fill(room *semaphore.Weighted) (held int64) {
	for n := int64(1 << 40); n > 0; n /= 2 {
		if room.TryAcquire(n) {
			held += n
		}
	}
	return held
}

// still is presence that stands still in the calls of which it is told, for ever.
type still struct {
	*memSessions
	over <-chan struct{}

	// guarded by memSessions.mu
	opens   map[fleet.DeviceID]int // the so-manieth Open of a device
	waiting int
}

func (s *still) Open(ctx context.Context, session command.Session) (int64, error) {
	s.mu.Lock()
	s.opens[session.Endpoint]--
	now := s.opens[session.Endpoint] == 0
	s.mu.Unlock()
	if now {
		s.wait()
	}
	return s.memSessions.Open(ctx, session)
}

func (s *still) Close(ctx context.Context, session command.Session) error {
	s.wait()
	return s.memSessions.Close(ctx, session)
}

func (s *still) wait() {
	s.mu.Lock()
	s.waiting++
	s.notify()
	s.mu.Unlock()
	<-s.over
}

// stillCredentials does not find d7.
type stillCredentials struct {
	of   Credentials
	over <-chan struct{}
}

func (c stillCredentials) Credentials(ctx context.Context, ids []fleet.DeviceID) ([]fleet.Credential, error) {
	if slices.Contains(ids, "d7") {
		<-c.over
	}
	return c.of.Credentials(ctx, ids)
}

// stillTokens does not find stuck.
type stillTokens struct {
	Tokens
	over <-chan struct{}
}

func (c stillTokens) TokenBySecret(ctx context.Context, secret string) (fleet.Token, error) {
	if secret == "stuck" {
		<-c.over
	}
	return c.Tokens.TokenBySecret(ctx, secret)
}

// atOnce keeps what is sent until it is all there.
type atOnce struct {
	net.Conn
	all bytes.Buffer
}

func (a *atOnce) Write(p []byte) (int, error) { return a.all.Write(p) }

// flush sends it. The result is to be called when the answers have been read.
func (a *atOnce) flush() (end func()) {
	var sending sync.WaitGroup
	sending.Go(func() { _, _ = a.Conn.Write(a.all.Bytes()) })
	return func() {
		_ = a.Close()
		sending.Wait()
	}
}

// waitedIn are the stacks of those who waited for something else than a lock, below a method of that name.
func waitedIn(method string) (stacks []string) {
	records := make([]runtime.BlockProfileRecord, 64)
	for {
		n, ok := runtime.BlockProfile(records)
		if ok {
			records = records[:n]
			break
		}
		records = make([]runtime.BlockProfileRecord, 2*n)
	}
	for _, r := range records {
		var stack strings.Builder
		below, lock := false, false
		frames := runtime.CallersFrames(r.Stack())
		for more := true; more; {
			var f runtime.Frame
			f, more = frames.Next()
			fmt.Fprintf(&stack, "\t%s (%s:%d)\n", f.Function, f.File, f.Line)
			below = below || strings.HasSuffix(f.Function, "."+method)
			lock = lock || strings.Contains(f.Function, "sync.(*Mutex)") || strings.Contains(f.Function, "sync.(*RWMutex)")
		}
		if below && !lock {
			stacks = append(stacks, stack.String())
		}
	}
	return stacks
}
