package plain

import (
	"errors"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Packet handles a packet of the client. It must be decoded and well-formed; the hub keeps its strings and slices. An
// error is a packets.Code: the connection must end with it, and End be called. CONNECT and what only servers send are
// protocol errors, AUTH too; PINGREQ is for the caller. After DISCONNECT, which it takes too, the caller closes.
func (s *Session) Packet(pk packets.Packet) error {
	if s.disconnected {
		return packets.ErrProtocolViolation // [MQTT-3.14.4-1]
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return s.received(&pk)
	case packets.Puback:
		return s.puback(&pk)
	case packets.Pubrec:
		return s.pubrec(&pk)
	case packets.Pubrel:
		return s.pubrel(&pk)
	case packets.Pubcomp:
		return s.pubcomp(&pk)
	case packets.Subscribe:
		return s.subscribe(&pk)
	case packets.Unsubscribe:
		return s.unsubscribe(&pk)
	case packets.Disconnect:
		return s.disconnect(&pk)
	case packets.Pingreq:
		return nil
	}
	return packets.ErrProtocolViolation // a second CONNECT [MQTT-3.1.0-2], AUTH without a method [4.12], or a server's
}

// disconnect takes note of how the client leaves.
func (s *Session) disconnect(pk *packets.Packet) error {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn != s {
		return packets.ErrSessionTakenOver
	}
	if s.version >= 5 && pk.Properties.SessionExpiryIntervalFlag {
		if st.expiry == 0 && pk.Properties.SessionExpiryInterval > 0 { // [3.14.2.2.2]
			return packets.ErrProtocolViolationZeroNonZeroExpiry
		}
		st.expiry = seconds(pk.Properties.SessionExpiryInterval)
	}
	s.disconnected = true
	if s.version < 5 || pk.ReasonCode == packets.CodeDisconnect.Code {
		s.will = nil // [MQTT-3.14.4-3]; of 3.1.1 [MQTT-3.14.4-3]
	}
	return nil
}

// puback finishes a QoS 1 delivery [4.3.2]. Whatever its reason is, the message is not sent again [MQTT-4.8.2-6].
func (s *Session) puback(pk *packets.Packet) error {
	return s.acknowledged(pk.PacketID, func(e *entry) error {
		switch {
		case e == nil:
		case e.qos != 1:
			return packets.ErrProtocolViolation
		default:
			s.st.finish(e)
		}
		return nil
	})
}

// pubrec is the client's word that it has a QoS 2 message. One that we do not know of any more is released all the same,
// so that the client can forget it [3.6.2.1].
func (s *Session) pubrec(pk *packets.Packet) error {
	failed := s.version >= 5 && pk.ReasonCode >= packets.ErrUnspecifiedError.Code
	return s.acknowledged(pk.PacketID, func(e *entry) error {
		rel := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: pk.PacketID}
		switch {
		case e != nil && e.qos == 1:
			return packets.ErrProtocolViolation
		case e != nil && failed: // [MQTT-4.3.3-4]
			s.st.finish(e)
			return nil
		case e == nil && failed:
			return nil
		case e == nil:
			if s.version >= 5 {
				rel.ReasonCode = packets.ErrPacketIdentifierNotFound.Code
			}
		case !e.released:
			s.st.release(e)
		}
		s.send(rel)
		return nil
	})
}

// pubcomp finishes a QoS 2 delivery.
func (s *Session) pubcomp(pk *packets.Packet) error {
	return s.acknowledged(pk.PacketID, func(e *entry) error {
		switch {
		case e == nil:
		case !e.released: // QoS 1, or PUBREL is not out
			return packets.ErrProtocolViolation
		default:
			s.st.finish(e)
		}
		return nil
	})
}

// acknowledged calls f with what is in flight under a packet id, nil if there is nothing, and sends what may follow. An
// acknowledgement of nothing may be a late one. One that does not belong to what is in flight is a protocol error (1.2,
// inconsistent with the state): unanswered, the message would hold its place in the window for ever.
func (s *Session) acknowledged(id uint16, f func(e *entry) error) error {
	more, stuck, err := s.advance(id, f)
	if more {
		s.Resume()
		return err
	}
	for _, g := range stuck {
		g.resume()
	}
	return err
}

func (s *Session) advance(id uint16, f func(e *entry) error) (more bool, stuck []*group, err error) {
	st := s.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conn != s {
		return false, nil, packets.ErrSessionTakenOver
	}
	if err := f(st.out.entries[id]); err != nil {
		return false, nil, err
	}
	return st.flushSome(), st.stuckGroups(), nil
}

func isTooLarge(err error) bool {
	code, ok := errors.AsType[packets.Code](err)
	return ok && code.Code == packets.ErrPacketTooLarge.Code
}
