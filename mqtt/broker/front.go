package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/semaphore"

	"meterline/mqtt/door"
	"meterline/mqtt/frame"
	"meterline/mqtt/plain"
)

const (
	keepAliveMost = 600     // seconds; MQTT 5 clients that ask for more, or for none, are told
	assignedID    = "auto-" // begins the client ids that are given out
)

// front receives clients: it reads CONNECT, says who may come in, and answers who may not.
type front struct {
	life      context.Context // of the broker, the drain at its end included
	door      *door.Door
	metrics   *metrics
	admission *admission
	uplinks   *uplinks
	plain     plain.Options // of the hub
	maxPacket int           // bytes, of an admitted client's packets
	said      *sparing
}

// connect is what a client asked for in CONNECT, and is told in CONNACK.
type connect struct {
	packets.Packet
	answer   packets.Packet // CONNACK, when it is admitted
	assigned string         // the client id it was given; "": it had one
	limited  bool           // its keep-alive was lowered
}

// receive waits for CONNECT, for as long as the listener allows, and admits the client. Without a session the
// connection is over; the client has been answered as far as there is an answer.
func (f *front) receive(w *wire) *session {
	packet, err := w.frames.Next()
	if err != nil {
		f.nonsense(w, err)
		return nil
	}
	pk, err := frame.Connect(packet)
	w.frames.Release()
	w.version = pk.ProtocolVersion
	if err != nil {
		f.nonsense(w, err)
		return nil
	}
	c := &connect{Packet: pk}
	w.maxPacket = int(pk.Properties.MaximumPacketSize)
	w.keepAlive = c.limitKeepAlive()
	if !c.identify() {
		f.refuse(w, c, errClientID)
		return nil
	}
	who, err := f.admission.admit(f.life, hello{
		clientID:  c.Connect.ClientIdentifier,
		username:  string(pk.Connect.Username),
		password:  pk.Connect.Password,
		anonymous: !pk.Connect.UsernameFlag && !pk.Connect.PasswordFlag,
		will:      pk.Connect.WillFlag,
		willTopic: pk.Connect.WillTopic,
		remote:    w.RemoteAddr().String(),
		certified: certifiedIDs(w.Certificate()),
		unspoken:  !pk.Connect.PasswordFlag,
	})
	if err != nil {
		f.refuse(w, c, err)
		return nil
	}
	if c.answer = c.connack(who, f.maxPacket, f.plain); !w.takes(c.answer) {
		f.door.Refused("protocol") // nothing can be said to it (3.1.2-24)
		return nil
	}
	w.frames.SetMost(f.maxPacket)
	w.violation = func(code packets.Code) { f.violation(who, code) }
	s := f.newSession(w, c, who)
	w.session.Store(s)
	if who.role == roleEndpoint {
		w.Narrow()
	}
	w.Admitted()
	return s
}

// nonsense ends a connection whose first packet is no good CONNECT. A client of MQTT 5 is told (4.13.1); one of 3.1.1
// only when it asks for a version that is not there (3.1.1, 3.1.4-1, 3.1.2-2).
func (f *front) nonsense(w *wire, err error) {
	if w.Evicted() {
		return // counted there
	}
	f.door.Refused("protocol") // before it is told: whoever sees the connection close finds it counted
	if !errors.Is(err, io.EOF) {
		f.said.say(slog.LevelInfo, "protocol", "client refused", "reason", "protocol", "remote_addr", w.RemoteAddr().String(),
			"error", late(err))
	}
	var code packets.Code
	if errors.As(err, &code) && (w.version >= 5 || code == packets.ErrUnsupportedProtocolVersion) {
		f.answer(w, code)
	}
}

// late says in words that CONNECT did not come in time.
func late(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no whole CONNECT within %v", door.ConnectTimeout)
	}
	return err
}

// limitKeepAlive returns the keep-alive that holds. MQTT 3.1.1 has no way to tell of another; TCP notices a dead peer all
// the same.
func (c *connect) limitKeepAlive() time.Duration {
	keep := c.Connect.Keepalive
	if c.ProtocolVersion >= 5 && (keep == 0 || keep > keepAliveMost) {
		keep, c.limited = keepAliveMost, true // 3.2.2-21
	}
	return time.Duration(keep) * time.Second
}

// identify gives a client without id one (3.1.3-6); false when its version has none for it (3.1.1, 3.1.3-8).
func (c *connect) identify() bool {
	if c.Connect.ClientIdentifier != "" {
		return true
	}
	if c.ProtocolVersion < 5 && !c.Connect.Clean {
		return false
	}
	c.assigned = assignedID + strings.ToLower(rand.Text())
	c.Connect.ClientIdentifier = c.assigned
	return true
}

// refuse answers a client that is not admitted.
func (f *front) refuse(w *wire, c *connect, err error) {
	code, reason := refusal(err)
	f.door.Refused(reason)
	f.said.say(slog.LevelInfo, reason, "client refused", "reason", reason, "username", showName(string(c.Connect.Username)),
		"client_id", showName(c.Connect.ClientIdentifier), "remote_addr", w.RemoteAddr().String(), "error", err)
	f.answer(w, code)
}

// version3 are the CONNACK codes of MQTT 3.1.1 (3.2.2.3).
var version3 = map[packets.Code]byte{
	packets.ErrUnsupportedProtocolVersion: 1,
	packets.ErrClientIdentifierNotValid:   2,
	packets.ErrServerUnavailable:          3,
	packets.ErrConnectionRateExceeded:     3,
	packets.ErrBadUsernameOrPassword:      5,
	packets.ErrNotAuthorized:              5,
}

// answer sends a CONNACK that refuses, and ends the connection. MQTT 3.1.1 has no answer for some codes.
func (f *front) answer(w *wire, code packets.Code) {
	reason := code.Code
	if w.version < 5 {
		reason = version3[code]
	}
	if reason != 0 {
		_ = w.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: reason})
	}
	w.part(packets.CodeDisconnect)
}

// violation notes that an admitted client broke the protocol.
func (f *front) violation(who identity, code packets.Code) {
	f.metrics.stopped.WithLabelValues(label(code)).Inc()
	f.said.say(slog.LevelInfo, "violation", "client broke the protocol: disconnected", "role", who.role.String(),
		"endpoint_id", who.endpoint, "token_id", who.token, "reason", code.Reason)
}

func (f *front) newSession(w *wire, c *connect, who identity) *session {
	s := &session{
		link: wireLink{w}, who: who, remote: w.RemoteAddr().String(), since: time.Now(), hello: c,
		receiveMaximum: math.MaxUint16,
	}
	if r := c.Properties.ReceiveMaximum; r > 0 {
		s.receiveMaximum = int(r)
	}
	if who.role != roleEndpoint {
		w.gathering = &gathering{}
		return s
	}
	s.shard = f.uplinks.shard(who.endpoint)
	s.window = semaphore.NewWeighted(windowUnits)
	s.clean = c.Connect.Clean
	s.expiry.Store(int64(c.lasts()))
	return s
}

// lasts is how long the session is kept after the connection, in seconds (3.1.2.11.2); one of MQTT 3.1.1 that is not
// clean has no end but ours.
func (c *connect) lasts() uint32 {
	most := uint32(resumeMost / time.Second)
	switch {
	case c.ProtocolVersion >= 5:
		return min(c.Properties.SessionExpiryInterval, most)
	case c.Connect.Clean:
		return 0
	}
	return most
}
