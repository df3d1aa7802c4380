package broker

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/fleet"
	"meterline/mqtt"
)

const (
	crowdEnv = "BROKER_CROWD" // what, address and number of devices

	roundTrips = "round-trips"
	uplinkers  = "uplinkers"
	comers     = "comers"
	idlers     = "idlers"

	uplinksOpen = 20 // of each that are not acknowledged
)

// TestCrowd is the process that plays the clients of a benchmark; otherwise it does nothing. It says "ready" when they are
// connected, does as often as it is told, and says "done".
func TestCrowd(t *testing.T) {
	about := strings.Fields(os.Getenv(crowdEnv))
	if len(about) != 3 {
		return
	}
	devices, err := strconv.Atoi(about[2])
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, address: about[1]}
	do := c.begin(about[0], devices)
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		n, err := strconv.Atoi(in.Text())
		if err != nil {
			t.Fatal(err)
		}
		do(n)
		fmt.Println("done")
	}
}

// crowd plays the clients.
type crowd struct {
	t       *testing.T
	address string
	devices []*client
	backend *client
}

func (c *crowd) begin(what string, devices int) (do func(n int)) {
	for i := range devices {
		if what == comers {
			break
		}
		d := c.come(dev(benchDevice(i)))
		d.subscribe(mqtt.CommandTopic(fleet.DeviceID(benchDevice(i))), 1, 1)
		_ = d.conn.SetReadDeadline(time.Time{})
		c.devices = append(c.devices, d)
	}
	switch what {
	case roundTrips:
		c.backend = c.come(hi{id: "b1", user: "backend", pass: "backend secret"})
		_ = c.backend.conn.SetReadDeadline(time.Time{})
		return c.roundTrips
	case uplinkers:
		return c.uplinks
	case comers:
		return func(n int) { c.comeAndGo(n, devices) }
	}
	return func(int) {}
}

func (c *crowd) come(h hi) *client {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	d := say(c.t, conn, h)
	if d.expect(packets.Connack).ReasonCode != 0 {
		c.t.Fatalf("%s is refused", h.id)
	}
	return d
}

// raw is a publish at QoS 1.
func raw(topic, payload string, id uint16) []byte {
	out := []byte{packets.Publish<<4 | 2}
	for n := 4 + len(topic) + len(payload); ; {
		if n < 0x80 {
			out = append(out, byte(n))
			break
		}
		out = append(out, byte(n)|0x80)
		n >>= 7
	}
	out = append(append(out, byte(len(topic)>>8), byte(len(topic))), topic...)
	return append(append(out, byte(id>>8), byte(id)), payload...)
}

// skip reads a packet and returns what kind it is and, of those that have one, its id.
func (c *client) skip() (kind byte, id uint16) {
	first, err := c.in.ReadByte()
	if err != nil {
		c.t.Error(err)
		return 0, 0
	}
	size, _, err := packets.DecodeLength(c.in)
	if err != nil {
		c.t.Error(err)
		return 0, 0
	}
	body, _ := c.in.Peek(min(size, 256))
	at := 0
	if first>>4 == packets.Publish {
		at = 2 + int(body[0])<<8 + int(body[1])
	}
	if len(body) >= at+2 {
		id = uint16(body[at])<<8 | uint16(body[at+1])
	}
	_, _ = c.in.Discard(size)
	return first >> 4, id
}

// result and order are of the size that they have.
const result = `{"v":1,"message_id":"0123456789abcdef","results":[{"command_id":"0192c0de-0000-7000-8000-000000000000",` +
	`"device_id":"bench-00000","attempt":1,"status":"ok","final":true,"readings":[{"item":"1-0:1.8.0","value":"1234.56",` +
	`"unit":"kWh","read_at":"2026-01-31T12:00:00Z"}]}]}`

const order = `{"v":1,"message_id":"0192c0de-0000-7000-8000-000000000000/1","message_type":"unicast",` +
	`"command_id":"0192c0de-0000-7000-8000-000000000000","kind":"meter.read","issued_at":"2026-01-31T12:00:00Z",` +
	`"expires_at":"2099-01-31T12:00:00Z","priority":5,"attempt":1,"items":["1-0:1.8.0"],"targets":[{"device_id":"bench-00000"}]}`

// roundTrips has each device commanded again as soon as its last answer was acknowledged.
func (c *crowd) roundTrips(n int) {
	var left, acknowledged atomic.Int64
	left.Store(int64(n))
	due := make(chan int, len(c.devices))
	var all sync.WaitGroup
	all.Go(func() { // the backend's PUBACKs
		for acknowledged.Load() < int64(n) {
			if kind, _ := c.backend.skip(); kind != packets.Puback {
				return
			}
			acknowledged.Add(1)
		}
	})
	var busy sync.WaitGroup
	for i, d := range c.devices {
		answer := raw(mqtt.UplinkTopic(fleet.DeviceID(benchDevice(i)), mqtt.Result), result, 1)
		due <- i
		all.Go(func() { d.answer(answer, due, i) })
	}
	busy.Go(func() {
		for id := uint16(1); left.Add(-1) >= 0; id = max(1, id+1) {
			i := <-due
			if i < 0 {
				return
			}
			if _, err := c.backend.conn.Write(raw(mqtt.CommandTopic(fleet.DeviceID(benchDevice(i))), order, id)); err != nil {
				c.t.Error(err)
			}
		}
	})
	busy.Wait()
	for range c.devices { // the last answers
		<-due
	}
	for _, d := range c.devices { // wakes those who answer
		_ = d.conn.SetReadDeadline(time.Unix(1, 0))
	}
	all.Wait()
	for _, d := range c.devices {
		_ = d.conn.SetReadDeadline(time.Time{})
		d.in.Reset(d.conn)
	}
}

// answer acknowledges and answers commands, and says when the answer was acknowledged.
func (c *client) answer(answer []byte, due chan<- int, i int) {
	out := append([]byte{packets.Puback << 4, 2, 0, 0}, answer...)
	for {
		if _, err := c.in.Peek(1); err != nil {
			return
		}
		switch kind, id := c.skip(); kind {
		case packets.Publish:
			out[2], out[3] = byte(id>>8), byte(id)
			if _, err := c.conn.Write(out); err != nil {
				c.t.Error(err)
				return
			}
		case packets.Puback:
			due <- i
		}
	}
}

// uplinks has each device send its share, with so many not acknowledged.
func (c *crowd) uplinks(n int) {
	var all sync.WaitGroup
	for i, d := range c.devices {
		share := n / len(c.devices)
		if i < n%len(c.devices) {
			share++
		}
		topic := mqtt.UplinkTopic(fleet.DeviceID(benchDevice(i)), mqtt.Readings)
		all.Go(func() { d.flow(topic, share) })
	}
	all.Wait()
}

// flow sends as many as are acknowledged, whenever there is something to read.
func (c *client) flow(topic string, n int) {
	id := uint16(1)
	for sent, acked := 0, 0; acked < n; {
		var out []byte
		for sent < n && sent-acked < uplinksOpen {
			out = append(out, raw(topic, result, id)...)
			id = max(1, id+1)
			sent++
		}
		if len(out) > 0 {
			if _, err := c.conn.Write(out); err != nil {
				c.t.Error(err)
				return
			}
		}
		for more := true; more; more = c.in.Buffered() > 0 {
			if kind, _ := c.skip(); kind != packets.Puback {
				c.t.Errorf("%s for a PUBACK", packets.PacketNames[kind])
				return
			}
			acked++
		}
	}
}

// comeAndGo has so many at a time connect and leave.
func (c *crowd) comeAndGo(n, atATime int) {
	var all sync.WaitGroup
	for i := range atATime {
		share := n / atATime
		if i < n%atATime {
			share++
		}
		all.Go(func() {
			for range share {
				d := c.come(dev(benchDevice(i)))
				d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
				_ = d.conn.Close()
			}
		})
	}
	all.Wait()
}
