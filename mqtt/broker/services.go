package broker

import (
	"errors"
	"log/slog"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/fleet"
	"meterline/mqtt"
	"meterline/mqtt/plain"
)

// services handles what service clients and backends send: plain MQTT by the hub, commands by delivery.
type services struct {
	metrics  *metrics
	hub      *plain.Hub
	delivery *delivery
	tokens   *tokens
	said     *sparing
}

// begin gives s its session: a connection that had it before is over when it returns.
func (v *services) begin(s *session) {
	v.metrics.accepted.WithLabelValues(s.who.role.String()).Inc()
	c := s.hello
	s.plain, s.resumed = v.hub.Connect(s.link.(wireLink), plain.Connect{
		Key: s.who.key(c.Connect.ClientIdentifier), Version: c.ProtocolVersion, Clean: c.Connect.Clean,
		SessionExpiry: c.lasts(), ReceiveMaximum: c.Properties.ReceiveMaximum,
		TopicAliasMaximum: c.Properties.TopicAliasMaximum, Will: c.will(), Who: s.who, Until: s.who.expires,
	})
	if !v.tokens.enter(s) { // its token was taken back while it was being admitted: ForgetTokens may not have seen the session
		s.link.stop(packets.ErrNotAuthorized)
		v.hub.Disconnect(func(who any) bool { return who.(identity).token == s.who.token }, packets.ErrNotAuthorized, true)
	}
}

// will is what the client left to be published, or nil.
func (c *connect) will() *plain.Will {
	if !c.Connect.WillFlag {
		return nil
	}
	p := c.Connect.WillProperties
	return &plain.Will{
		Message: plain.Message{
			Topic: c.Connect.WillTopic, Payload: c.Connect.WillPayload, QoS: c.Connect.WillQos, Retain: c.Connect.WillRetain,
			PayloadFormat: p.PayloadFormat, PayloadFormatFlag: p.PayloadFormatFlag, ContentType: p.ContentType,
			ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData, User: p.User,
		},
		Delay: p.WillDelayInterval, Expiry: p.MessageExpiryInterval,
	}
}

// established is called after CONNACK.
func (v *services) established(s *session) {
	s.link.(wireLink).onRoom(s.plain.Resume)
	s.plain.Start()
}

// packet handles a packet, PINGREQ excepted.
func (v *services) packet(s *session, pk packets.Packet) {
	err := s.plain.Packet(pk)
	var code packets.Code
	switch {
	case errors.Is(err, packets.ErrSessionTakenOver): // its connection was stopped, and counted, by the hub
		s.link.stop(packets.ErrSessionTakenOver)
	case errors.As(err, &code):
		s.link.(wireLink).violation(code)
		s.link.stop(code)
	case err != nil:
		s.link.stop(packets.ErrImplementationSpecificError)
	case pk.FixedHeader.Type == packets.Disconnect:
		s.left = true
		s.plain.End(true) // first: whoever sees the connection close may rely on the session being without one
		s.link.stop(packets.CodeDisconnect)
	}
}

// end is called when the connection is gone.
func (v *services) end(s *session) {
	v.tokens.leave(s)
	if s.plain != nil {
		s.plain.End(s.left)
	}
}

// MayPublish, MaySubscribe, MayReceive and Take are the hub's rules; who is an identity.
func (v *services) MayPublish(who any, topic string) bool {
	by := who.(identity)
	if by.mayPublish(topic) {
		return true
	}
	v.metrics.refusedTopics.WithLabelValues(by.role.String()).Inc()
	v.said.say(slog.LevelInfo, "publish", "publish refused: no right to this topic", "role", by.role.String(), "token_id", by.token,
		"topic", clip(topic))
	return false
}

// MaySubscribe says whether the client may subscribe to the filter.
func (v *services) MaySubscribe(who any, filter string) bool {
	by := who.(identity)
	if by.maySubscribe(filter) {
		return true
	}
	v.metrics.refusedTopics.WithLabelValues(by.role.String()).Inc()
	v.said.say(slog.LevelInfo, "subscription", "subscription refused: no right to this topic", "role", by.role.String(),
		"token_id", by.token, "filter", clip(filter))
	return false
}

// MayReceive says whether the client may have a message that is about a tenant's device.
func (v *services) MayReceive(who any, m *plain.Message) bool {
	about, ok := m.About.(fleet.Tenant)
	return ok && who.(identity).mayReceive(m.Topic, about)
}

// Take takes commands: they are handed over when it returns, so they may be acknowledged.
func (v *services) Take(who any, m *plain.Message) bool {
	endpoint, ok := mqtt.ParseCommandTopic(m.Topic)
	if ok {
		v.delivery.handle(who.(identity), endpoint, m.Topic, m.Payload)
	}
	return ok
}
