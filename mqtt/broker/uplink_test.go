package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fleet"
	"meterline/testkit"
)

func TestPubackComesAfterTheAppend(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			r := start(t)
			release, entered := make(chan struct{}), make(chan struct{}, 16)
			r.log.onAppend(func(ctx context.Context, _ []command.Uplink) error {
				entered <- struct{}{}
				<-release
				return nil
			})
			h := dev("d1")
			h.version = version
			c := r.connect(t, h)
			c.publish("meterline/v1/d1/up/result", `{"v":1}`, 1, 7)
			<-entered
			c.ping() // the reader goes on, and a PUBACK would have come before
			close(release)
			if ack := c.expect(packets.Puback); ack.PacketID != 7 || ack.ReasonCode != 0 {
				t.Errorf("PUBACK %d %#x", ack.PacketID, ack.ReasonCode)
			}
			got := r.log.of(command.UplinkResult)
			if len(got) != 1 {
				t.Fatalf("%d entries", len(got))
			}
			u := got[0]
			if u.Endpoint != "d1" || string(u.Payload) != `{"v":1}` || u.Gateway != "gw1/i1" || u.Epoch == 0 ||
				u.Partition != fleet.Partition("d1", 16) {
				t.Errorf("entry %+v", u)
			}
		})
	}
}

func TestManyInFlightAreAcknowledgedInOrder(t *testing.T) {
	r := start(t)
	release := make(chan struct{})
	r.log.onAppend(func(context.Context, []command.Uplink) error { <-release; return nil })
	c := r.connect(t, dev("d1"))
	const n, held = 1000, windowUnits / 2
	for i := 1; i <= held; i++ {
		c.publish("meterline/v1/d1/up/readings", fmt.Sprint(i), 1, uint16(i))
	}
	c.ping() // all of these wait for the first append
	close(release)
	go func() {
		for i := held + 1; i <= n; i++ {
			if c.trySend(packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: uint16(i),
				TopicName: "meterline/v1/d1/up/readings", Payload: fmt.Append(nil, i),
			}) != nil {
				return
			}
		}
	}()
	for i := 1; i <= n; i++ {
		if ack := c.expect(packets.Puback); int(ack.PacketID) != i {
			t.Fatalf("PUBACK %d, want %d", ack.PacketID, i)
		}
	}
	got := r.log.of(command.UplinkReadings)
	if len(got) != n {
		t.Fatalf("%d entries", len(got))
	}
	for i, u := range got {
		if string(u.Payload) != fmt.Sprint(i+1) {
			t.Fatalf("entry %d is %s", i, u.Payload)
		}
	}
	if most := slices.Max(r.log.batches); most < held/2 { // the first append may have some, and the next has the others
		t.Errorf("%d entries in one batch at most: nothing was gathered", most)
	}
}

func TestTheWindowSlowsOnlyItsOwnConnection(t *testing.T) {
	r := start(t, func(o *Options) { o.Shards = 1 })
	release, entered := make(chan struct{}), make(chan struct{}, 100)
	r.log.onAppend(func(context.Context, []command.Uplink) error {
		entered <- struct{}{}
		<-release
		return nil
	})
	flood := r.connect(t, dev("d1"))
	for i := 1; i <= windowUnits+1; i++ {
		flood.publish("meterline/v1/d1/up/readings", "x", 1, uint16(i))
	}
	<-entered
	flood.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	if pk, err := flood.read(200 * time.Millisecond); err == nil {
		t.Fatalf("the reader went on past its window: %s", packets.PacketNames[pk.FixedHeader.Type])
	}
	other := r.connect(t, dev("d2"))
	other.publish("meterline/v1/d2/up/readings", "y", 1, 1)
	other.ping()
	close(release)
	other.expect(packets.Puback)
	pongs, acks := 0, 0
	for acks < windowUnits+1 || pongs == 0 {
		pk, err := flood.read(waitMost)
		if err != nil {
			t.Fatal(err)
		}
		switch pk.FixedHeader.Type {
		case packets.Puback:
			acks++
		case packets.Pingresp:
			pongs++
		}
	}
}

func TestAppendFailureMeansNoPuback(t *testing.T) {
	r := start(t, func(o *Options) { o.FlapLimit = 1 })
	r.log.onAppend(func(context.Context, []command.Uplink) error { return errors.New("no space") })
	c := r.connect(t, dev("d1"))
	pulse, began := testkit.StartPulse(t), time.Now()
	for i := 1; i <= 5; i++ {
		c.publish("meterline/v1/d1/up/result", "x", 1, uint16(i))
	}
	for _, pk := range c.closed() {
		t.Errorf("got %s", packets.PacketNames[pk.FixedHeader.Type])
	}
	if took := time.Since(began); took < appendPatience/2 || took > pulse.Limit(2*appendPatience) {
		t.Errorf("disconnected after %v", took)
	}
	if n := r.metric(t, "append_failures_total"); n < 2 {
		t.Errorf("%v failures counted: not tried again", n)
	}
	r.log.onAppend(nil)
	again := r.connect(t, dev("d1")) // is not flapping: it was sent away
	again.publish("meterline/v1/d1/up/result", "x", 1, 1)
	again.expect(packets.Puback)
	r.answered(t, 3, dev("d1")) // but now it is
}

func TestAppendIsTriedAgain(t *testing.T) {
	r := start(t)
	failures := 3
	r.log.onAppend(func(context.Context, []command.Uplink) error {
		if failures--; failures >= 0 {
			return errors.New("not now")
		}
		return nil
	})
	c := r.connect(t, dev("d1"))
	c.publish("meterline/v1/d1/up/result", "x", 1, 9)
	if ack := c.expect(packets.Puback); ack.PacketID != 9 {
		t.Errorf("PUBACK %d", ack.PacketID)
	}
	if n := len(r.log.of(command.UplinkResult)); n != 1 {
		t.Errorf("%d entries", n)
	}
}

func TestQoS0IsTakenWithoutPromise(t *testing.T) {
	r := start(t)
	c := r.connect(t, dev("d1"))
	c.publish("meterline/v1/d1/up/event", "hello", 0, 0)
	r.log.awaitKind(t, command.UplinkEvent, 1)
	c.ping() // and nothing else came
}

func TestWhatEndpointsMayNotPublish(t *testing.T) {
	large := strings.Repeat("x", defaultPayload+1)
	for _, c := range []struct {
		name string
		pk   packets.Packet
		code byte // of DISCONNECT, MQTT 5
	}{
		{"retained", packets.Packet{FixedHeader: packets.FixedHeader{Qos: 1, Retain: true}, TopicName: "meterline/v1/d1/up/ack"}, 0x9A},
		{"QoS 2", packets.Packet{FixedHeader: packets.FixedHeader{Qos: 2}, TopicName: "meterline/v1/d1/up/ack"}, 0x9B},
		{"too large", packets.Packet{FixedHeader: packets.FixedHeader{Qos: 1}, TopicName: "meterline/v1/d1/up/ack", Payload: []byte(large)}, 0x95},
		{"topic alias", packets.Packet{FixedHeader: packets.FixedHeader{Qos: 1}, Properties: packets.Properties{TopicAlias: 1, TopicAliasFlag: true}, TopicName: "meterline/v1/d1/up/ack"}, 0x94},
	} {
		for _, version := range []byte{4, 5} {
			if version == 4 && c.name == "topic alias" {
				continue
			}
			t.Run(fmt.Sprint(c.name, " v", version), func(t *testing.T) {
				r := start(t)
				h := dev("d1")
				h.version = version
				cl := r.connect(t, h)
				pk := c.pk
				pk.FixedHeader.Type, pk.PacketID = packets.Publish, 1
				cl.send(pk)
				before := cl.closed()
				if version == 4 && len(before) > 0 {
					t.Errorf("MQTT 3.1.1 client got %s", packets.PacketNames[before[0].FixedHeader.Type])
				}
				if version == 5 && (len(before) != 1 || before[0].FixedHeader.Type != packets.Disconnect || before[0].ReasonCode != c.code) {
					t.Errorf("got %+v", before)
				}
				if n := len(r.log.of(command.UplinkAck)); n != 0 {
					t.Errorf("%d entries", n)
				}
			})
		}
	}
}

func TestRefusedTopicIsASecurityEvent(t *testing.T) {
	r := start(t)
	c := r.connect(t, dev("d1"))
	c.publish("meterline/v1/d2/up/result", "forged", 1, 1)
	if before := c.closed(); len(before) > 0 {
		t.Errorf("got %s", packets.PacketNames[before[0].FixedHeader.Type])
	}
	got := r.log.awaitKind(t, command.UplinkSecurity, 1)
	if got[0].Endpoint != "d1" || !strings.Contains(string(got[0].Payload), `"meterline/v1/d2/up/result"`) {
		t.Errorf("%s: %s", got[0].Endpoint, got[0].Payload)
	}

	v5 := r.connect(t, dev("d2").v5())
	for id := uint16(1); id <= 3; id++ {
		v5.publish("meterline/v1/d1/up/result", "forged", 1, id)
		if ack := v5.expect(packets.Puback); ack.PacketID != id || ack.ReasonCode != packets.ErrNotAuthorized.Code {
			t.Errorf("PUBACK %+v", ack)
		}
	}
	r.awaitMetric(t, 4, "refused_topics_total", "role", "endpoint")
	v5.publish("meterline/v1/d2/up/result", "true", 1, 4)
	v5.expect(packets.Puback)
	if n := len(r.log.of(command.UplinkSecurity)); n != 2 {
		t.Errorf("%d security events: one a minute and connection", n)
	}
	if n := len(r.log.of(command.UplinkResult)); n != 1 {
		t.Errorf("%d results", n)
	}
}

func TestSuffixedSessionPublishesBesideTheOwn(t *testing.T) {
	r := start(t)
	own := r.listening(t, dev("d1"))
	h := dev("d1")
	h.id = "d1:person"
	side := r.connect(t, h)
	if code := side.subscribe("meterline/v1/d1/down/command", 1, 5); code != 0x80 {
		t.Errorf("a suffixed session may subscribe: %#x", code)
	}
	side.publish("meterline/v1/d1/up/result", "by hand", 1, 6)
	side.expect(packets.Puback)
	got := r.log.awaitKind(t, command.UplinkResult, 1)
	if got[0].Endpoint != "d1" || got[0].Epoch != 0 {
		t.Errorf("entry %+v", got[0])
	}
	own.ping()
}
