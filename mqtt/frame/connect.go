package frame

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"
)

// ErrNotMQTT says that a connection's first packet is not a CONNECT of MQTT: there is nothing to answer.
var ErrNotMQTT = errors.New("not MQTT")

// What else a client may have meant that sends to the wrong port; made once, as errors for strangers are to cost nothing.
var (
	errTLS   = fmt.Errorf("%w: it begins like TLS, which this listener does not speak", ErrNotMQTT)
	errHTTP  = fmt.Errorf("%w: it begins like HTTP or WebSocket, which this listener does not speak", ErrNotMQTT)
	errProxy = fmt.Errorf("%w: it begins like a PROXY header, and its address is none of --proxy-from", ErrNotMQTT)
)

// notMQTT is ErrNotMQTT, with what the first byte tells.
func notMQTT(first byte) error {
	switch first {
	case 0x16: // record of a TLS handshake; as MQTT a CONNECT with flags
		return errTLS
	case 'G': // GET
		return errHTTP
	case '\r':
		return errProxy
	}
	return ErrNotMQTT
}

// Connect checks and decodes a connection's first packet. The error is ErrNotMQTT, or a packets.Code to answer with as
// far as the version has an answer for it: ErrUnsupportedProtocolVersion for any version but 4 and 5. The packet's
// ProtocolVersion is that of the answer.
func Connect(packet []byte) (packets.Packet, error) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4}
	kind, headerFlags, c := open(packet)
	if kind != packets.Connect { // 3.1.0-1
		return pk, ErrNotMQTT
	}
	body := c.rest
	name, version := c.binary(), c.u8()
	switch {
	case c.err != nil:
		return pk, notMQTT(packet[0])
	case string(name) == "MQIsdp": // MQTT 3.1
		return pk, packets.ErrUnsupportedProtocolVersion
	case string(name) != "MQTT": // 3.1.2-1
		return pk, notMQTT(packet[0])
	case version != 4 && version != 5: // 3.1.2-2
		return pk, packets.ErrUnsupportedProtocolVersion
	}
	pk.ProtocolVersion = version
	if headerFlags != 0 {
		return pk, packets.ErrMalformedFlags
	}
	if err := connect(version, c); err != nil {
		return pk, err
	}
	if err := pk.ConnectDecode(bytes.Clone(body)); err != nil {
		return pk, fmt.Errorf("decode CONNECT: %w", err) // cannot happen: it is well-formed
	}
	return pk, nil
}

const (
	flagReserved = 1 << iota
	flagClean
	flagWill
	_ // will QoS, two bits
	_
	flagWillRetain
	flagPassword
	flagUsername
)

// connect checks what follows the version.
func connect(version byte, c *cursor) error {
	flags := c.u8()
	c.u16() // keep-alive
	willQos := flags >> 3 & 3
	switch {
	case c.err != nil:
		return c.err
	case flags&flagReserved != 0: // 3.1.2-3
		return packets.ErrMalformedFlags
	case willQos == 3, flags&flagWill == 0 && (willQos != 0 || flags&flagWillRetain != 0): // 3.1.2-11 to 3.1.2-15
		return packets.ErrMalformedFlags
	case version < 5 && flags&flagPassword != 0 && flags&flagUsername == 0: // 3.1.1, 3.1.2-22
		return packets.ErrMalformedFlags
	}
	if version >= 5 {
		if err := c.authentication(c.properties(inConnect)); err != nil {
			return err
		}
	}
	c.text() // client id
	if flags&flagWill != 0 {
		c.will(version)
	}
	if flags&flagUsername != 0 {
		c.text()
	}
	if flags&flagPassword != 0 {
		c.binary()
	}
	return c.end()
}

// authentication refuses enhanced authentication, of which no method is known (MQTT 5, 4.12-1).
func (c *cursor) authentication(found seen) error {
	switch {
	case c.err != nil:
		return c.err
	case found.has(packets.PropAuthenticationMethod):
		return packets.ErrBadAuthenticationMethod
	case found.has(packets.PropAuthenticationData): // 3.1.2.11.10
		return packets.ErrProtocolViolation
	}
	return nil
}

func (c *cursor) will(version byte) {
	if version >= 5 {
		c.properties(inWill)
	}
	topic := c.text()
	if c.err == nil && (len(topic) == 0 || wildcards(topic)) {
		c.err = packets.ErrTopicNameInvalid
	}
	c.binary()
}
