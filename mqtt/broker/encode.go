package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

const recycled = 16 << 10 // bytes; larger buffers are left to the collector

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func recycle(b *bytes.Buffer) {
	if b.Cap() <= recycled {
		b.Reset()
		buffers.Put(b)
	}
}

// encode writes a packet as a server sends it.
func encode(out *bytes.Buffer, pk packets.Packet) error {
	pk.Mods = packets.Mods{AllowResponseInfo: true} // the rest leaves properties out that must be sent (MQTT 5, 3.3.2-17)
	switch pk.FixedHeader.Type {
	case packets.Connack:
		return pk.ConnackEncode(out)
	case packets.Publish:
		return pk.PublishEncode(out)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		return acknowledgement(out, pk)
	case packets.Suback:
		return pk.SubackEncode(out)
	case packets.Unsuback:
		return pk.UnsubackEncode(out)
	case packets.Pingresp:
		return pk.PingrespEncode(out)
	case packets.Disconnect:
		return pk.DisconnectEncode(out)
	}
	return fmt.Errorf("%w: type %d", packets.ErrNoValidPacketAvailable, pk.FixedHeader.Type)
}

// encodePublish writes a PUBLISH of MQTT 3.1.1 at QoS 1, as mochi's codec would, for less. The topic and the id are good.
func encodePublish(out *bytes.Buffer, topic string, id uint16, payload []byte) {
	head := out.AvailableBuffer()
	head = binary.AppendUvarint(append(head, packets.Publish<<4|1<<1), uint64(2+len(topic)+2+len(payload))) // 2.2.3
	head = append(binary.BigEndian.AppendUint16(head, uint16(len(topic))), topic...)
	head = binary.BigEndian.AppendUint16(head, id)
	out.Write(head)
	out.Write(payload)
}

// acknowledgement encodes PUBACK to PUBCOMP: mochi's codec leaves reasons below 0x80 out, of which there is one (0x10).
func acknowledgement(out *bytes.Buffer, pk packets.Packet) error {
	flags := byte(0)
	if pk.FixedHeader.Type == packets.Pubrel {
		flags = 2
	}
	id := [2]byte{byte(pk.PacketID >> 8), byte(pk.PacketID)}
	if pk.ProtocolVersion < 5 || pk.ReasonCode == 0 {
		out.Write([]byte{pk.FixedHeader.Type<<4 | flags, 2, id[0], id[1]})
	} else {
		out.Write([]byte{pk.FixedHeader.Type<<4 | flags, 3, id[0], id[1], pk.ReasonCode}) // 3.4.2.2.1
	}
	return nil
}
