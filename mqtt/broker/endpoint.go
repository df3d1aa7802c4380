package broker

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt"
	"meterline/mqtt/frame"
)

// endpoints serves endpoints (see loop.go) and handles what they send. mochi sees none of it: their connections, publishes,
// subscriptions and acknowledgements, and all their state, are ours.
type endpoints struct {
	said        *sparing
	metrics     *metrics
	uplinks     *uplinks
	delivery    *delivery
	presence    *presence
	credentials *credentials
	draining    *atomic.Bool
	pace        *pace // nil: no limits
}

// begin makes s the endpoint's newest session.
func (e *endpoints) begin(ctx context.Context, s *session) {
	e.metrics.accepted.WithLabelValues(s.who.role.String()).Inc()
	e.presence.begin(ctx, s)
	// Now that Forget would find the session: was the credential taken back while it was being admitted?
	cred, err := e.credentials.current(ctx, s.who.endpoint)
	if err != nil || cred == nil || !s.who.stillGood(*cred) {
		s.link.stop(packets.ErrNotAuthorized)
	}
}

// established is called after CONNACK.
func (e *endpoints) established(s *session) {
	if s.own() && s.resumed {
		e.presence.subscribed(s, func() {})
	}
}

// end is called when the connection is gone.
func (e *endpoints) end(ctx context.Context, s *session) {
	if s.slot != nil {
		e.presence.end(ctx, s)
	}
}

// disconnect ends the session as the endpoint asked.
func (e *endpoints) disconnect(s *session, pk packets.Packet) {
	if pk.Properties.SessionExpiryIntervalFlag {
		if s.expiry.Load() == 0 && pk.Properties.SessionExpiryInterval > 0 { // 3.14.2.2.2
			e.refuse(s, packets.ErrProtocolViolationZeroNonZeroExpiry)
			return
		}
		s.expiry.Store(int64(pk.Properties.SessionExpiryInterval))
	}
	s.link.stop(packets.CodeDisconnect)
}

// refuse ends the connection for what the client did.
func (e *endpoints) refuse(s *session, why packets.Code) {
	e.metrics.stopped.WithLabelValues(label(why)).Inc()
	e.said.say(slog.LevelInfo, why.Reason, "endpoint disconnected", "endpoint_id", s.who.endpoint, "reason", why.Reason,
		"remote_addr", s.remote)
	s.link.stop(why)
}

// publish takes an uplink. The PUBACK is written when it has been appended, not here.
func (e *endpoints) publish(ctx context.Context, s *session, p frame.Publish) {
	e.pace.hold(ctx, s.who.endpoint, len(p.Payload), e.draining)
	if e.draining.Load() {
		return // no PUBACK: the endpoint sends it again, to the next gateway
	}
	if p.Alias { // no alias was offered (3.3.2-9)
		e.refuse(s, packets.ErrTopicAliasInvalid)
		return
	}
	topic := string(p.Topic)
	_, channel, ok := mqtt.ParseUplinkTopic(topic)
	switch {
	case !ok || !s.who.mayPublish(topic):
		e.refuseTopic(s, topic, p)
	case p.Retain:
		e.refuse(s, packets.ErrRetainNotSupported)
	case p.QoS > 1: // never acknowledged early, so not at all
		e.refuse(s, packets.ErrQosNotSupported)
	case len(p.Payload) > e.uplinks.maxPayload:
		e.refuse(s, packets.ErrPacketTooLarge)
	default:
		// It fails only when the gateway ends; without a PUBACK the endpoint sends again.
		_ = e.uplinks.take(ctx, s, channel.Kind(), bytes.Clone(p.Payload), p.ID)
	}
}

// refuseTopic answers a publish to a topic that is not the endpoint's: MQTT 3.1.1 knows nothing but to disconnect.
func (e *endpoints) refuseTopic(s *session, topic string, p frame.Publish) {
	e.metrics.refusedTopics.WithLabelValues(s.who.role.String()).Inc()
	e.security(s, "topic_refused", map[string]any{"topic": clip(topic), "remote_addr": s.remote})
	switch {
	case s.link.version() < 5 || p.QoS > 1:
		e.refuse(s, packets.ErrNotAuthorized)
	case p.QoS == 1:
		_ = s.link.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Puback},
			PacketID:    p.ID,
			ReasonCode:  packets.ErrNotAuthorized.Code,
		})
	}
}

// security appends an event about what an endpoint did that it must not, at most one a minute and connection.
func (e *endpoints) security(s *session, kind string, data map[string]any) {
	now := e.uplinks.now()
	if now.Sub(s.toldOff) < securityPause {
		return
	}
	s.toldOff = now
	e.said.say(slog.LevelWarn, kind, "security event", "type", kind, "endpoint_id", s.who.endpoint, "topic", data["topic"],
		"remote_addr", s.remote)
	e.uplinks.security(s.who.endpoint, s.epoch.Load(), kind, data)
}

// clip keeps a text that somebody else chose short.
func clip(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// subscribe grants the endpoint its own command topic, at QoS 1, and nothing else.
func (e *endpoints) subscribe(s *session, pk packets.Packet) {
	granted := false
	codes := make([]byte, len(pk.Filters))
	for i, f := range pk.Filters {
		switch {
		case s.who.maySubscribe(f.Filter) && f.Qos > 0:
			codes[i] = 1
			granted = true
		case s.who.maySubscribe(f.Filter) || s.link.version() < 5:
			codes[i] = packets.ErrUnspecifiedError.Code
		default:
			codes[i] = packets.ErrNotAuthorized.Code
		}
		if codes[i] > 1 {
			e.metrics.refusedTopics.WithLabelValues(s.who.role.String()).Inc()
			e.said.say(slog.LevelInfo, "subscription", "subscription refused: an endpoint subscribes to its own down/command, at QoS 1 or 2, and not "+
				"with a suffix in its client id", "endpoint_id", s.who.endpoint, "filter", clip(f.Filter), "qos", f.Qos)
		}
	}
	suback := func() {
		_ = s.link.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: pk.PacketID, ReasonCodes: codes,
		})
	}
	if granted {
		e.presence.subscribed(s, suback)
	} else {
		suback()
	}
}

func (e *endpoints) unsubscribe(s *session, pk packets.Packet) {
	codes := make([]byte, len(pk.Filters))
	gone := false
	for i, f := range pk.Filters {
		if !gone && s.who.maySubscribe(f.Filter) && s.isSubscribed() {
			gone = true
			continue
		}
		codes[i] = packets.CodeNoSubscriptionExisted.Code
	}
	if gone {
		e.presence.unsubscribed(s)
	}
	_ = s.link.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Unsuback}, PacketID: pk.PacketID, ReasonCodes: codes,
	})
}
