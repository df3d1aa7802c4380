package holes_test

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
)

// pending connects a device of plain MQTT that has one message without PUBACK, and returns its packet id.
func pending(t *testing.T, at string, h hello) (dev *client, id uint16) {
	dev = connect(t, at, h)
	dev.subscribe("to/" + h.id)
	connect(t, at, service("pub")).feedAll("to/"+h.id, 0, 1, 0)
	return dev, dev.take(1, false)[0].PacketID
}

// collide lets the device publish under the id of what it has not acknowledged, and reset the connection.
func collide(dev *client, topic string, id uint16) {
	dev.publish(topic, payload(topic, 7, 0), 1, id)
	for dev.want(packets.Puback).PacketID != id {
		dev.t.Fatal("another PUBACK")
	}
	dev.die()
}

func collisionPlain(t *testing.T) {
	at := plain(t)
	dev, id := pending(t, at, service("dev").keep())
	collide(dev, "from/dev", id)
	back := connect(t, at, service("dev").keep())
	got, _ := back.rest(true)
	if !back.connack.SessionPresent || len(got) > 0 {
		gone(t, "session present %t, %d redelivered", back.connack.SessionPresent, len(got))
	}
	t.Logf("message %d without PUBACK, a publish with id %d, reconnect with session present: 0 redelivered", id, id)
}

func collisionEndpoint(t *testing.T) {
	o := ours(t)
	b := o.backend(t, "b")
	d := o.online(t, endpoint("d1").keep())
	b.feedAll(commands("d1"), 1, 2, 0)
	pk := d.take(1, false)[0]
	collide(d, readings("d1"), pk.PacketID)
	o.log.await(t, command.UplinkReadings, 7)
	o.log.await(t, command.UplinkUndeliverable, 1)

	d = o.online(t, endpoint("d1").keep())
	b.feedAll(commands("d1"), 2, 3, 0)
	pk = d.take(1, false)[0]
	d.publish(readings("d1"), payload("", 8, 0), 1, pk.PacketID)
	d.want(packets.Puback)
	d.puback(pk)
	o.log.await(t, command.UplinkDelivered, 2)
}

func collisionService(t *testing.T) {
	at := ours(t).address()
	dev, id := pending(t, at, service("dev").keep())
	collide(dev, "from/dev", id)
	back := connect(t, at, service("dev").keep())
	if got := back.take(1, true)[0]; !back.connack.SessionPresent || !got.FixedHeader.Dup || got.PacketID != id {
		t.Errorf("session present %t, redelivered %+v", back.connack.SessionPresent, got.FixedHeader)
	}
}

func pendingIDPlain(t *testing.T) {
	dev, id := pending(t, plain(t), service("dev"))
	code := dev.ask("other", id)
	if code != packets.ErrPacketIdentifierInUse.Code {
		gone(t, "SUBACK %#x", code)
	}
	t.Logf("MQTT 3.1.1, SUBSCRIBE under the id of a pending message: SUBACK %#x, a code 3.1.1 does not have", code)
}

func pendingIDEndpoint(t *testing.T) {
	o := ours(t)
	d := o.online(t, endpoint("d1"))
	o.backend(t, "b").feedAll(commands("d1"), 0, 1, 0)
	pk := d.take(1, false)[0]
	if code := d.ask(commands("d1"), pk.PacketID); code != 1 {
		t.Errorf("SUBACK %#x", code)
	}
	d.puback(pk)
	o.log.await(t, command.UplinkDelivered, 0)
}

func pendingIDService(t *testing.T) {
	at := ours(t).address()
	dev, id := pending(t, at, service("dev"))
	if code := dev.ask("other", id); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	connect(t, at, service("pub2")).feedAll("other", 5, 6, 0)
	inOrder(t, numbers(dev.take(1, true)), 5, 6)
}
