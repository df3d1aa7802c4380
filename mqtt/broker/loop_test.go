package broker

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fleet"
)

// What panics while an endpoint's packet is handled ends that connection, in an orderly way, and no other.
func TestAPanicInTheLoopEndsThatConnection(t *testing.T) {
	r := start(t)
	fine, old, bad := r.listening(t, dev("d1")), r.listening(t, dev("d2")), r.listening(t, dev("d3").v5())
	for _, id := range []string{"d2", "d3"} {
		r.Broker.registry.current(fleet.DeviceID(id)).window = nil // take panics
	}
	for _, c := range []struct {
		*client
		topic string
		said  bool
	}{{old, "meterline/v1/d2/up/event", false}, {bad, "meterline/v1/d3/up/event", true}} {
		c.publish(c.topic, "x", 1, 7)
		if code, said := c.lastWord(); said != c.said || said && code != packets.ErrImplementationSpecificError.Code {
			t.Errorf("%s: told %v, %#x", c.topic, said, code)
		}
	}
	if n := r.metric(t, "panics_total"); n != 2 {
		t.Errorf("%v panics", n)
	}
	r.log.awaitKind(t, command.UplinkDisconnected, 2) // its session has ended as any other
	r.listening(t, dev("d3")).publish("meterline/v1/d3/up/event", "well", 1, 8)
	fine.publish("meterline/v1/d1/up/event", "x", 1, 5)
	if ack := fine.expect(packets.Puback); ack.PacketID != 5 {
		t.Errorf("PUBACK %d", ack.PacketID)
	}
}
