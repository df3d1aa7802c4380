package broker

import (
	"bytes"
	"encoding/binary"
	"net"

	"github.com/mochi-mqtt/server/v2/packets"
)

// link is all that endpoints, uplink, delivery and presence know of an MQTT connection. No method waits for the
// network; all may be called from any goroutine. An error means that the connection is over or about to be, except
// packets.ErrPacketTooLarge: then the packet alone was not sent.
type link interface {
	// send writes a packet.
	send(pk packets.Packet) error
	// publish sends a message at QoS 1 to a client of MQTT 3.1.1, which has no properties.
	publish(topic string, id uint16, payload []byte) error
	// puback acknowledges publishes of the client, in the order given.
	puback(ids []uint16) error
	// stop ends the connection; a client of MQTT 5 is told why.
	stop(reason packets.Code)
	// version is 4 for MQTT 3.1.1 and 5 for MQTT 5.
	version() byte
}

// wireLink is a link over a wire.
type wireLink struct{ *wire }

// publish does without the codec: commands are what is sent most.
func (l wireLink) publish(topic string, id uint16, payload []byte) error {
	if l.parting.Load() {
		return net.ErrClosed
	}
	out := buffers.Get().(*bytes.Buffer)
	defer recycle(out)
	encodePublish(out, topic, id, payload)
	return l.put(out.Bytes())
}

// puback writes all acknowledgements at once. In MQTT 5 too a PUBACK without a reason code means success (3.4.2.1).
func (l wireLink) puback(ids []uint16) error {
	out := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		out = append(out, packets.Puback<<4, 2)
		out = binary.BigEndian.AppendUint16(out, id)
	}
	return l.put(out)
}

func (l wireLink) stop(reason packets.Code) { l.part(reason) }

func (l wireLink) version() byte { return l.wire.version }

// Send and Stop make it a plain.Link, and Room of the connection a plain.Flow.
func (l wireLink) Send(pk packets.Packet) error { return l.send(pk) }

// Stop ends the connection.
func (l wireLink) Stop(reason packets.Code) { l.part(reason) }

// Leave makes it a plain.Leaver.
func (l wireLink) Leave() { l.leave() }

// onRoom has resume called when Room has said no and there is room again.
func (l wireLink) onRoom(resume func()) {
	l.OnRoom(func() { l.guard.run("resume", resume) })
}
