package broker

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/testkit"
)

func TestDeliveryWithPacketIDsThatCollide(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			r := start(t)
			h := dev("d1")
			h.version = version
			d := r.listening(t, h)
			b := r.backend(t)
			for i := 1; i <= 5; i++ {
				b.command("d1", fmt.Sprint("m", i), uint16(i))
			}
			var ids []uint16
			for i := 1; i <= 5; i++ {
				pk := d.expect(packets.Publish)
				if pk.FixedHeader.Qos != 1 || pk.FixedHeader.Dup || pk.TopicName != "meterline/v1/d1/down/command" {
					t.Errorf("%+v", pk)
				}
				ids = append(ids, pk.PacketID)
			}
			// The endpoint uses the very same ids for what it sends itself.
			for _, id := range ids {
				d.publish("meterline/v1/d1/up/readings", "x", 1, id)
				if ack := d.expect(packets.Puback); ack.PacketID != id {
					t.Errorf("PUBACK %d for %d", ack.PacketID, id)
				}
			}
			if code := d.subscribe("meterline/v1/d1/down/command", 2, ids[2]); code != 1 {
				t.Errorf("subscribe with an id in flight: %#x", code)
			}
			for _, id := range ids {
				d.puback(id)
			}
			var told []string
			for _, u := range r.log.awaitKind(t, command.UplinkDelivered, 5) {
				told = append(told, string(u.Payload))
			}
			if want := []string{"m1", "m2", "m3", "m4", "m5"}; !slices.Equal(told, want) {
				t.Errorf("delivered %v", told)
			}
		})
	}
}

func TestDeliveredIsAppendedBeforeTheResult(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1"))
	r.backend(t).command("d1", "m1", 1)
	d.puback(d.expect(packets.Publish).PacketID)
	d.publish("meterline/v1/d1/up/result", "done", 1, 1)
	d.expect(packets.Puback)
	all := r.log.all()
	delivered := slices.IndexFunc(all, func(u command.Uplink) bool { return u.Kind == command.UplinkDelivered })
	result := slices.IndexFunc(all, func(u command.Uplink) bool { return u.Kind == command.UplinkResult })
	if delivered < 0 || result < delivered {
		t.Errorf("the log holds %v", kinds(all))
	}
	if all[delivered].Epoch != all[result].Epoch || all[delivered].Epoch == 0 {
		t.Errorf("epochs %d and %d", all[delivered].Epoch, all[result].Epoch)
	}
}

func TestUndeliverable(t *testing.T) {
	r := start(t)
	b := r.backend(t)
	b.command("d1", "nobody", 1) // no session
	connected := r.connect(t, dev("d2"))
	b.command("d2", "deaf", 2) // connected, not subscribed
	connected.ping()
	got := r.log.awaitKind(t, command.UplinkUndeliverable, 2)
	told := map[string]string{}
	for _, u := range got {
		told[string(u.Endpoint)] = string(u.Payload)
	}
	if told["d1"] != "nobody" || told["d2"] != "deaf" {
		t.Errorf("told %v", told)
	}
}

func TestWhatASessionLeavesBehindIsUndeliverable(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1"))
	b := r.backend(t)
	const n = windowDirect + 4 // more than the window: some wait
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint("m", i))
		b.command("d1", want[i], uint16(i+1))
	}
	for range windowDirect {
		d.expect(packets.Publish)
	}
	d.ping() // no more than the window came
	_ = d.conn.Close()
	var told []string
	for _, u := range r.log.awaitKind(t, command.UplinkUndeliverable, n) {
		told = append(told, string(u.Payload))
		if u.Epoch == 0 {
			t.Error("without the session's epoch")
		}
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %v", told)
	}
	r.log.awaitKind(t, command.UplinkDisconnected, 1)
}

func TestTheWindowOpensWithEveryPuback(t *testing.T) {
	r := start(t)
	h := dev("d1").v5()
	h.receiveMaximum = 2
	d := r.listening(t, h)
	b := r.backend(t)
	const n = 50
	for i := 1; i <= n; i++ {
		b.command("d1", fmt.Sprint("m", i), uint16(i))
	}
	first := d.expect(packets.Publish)
	second := d.expect(packets.Publish)
	d.ping() // a third would have come before
	d.puback(first.PacketID)
	d.puback(second.PacketID)
	for range n - 2 {
		d.puback(d.expect(packets.Publish).PacketID)
	}
	r.log.awaitKind(t, command.UplinkDelivered, n)
}

func TestHeaderIsMirroredForMQTT5(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1").v5())
	r.backend(t).command("d1", "m1", 1)
	pk := d.expect(packets.Publish)
	user := map[string]string{}
	for _, p := range pk.Properties.User {
		user[p.Key] = p.Val
	}
	if user["command_id"] != "c1" || user["kind"] != "meter.read" || user["message_type"] != "unicast" || user["traceparent"] != "00-1-2-01" {
		t.Errorf("properties %v", user)
	}
	if e := pk.Properties.MessageExpiryInterval; e < 50 || e > 60 {
		t.Errorf("expires in %d s", e)
	}
}

func TestExpiredCommandsAreDropped(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1"))
	b := r.backend(t)
	b.publish("meterline/v1/d1/down/command", commandJSON("late", -time.Second), 1, 1)
	b.expect(packets.Puback)
	b.command("d1", "in time", 2)
	pk := d.expect(packets.Publish)
	if got := string(pk.Payload); got == "" || !strings.Contains(got, "in time") {
		t.Errorf("got %s", got)
	}
	r.awaitMetric(t, 1, "deliveries_total", "outcome", "expired")
}

func TestRejectedByTheEndpointIsNotDelivered(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1").v5())
	r.backend(t).command("d1", "m1", 1)
	pk := d.expect(packets.Publish)
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID, ReasonCode: 0x80})
	r.awaitMetric(t, 1, "deliveries_total", "outcome", "rejected")
	if n := r.metric(t, "deliveries_total", "outcome", "delivered"); n != 0 {
		t.Errorf("%v delivered", n)
	}
}

func TestAnEndpointThatNeverAcknowledgesIsStopped(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1"))
	began := time.Now() // not later than it is sent
	r.backend(t).command("d1", "m1", 1)
	d.expect(packets.Publish)
	r.delivery.sweep(began.Add(ackPatience - time.Second))
	d.ping()
	r.delivery.sweep(time.Now().Add(ackPatience + time.Second))
	d.closed()
	if got := r.log.awaitKind(t, command.UplinkUndeliverable, 1); string(got[0].Payload) != "m1" {
		t.Errorf("told %s", got[0].Payload)
	}
}

func TestPacketIDs(t *testing.T) {
	o := outbox{lastID: 65533, inflight: map[uint16]flight{65535: {}, 1: {}}}
	for _, want := range []uint16{65534, 2, 3} { // 0 is none, 65535 and 1 are in flight
		if got := o.nextID(); got != want {
			t.Errorf("id %d, want %d", got, want)
		}
	}
}

func TestAStalledReaderDoesNotHoldUpAnother(t *testing.T) {
	r := start(t)
	stalled := r.listening(t, dev("ipc1"))
	fine := r.listening(t, dev("d1"))
	b := r.backend(t)
	payload := `{"message_id":"big","expires_at":"2999-01-01T00:00:00Z","params":"` + strings.Repeat("x", 200<<10) + `"}`
	pulse := testkit.StartPulse(t)
	const n = 60 // 12 MB to somebody who does not read: more than may wait
	for i := 1; i <= n; i++ {
		began := time.Now()
		b.publish("meterline/v1/ipc1/down/command", payload, 1, uint16(2*i))
		b.expect(packets.Puback)
		b.command("d1", fmt.Sprint("m", i), uint16(2*i+1))
		fine.puback(fine.expect(packets.Publish).PacketID)
		if took := time.Since(began); took > pulse.Limit(time.Second) {
			t.Fatalf("message %d took %v", i, took)
		}
	}
	most := n - 1 - outboxBytes/len(payload)
	r.log.awaitKind(t, command.UplinkUndeliverable, most)
	// On a slow machine all that takes so long that the connection is closed in the middle of it: it takes nothing, or
	// acknowledges nothing.
	gaveUp := r.metric(t, "slow_clients_closed_total")+r.metric(t, "clients_stopped_total", "reason", "no_puback") > 0
	if crowded := r.metric(t, "deliveries_crowded_total", "limit", "endpoint"); crowded > float64(most) || crowded < float64(most) && !gaveUp {
		t.Errorf("%v were too many", crowded)
	}
	fine.ping() // its last PUBACK has been read
	r.delivery.sweep(time.Now().Add(ackPatience + time.Second))
	stalled.closed()
	r.log.awaitKind(t, command.UplinkUndeliverable, n)
	fine.ping()
}

// What waits is bounded over all endpoints, and given back when it does not wait any more.
func TestWhatWaitsForAllIsBounded(t *testing.T) {
	r := start(t)
	r.delivery.total = 1 << 20
	payload := `{"message_id":"big","params":"` + strings.Repeat("x", 200<<10) + `"}`
	b := r.backend(t)
	var stalled []*client
	var inflight []uint16
	for i := 1; i <= 3; i++ {
		d := r.listening(t, dev(fmt.Sprint("d", i)))
		for k := range 4 { // one is in flight, three want to wait
			b.publish(fmt.Sprintf("meterline/v1/d%d/down/command", i), payload, 1, uint16(4*i+k))
			b.expect(packets.Puback)
			if k == 0 { // it is read: whoever takes nothing of so much for 2 s is closed
				inflight = append(inflight, d.expect(packets.Publish).PacketID)
			}
		}
		stalled = append(stalled, d)
	}
	r.log.awaitKind(t, command.UplinkUndeliverable, 4)
	if n := r.metric(t, "deliveries_crowded_total", "limit", "gateway"); n != 4 {
		t.Errorf("%v were too many", n)
	}
	if n := r.metric(t, "deliveries_waiting_bytes"); n != float64(5*len(payload)) || r.delivery.waiting.Load() != int64(n) {
		t.Errorf("%v bytes wait", n)
	}
	stalled[0].puback(inflight[0])
	for range 3 {
		stalled[0].puback(stalled[0].expect(packets.Publish).PacketID) // those that wait are sent
	}
	for _, c := range stalled[1:] {
		_ = c.conn.Close()
	}
	r.log.awaitKind(t, command.UplinkUndeliverable, 12-4)
	if n := r.delivery.waiting.Load(); n != 0 || r.metric(t, "deliveries_waiting_bytes") != 0 {
		t.Errorf("%d bytes wait for nobody", n)
	}
}

// One large command is more than the kernel takes for a device that does not read: nobody has to wait for its PUBACK.
func TestADeviceThatTakesNothingOfALargeCommandIsClosedSoon(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("d1"))
	if err := d.conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	b := r.backend(t)
	b.publish("meterline/v1/d1/down/command", `{"message_id":"big","params":"`+strings.Repeat("x", 250<<10)+`"}`, 1, 1)
	b.expect(packets.Puback)
	r.awaitMetric(t, 1, "slow_clients_closed_total", "cause", "stalled")
	r.log.awaitKind(t, command.UplinkUndeliverable, 1)
}

func TestTheWindowIsAlsoOfBytes(t *testing.T) {
	r := start(t)
	d := r.listening(t, dev("ipc1"))
	b := r.backend(t)
	payload := `{"message_id":"big","params":"` + strings.Repeat("x", 100<<10) + `"}`
	var got []packets.Packet
	for i := range 5 {
		b.publish("meterline/v1/ipc1/down/command", payload, 1, uint16(i+1))
		b.expect(packets.Puback)
		if i < 2 { // two fit into 256 KiB; they are read at once: whoever takes nothing of so much for 2 s is closed
			got = append(got, d.expect(packets.Publish))
		}
	}
	d.ping() // a third would have come before
	first, second := got[0], got[1]
	d.puback(second.PacketID)
	third := d.expect(packets.Publish)
	d.ping()
	d.puback(first.PacketID)
	d.puback(third.PacketID)
	d.puback(d.expect(packets.Publish).PacketID)
	d.puback(d.expect(packets.Publish).PacketID)
	r.log.awaitKind(t, command.UplinkDelivered, 5)
}
