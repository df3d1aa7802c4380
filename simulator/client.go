package simulator

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// session is one MQTT 3.1.1 connection of a client. It says of every QoS 1 publish whether its PUBACK really came on this
// very connection; what a broken connection leaves open is the endpoint's to send again. One goroutine reads
// (read), another owns all else.
type session struct {
	conn     net.Conn
	in       *bufio.Reader
	silence  time.Duration // the connection is dead when nothing came for so long
	early    []packet      // came before SUBACK
	out      bytes.Buffer
	lastID   uint16
	inflight map[uint16]flying
}

type flying struct {
	since time.Time
	acked func() // nil: nobody asks
}

// packet is what a session reads of the packets it is meant to get.
type packet struct {
	kind    byte
	qos     byte
	id      uint16
	topic   string
	payload []byte
	codes   []byte // CONNACK, SUBACK
}

const (
	handshakeTime = 20 * time.Second
	writeTime     = 20 * time.Second
	maxPacket     = 1 << 20
)

// Credentials are what an endpoint signs in with, in the shape in which the HTTP API gives them out.
type Credentials struct {
	ClientID string `json:"client_id"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// dial connects, signs in with a clean session and subscribes to filter at QoS 1. The caller closes the session; ctx only
// bounds the dialling.
func dial(ctx context.Context, broker string, c Credentials, filter string, keepAlive time.Duration) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	conn, err := connect(ctx, broker)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", broker, err)
	}
	s := &session{conn: conn, in: bufio.NewReaderSize(conn, 1024), silence: keepAlive * 3 / 2, inflight: map[uint16]flying{}}
	// What ends ctx ends the handshake: a read or a write that waits fails at once.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = s.handshake(c, filter, keepAlive)
	if !stop() || err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("sign in %s at %s: %w", c.ClientID, broker, errors.Join(ctx.Err(), err))
	}
	return s, nil
}

// splitBroker takes host:port, mqtt://host:port or mqtts://host:port apart.
func splitBroker(broker string) (address string, secure bool, err error) {
	scheme, address, ok := strings.Cut(broker, "://")
	if !ok {
		scheme, address = "mqtt", broker
	}
	if scheme != "mqtt" && scheme != "mqtts" {
		return "", false, fmt.Errorf("broker %q: the scheme must be mqtt or mqtts", broker)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", false, fmt.Errorf("broker %q: want host:port", broker)
	}
	return address, scheme == "mqtts", nil
}

func connect(ctx context.Context, broker string) (net.Conn, error) {
	address, secure, err := splitBroker(broker)
	if err != nil {
		return nil, err
	}
	if secure {
		return (&tls.Dialer{}).DialContext(ctx, "tcp", address)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// CheckBroker says what is wrong with the address of a broker.
func CheckBroker(broker string) error {
	_, _, err := splitBroker(broker)
	return err
}

// Reach says whether at least one of the brokers takes connections; the error is that of the first.
func Reach(ctx context.Context, brokers []string) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	var first error
	for _, broker := range brokers {
		conn, err := connect(ctx, broker)
		if err == nil {
			_ = conn.Close()
			return nil
		}
		if first == nil {
			first = fmt.Errorf("reach broker: %w", err)
		}
	}
	return first
}

func (s *session) handshake(c Credentials, filter string, keepAlive time.Duration) error {
	err := s.write(&packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Clean: true, Keepalive: uint16(keepAlive / time.Second), ClientIdentifier: c.ClientID,
			UsernameFlag: true, Username: []byte(c.Username), PasswordFlag: true, Password: []byte(c.Password),
		},
	}, (*packets.Packet).ConnectEncode)
	if err != nil {
		return err
	}
	answer, err := s.read(context.Background())
	if err != nil {
		return fmt.Errorf("await CONNACK: %w", err)
	}
	if answer.kind != packets.Connack || len(answer.codes) != 1 {
		return fmt.Errorf("await CONNACK: got %s", packets.PacketNames[answer.kind])
	}
	if code := answer.codes[0]; code != 0 {
		return refused(code)
	}
	return s.subscribe(filter)
}

// refused is the return code of a CONNACK (MQTT 3.1.1, 3.2.2.3).
type refused byte

func (r refused) Error() string {
	reasons := []string{1: "unacceptable protocol version", 2: "client id rejected", 3: "server unavailable",
		4: "bad user name or password", 5: "not authorized"}
	if int(r) < len(reasons) {
		return "refused: " + reasons[r]
	}
	return fmt.Sprintf("refused: return code %d", byte(r))
}

func (s *session) subscribe(filter string) error {
	id := s.nextID()
	err := s.write(&packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: 4, PacketID: id,
		Filters: packets.Subscriptions{{Filter: filter, Qos: 1}},
	}, (*packets.Packet).SubscribeEncode)
	if err != nil {
		return err
	}
	for {
		p, err := s.read(context.Background())
		switch {
		case err != nil:
			return fmt.Errorf("await SUBACK: %w", err)
		case p.kind == packets.Publish: // a broker may deliver before it answers (MQTT 3.1.1, 3.8.4)
			s.early = append(s.early, p)
		case p.kind == packets.Suback && p.id == id:
			if len(p.codes) != 1 || p.codes[0] > 2 {
				return fmt.Errorf("subscribe to %s: refused", filter)
			}
			return nil
		}
	}
}

// publish sends at QoS 1; acked is called, by whoever calls handle, when this publish's PUBACK has come.
func (s *session) publish(topic string, payload []byte, dup bool, now time.Time, acked func()) error {
	id := s.nextID()
	s.inflight[id] = flying{since: now, acked: acked}
	return s.write(&packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Dup: dup}, ProtocolVersion: 4,
		PacketID: id, TopicName: topic, Payload: payload,
	}, (*packets.Packet).PublishEncode)
}

// handlePuback calls back whoever waits for it.
func (s *session) handlePuback(id uint16) {
	f, ok := s.inflight[id]
	if !ok {
		return
	}
	delete(s.inflight, id)
	if f.acked != nil {
		f.acked()
	}
}

func (s *session) puback(id uint16) error {
	return s.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: 4, PacketID: id},
		(*packets.Packet).PubackEncode)
}

func (s *session) ping() error {
	return s.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}}, (*packets.Packet).PingreqEncode)
}

func (s *session) disconnect() error {
	return s.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ProtocolVersion: 4},
		(*packets.Packet).DisconnectEncode)
}

func (s *session) close() { _ = s.conn.Close() }

// unackedSince says whether a publish has been waiting for its PUBACK since before t.
func (s *session) unackedSince(t time.Time) bool {
	for _, f := range s.inflight {
		if f.since.Before(t) {
			return true
		}
	}
	return false
}

func (s *session) nextID() uint16 {
	for {
		s.lastID++
		if _, taken := s.inflight[s.lastID]; s.lastID != 0 && !taken {
			return s.lastID
		}
	}
}

func (s *session) write(p *packets.Packet, encode func(*packets.Packet, *bytes.Buffer) error) error {
	s.out.Reset()
	if err := encode(p, &s.out); err != nil {
		return fmt.Errorf("encode %s: %w", packets.PacketNames[p.FixedHeader.Type], err)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := s.conn.Write(s.out.Bytes())
	if s.out.Cap() > 16<<10 {
		s.out = bytes.Buffer{} // thousands of endpoints do not each keep their largest message
	}
	return err
}

// read waits for the next packet. It fails when the peer was silent for too long and when ctx is done, provided that the
// read deadline is moved to the past then.
func (s *session) read(ctx context.Context) (packet, error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.silence))
	if err := ctx.Err(); err != nil { // a deadline that was moved before the line above
		return packet{}, err
	}
	first, err := s.in.ReadByte()
	if err != nil {
		return packet{}, err
	}
	var p packets.Packet
	p.ProtocolVersion = 4
	if err := p.FixedHeader.Decode(first); err != nil {
		return packet{}, fmt.Errorf("decode header: %w", err)
	}
	if p.FixedHeader.Remaining, _, err = packets.DecodeLength(s.in); err != nil {
		return packet{}, fmt.Errorf("decode length: %w", err)
	}
	if p.FixedHeader.Remaining > maxPacket {
		return packet{}, fmt.Errorf("packet of %d bytes is too large", p.FixedHeader.Remaining)
	}
	body := make([]byte, p.FixedHeader.Remaining)
	if _, err := io.ReadFull(s.in, body); err != nil {
		return packet{}, err
	}
	return decode(&p, body)
}

func decode(p *packets.Packet, body []byte) (packet, error) {
	var err error
	switch p.FixedHeader.Type {
	case packets.Connack:
		err = p.ConnackDecode(body)
		p.ReasonCodes = []byte{p.ReasonCode}
	case packets.Suback:
		err = p.SubackDecode(body)
	case packets.Publish:
		err = p.PublishDecode(body)
	case packets.Puback:
		err = p.PubackDecode(body)
	case packets.Pingresp:
	default:
		err = errors.New("not for a client")
	}
	if err != nil {
		return packet{}, fmt.Errorf("decode %s: %w", packets.PacketNames[p.FixedHeader.Type], err)
	}
	return packet{kind: p.FixedHeader.Type, qos: p.FixedHeader.Qos, id: p.PacketID, topic: p.TopicName,
		payload: p.Payload, codes: p.ReasonCodes}, nil
}
