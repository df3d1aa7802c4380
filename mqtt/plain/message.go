package plain

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A Message is an application message. The hub keeps it and shares it between sessions: it must not be changed after it
// was given to the hub, nor by whoever the hub gives it to.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool

	// properties of MQTT 5, forwarded unaltered
	PayloadFormat     byte
	PayloadFormatFlag bool // there is a PayloadFormat
	ContentType       string
	ResponseTopic     string
	CorrelationData   []byte // nil: none
	User              []packets.UserProperty

	// Expires is when whoever has not been sent the message yet will not get it any more; zero: never.
	Expires time.Time

	// About is what Rules.MayReceive decides by. Messages of clients have none.
	About any

	origin string // key of the session that published it; "": from inside
}

// A Will is published when the connection ends without the client saying that it shall not be.
type Will struct {
	Message Message // without Expires
	Delay   uint32  // seconds
	Expiry  uint32  // seconds from its publication; 0: never expires
}

// overhead is what a message is said to weigh beside its content.
const overhead = 256

// weight is what the message counts against limits in bytes.
func (m *Message) weight() int {
	n := overhead + len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for _, p := range m.User {
		n += len(p.Key) + len(p.Val) + 32
	}
	return n
}

// expired says whether the message's time is over.
func (m *Message) expired(now time.Time) bool { return !m.Expires.IsZero() && !now.Before(m.Expires) }

// remaining is the Message Expiry Interval to send: what was received less the time spent here [MQTT-3.3.2-6]. It is at
// least 1, also for what is sent again when its time is over, for 0 is how the codec says that there is none.
func (m *Message) remaining(now time.Time) uint32 {
	if m.Expires.IsZero() {
		return 0
	}
	left := m.Expires.Sub(now)
	return uint32(max(1, (left+time.Second-1)/time.Second))
}

// messageOf takes the message out of a PUBLISH.
func messageOf(pk *packets.Packet, topic string, now time.Time) *Message {
	p := &pk.Properties
	m := &Message{
		Topic: topic, Payload: pk.Payload, QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain,
		PayloadFormat: p.PayloadFormat, PayloadFormatFlag: p.PayloadFormatFlag, ContentType: p.ContentType,
		ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData, User: p.User,
	}
	if p.MessageExpiryInterval > 0 {
		m.Expires = now.Add(time.Duration(p.MessageExpiryInterval) * time.Second)
	}
	return m
}
