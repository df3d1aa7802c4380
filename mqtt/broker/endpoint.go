package broker

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/meterread"
	"meterline/mqtt"
)

// endpoints handles what endpoints send. mochi sees none of it: publishes, subscriptions and acknowledgements of
// endpoints, and all their state, are ours.
type endpoints struct {
	log      *slog.Logger
	metrics  *metrics
	uplinks  *uplinks
	delivery *delivery
	presence *presence
	draining *atomic.Bool
	pace     *pace // nil: no limits
}

// packet handles a packet of an endpoint. It is false for the kinds that are mochi's: PINGREQ, DISCONNECT and what is
// not allowed. It may block, in take, and so holds up its own connection only.
func (e *endpoints) packet(ctx context.Context, s *session, pk packets.Packet) bool {
	switch pk.FixedHeader.Type {
	case packets.Publish:
		e.publish(ctx, s, pk)
	case packets.Puback:
		e.delivery.acknowledged(s, pk.PacketID, pk.ReasonCode)
	case packets.Subscribe:
		e.subscribe(s, pk)
	case packets.Unsubscribe:
		e.unsubscribe(s, pk)
	case packets.Pubrec, packets.Pubrel, packets.Pubcomp: // we neither send nor take QoS 2
		e.refuse(s, packets.ErrProtocolViolation)
	case packets.Disconnect:
		if pk.Properties.SessionExpiryIntervalFlag && s.expiry.Load() > 0 { // 0 may not become more (MQTT 5, 3.14.2.2.2)
			s.expiry.Store(int64(pk.Properties.SessionExpiryInterval))
		}
		return false
	default:
		return false
	}
	return true
}

// refuse ends the connection for what the client did.
func (e *endpoints) refuse(s *session, why packets.Code) {
	e.metrics.stopped.WithLabelValues(strings.ReplaceAll(why.Reason, " ", "_")).Inc()
	e.log.Info("endpoint disconnected", "endpoint_id", s.who.endpoint, "reason", why.Reason, "remote_addr", s.remote)
	s.link.stop(why)
}

// publish takes an uplink. The PUBACK is written when it has been appended, not here.
func (e *endpoints) publish(ctx context.Context, s *session, pk packets.Packet) {
	e.pace.hold(ctx, s.who.endpoint, len(pk.Payload), e.draining)
	if e.draining.Load() {
		return // no PUBACK: the endpoint sends it again, to the next gateway
	}
	if code := pk.PublishValidate(0); code != packets.CodeSuccess {
		e.refuse(s, code)
		return
	}
	_, channel, ok := mqtt.ParseUplinkTopic(pk.TopicName)
	switch {
	case !ok || !s.who.mayPublish(pk.TopicName):
		e.refuseTopic(s, pk)
	case pk.FixedHeader.Retain:
		e.refuse(s, packets.ErrRetainNotSupported)
	case pk.FixedHeader.Qos > 1: // never acknowledged early, so not at all
		e.refuse(s, packets.ErrQosNotSupported)
	case len(pk.Payload) > e.uplinks.maxPayload:
		e.refuse(s, packets.ErrPacketTooLarge)
	default:
		// It fails only when the gateway ends; without a PUBACK the endpoint sends again.
		_ = e.uplinks.take(ctx, s, channel.Kind(), pk.Payload, pk.PacketID)
	}
}

// refuseTopic answers a publish to a topic that is not the endpoint's: MQTT 3.1.1 knows nothing but to disconnect.
func (e *endpoints) refuseTopic(s *session, pk packets.Packet) {
	e.metrics.refusedTopics.WithLabelValues(s.who.role.String()).Inc()
	e.security(s, "topic_refused", map[string]any{"topic": clip(pk.TopicName), "remote_addr": s.remote})
	switch {
	case s.link.version() < 5 || pk.FixedHeader.Qos > 1:
		e.refuse(s, packets.ErrNotAuthorized)
	case pk.FixedHeader.Qos == 1:
		_ = s.link.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Puback},
			PacketID:    pk.PacketID,
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
	payload, err := json.Marshal(map[string]any{
		"v": meterread.Version, "message_id": uuid.NewString(), "type": "security." + kind,
		"device_id": s.who.endpoint, "at": now.UTC().Format(time.RFC3339Nano), "data": data,
	})
	if err != nil {
		e.log.Error("cannot encode a security event", "error", err) // cannot happen: strings
		return
	}
	e.log.Warn("security event", "type", kind, "endpoint_id", s.who.endpoint, "remote_addr", s.remote)
	e.uplinks.hint(s.who.endpoint, s.epoch.Load(), command.UplinkSecurity, payload)
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
	if code := pk.SubscribeValidate(); code != packets.CodeSuccess || pk.PacketID == 0 {
		e.refuse(s, packets.ErrProtocolViolation)
		return
	}
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
	if code := pk.UnsubscribeValidate(); code != packets.CodeSuccess || pk.PacketID == 0 {
		e.refuse(s, packets.ErrProtocolViolation)
		return
	}
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

// connack tells a client of MQTT 5 what an endpoint cannot do, and any whether its subscription is still there.
func connack(s *session, pk packets.Packet, maxPacket uint32) packets.Packet {
	pk.Properties.MaximumPacketSize = maxPacket
	if s.who.role != roleEndpoint {
		return pk
	}
	pk.SessionPresent = s.resumed
	pk.Properties.MaximumQos, pk.Properties.MaximumQosFlag = 1, true
	pk.Properties.RetainAvailable, pk.Properties.RetainAvailableFlag = 0, true
	pk.Properties.WildcardSubAvailable, pk.Properties.WildcardSubAvailableFlag = 0, true
	pk.Properties.SharedSubAvailable, pk.Properties.SharedSubAvailableFlag = 0, true
	pk.Properties.SubIDAvailable, pk.Properties.SubIDAvailableFlag = 0, true
	pk.Properties.ReceiveMaximum = windowUnits
	return pk
}
