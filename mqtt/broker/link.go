package broker

import (
	"encoding/binary"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// link is all that endpoints, uplink, delivery and presence know of an MQTT connection. No method waits for the
// network; all may be called from any goroutine. An error means that the connection is over or about to be.
type link interface {
	// send writes a packet.
	send(pk packets.Packet) error
	// puback acknowledges publishes of the client, in the order given.
	puback(ids []uint16) error
	// stop ends the connection; a client of MQTT 5 is told why.
	stop(reason packets.Code)
	// version is 4 for MQTT 3.1.1 and 5 for MQTT 5.
	version() byte
}

// mochiLink is a link over mochi's client.
type mochiLink struct {
	client *mochi.Client
}

func (l mochiLink) send(pk packets.Packet) error { return l.client.WritePacket(pk) }

// puback writes all acknowledgements at once, around mochi's encoder. In MQTT 5 too a PUBACK without a reason code means
// success (MQTT 5, 3.4.2.1).
func (l mochiLink) puback(ids []uint16) error {
	if l.client.Closed() {
		return mochi.ErrConnectionClosed
	}
	out := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		out = append(out, packets.Puback<<4, 2)
		out = binary.BigEndian.AppendUint16(out, id)
	}
	_, err := l.client.Net.Conn.Write(out)
	return err
}

func (l mochiLink) stop(reason packets.Code) {
	if l.version() == 5 && reason.Code >= packets.ErrUnspecifiedError.Code && !l.client.Closed() {
		_ = l.client.WritePacket(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			ReasonCode:  reason.Code,
			Properties:  packets.Properties{ReasonString: reason.Reason},
		})
	}
	l.client.Stop(reason)
}

func (l mochiLink) version() byte { return l.client.Properties.ProtocolVersion }
