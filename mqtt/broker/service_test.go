package broker

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/testkit"
)

func service(token string) hi { return hi{id: "client", user: "service", pass: token} }

func TestUplinksAreGivenOutToTheOwnTenantOnly(t *testing.T) {
	r := start(t)
	d, x := r.connect(t, dev("d1")), r.connect(t, dev("x1"))
	for i, filter := range []string{"meterline/v1/+/up/#", "meterline/v1/d1/up/result", "#", "$share/g/meterline/v1/+/up/#"} {
		t.Run(filter, func(t *testing.T) {
			own, foreign := r.connect(t, service("reader")), r.connect(t, service("reader2"))
			for _, c := range []*client{own, foreign} {
				if code := c.subscribe(filter, 1, 1); code != 1 {
					t.Fatalf("subscribe: %#x", code)
				}
			}
			payload := fmt.Sprint("result ", i)
			d.publish("meterline/v1/d1/up/result", payload, 1, 1)
			d.expect(packets.Puback)
			pk := own.expect(packets.Publish)
			if pk.TopicName != "meterline/v1/d1/up/result" || string(pk.Payload) != payload || pk.FixedHeader.Qos != 1 || pk.FixedHeader.Retain {
				t.Errorf("%+v", pk)
			}
			if filter != "meterline/v1/d1/up/result" {
				x.publish("meterline/v1/x1/up/result", payload, 1, 1)
				x.expect(packets.Puback)
				if pk := foreign.expect(packets.Publish); pk.TopicName != "meterline/v1/x1/up/result" {
					t.Errorf("foreign got %s", pk.TopicName)
				}
			}
			own.puback(pk.PacketID)
			own.ping()
			foreign.ping()
			for _, c := range []*client{own, foreign} {
				c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
				c.closed()
			}
			eventually(t, "nobody is interested", func() bool { return !r.hub.Interested() })
		})
	}
}

func TestServiceClientCannotEvictADevice(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1"))
	s := r.connect(t, hi{id: "d1", user: "service", pass: "reader"})
	b := r.connect(t, hi{id: "d1", user: "backend", pass: "backend secret"})
	d.ping()
	s.ping()
	b.command("d1", "m1", 1)
	d.expect(packets.Publish)
}

func TestPlainMQTT(t *testing.T) {
	r := start(t)
	h := service("reader")
	h.version, h.will = 5, "plant/gone"
	publisher := r.connect(t, h)
	publisher.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, PacketID: 1,
		TopicName: "plant/boiler", Payload: []byte("hot"),
	})
	publisher.expect(packets.Puback)
	publisher.ping() // it has been given out too: mochi acknowledges first
	reader := r.connect(t, hi{id: "other", user: "service", pass: "reader2"})
	if code := reader.subscribe("plant/#", 2, 1); code != 2 {
		t.Fatalf("subscribe: %#x", code)
	}
	if pk := reader.expect(packets.Publish); !pk.FixedHeader.Retain || string(pk.Payload) != "hot" {
		t.Errorf("%+v", pk)
	}
	_ = publisher.conn.Close()
	if pk := reader.expect(packets.Publish); pk.TopicName != "plant/gone" {
		t.Errorf("%+v", pk)
	}
}

func TestServiceMayNotTouchMeterline(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1"))
	c := r.connect(t, service("reader").v5())
	c.publish("meterline/v1/d1/down/command", commandJSON("m1", time.Minute), 1, 1)
	if ack := c.expect(packets.Puback); ack.ReasonCode != packets.ErrNotAuthorized.Code {
		t.Errorf("a command is answered %#x", ack.ReasonCode)
	}
	if code := c.subscribe("meterline/v1/+/down/command", 1, 2); code != packets.ErrNotAuthorized.Code {
		t.Errorf("subscribe: %#x", code)
	}
	d.ping()
}

func TestAdminSendsAndSeesCommandsOfItsTenant(t *testing.T) {
	r := start(t)
	d, x := r.listening(t, dev("d1")), r.listening(t, dev("x1"))
	admin := r.connect(t, service("root"))
	if code := admin.subscribe("meterline/v1/+/down/command", 0, 1); code != 0 {
		t.Fatalf("subscribe: %#x", code)
	}
	r.backend(t).command("x1", "m0", 1) // of the other tenant: not seen
	x.expect(packets.Publish)
	admin.publish("meterline/v1/x1/down/command", commandJSON("m1", time.Minute), 1, 1)
	admin.expect(packets.Puback)
	admin.publish("meterline/v1/d1/down/command", commandJSON("m2", time.Minute), 1, 2)
	d.puback(d.expect(packets.Publish).PacketID)
	seen := map[byte]packets.Packet{} // what is given out to it and its own PUBACK come in any order
	for range 2 {
		pk, err := admin.read(waitMost)
		if err != nil {
			t.Fatal(err)
		}
		seen[pk.FixedHeader.Type] = pk
	}
	if ack, ok := seen[packets.Puback]; !ok || ack.PacketID != 2 {
		t.Errorf("PUBACK %+v", ack)
	}
	if pk := seen[packets.Publish]; pk.TopicName != "meterline/v1/d1/down/command" {
		t.Errorf("admin sees %s", pk.TopicName)
	}
	x.ping() // nothing came before
	r.log.awaitKind(t, command.UplinkDelivered, 1)
}

func TestASlowSubscriberIsDisconnectedAndSlowsNobody(t *testing.T) {
	r := start(t)
	d := r.connect(t, dev("d1"))
	slow := r.connect(t, service("reader"))
	if code := slow.subscribe("meterline/v1/+/up/#", 0, 1); code != 0 {
		t.Fatalf("subscribe: %#x", code)
	}
	big := make([]byte, 200<<10)
	for i := 1; i <= 60; i++ { // 12 MiB that nobody reads
		d.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: uint16(i),
			TopicName: "meterline/v1/d1/up/readings", Payload: big,
		})
		if ack := d.expect(packets.Puback); int(ack.PacketID) != i {
			t.Fatalf("PUBACK %d", ack.PacketID)
		}
	}
	r.awaitMetric(t, 1, "slow_clients_closed_total")
	eventually(t, "nobody is interested", func() bool { return !r.hub.Interested() })
}

func TestWhenTheFanOutOverflowsItsSubscribersKnow(t *testing.T) {
	r := start(t)
	c := r.connect(t, service("reader"))
	c.subscribe("#", 0, 1)
	other := r.connect(t, hi{id: "plain", user: "service", pass: "reader"})
	other.subscribe("plant/#", 0, 1)
	if !r.fanout.room.TryAcquire(fanoutWeight) {
		t.Fatal("there is something in the queue")
	}
	r.fanout.put(news{topic: "meterline/v1/d1/up/event", about: "t1"})
	c.closed()
	other.ping()
	r.fanout.room.Release(fanoutWeight)
}

// A service client that breaks the protocol is counted and logged like any other, whoever finds it.
func TestAServiceClientThatBreaksTheProtocolIsLogged(t *testing.T) {
	logged := &testkit.Journal{}
	r := start(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(logged, nil)) })
	c := r.connect(t, service("reader").v5())
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "plant/boiler",
		Properties: packets.Properties{TopicAlias: 65535, TopicAliasFlag: true},
	})
	if before := c.closed(); len(before) != 1 || before[0].ReasonCode != packets.ErrTopicAliasInvalid.Code {
		t.Errorf("told %+v", before)
	}
	if n := r.metric(t, "clients_stopped_total", "reason", "topic_alias_invalid"); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if said := logged.Text(); !strings.Contains(said, "client broke the protocol: disconnected") || !strings.Contains(said, "token_id=reader") {
		t.Errorf("logged: %s", said)
	}
}
