package interop

import (
	"context"
	"fmt"
	"testing"
)

// message is an application message, as a program sends and sees it.
type message struct {
	Topic   string `json:"topic"`
	Payload string `json:"payload"`
	QoS     byte   `json:"qos"`
	Retain  bool   `json:"retain"`
}

func (m message) String() string {
	if len(m.Payload) > 80 {
		m.Payload = fmt.Sprintf("%.20s… (%d bytes)", m.Payload, len(m.Payload))
	}
	return fmt.Sprintf("%s %q at QoS %d, retain %t", m.Topic, m.Payload, m.QoS, m.Retain)
}

// filter is a subscription.
type filter struct {
	Topic string `json:"topic"`
	QoS   byte   `json:"qos"`
}

// login is how a client connects. It subscribes, too, unless the server has its session: so do programs that live long.
type login struct {
	id, user, password string
	keep               bool // the session outlives the connection, by an hour
	filters            []filter
	will               *message
}

// client is a connected MQTT client of some make. Its methods fail when ctx is done before the other side has answered.
type client interface {
	// publish returns when the server has acknowledged them all, as far as their QoS asks for it; they are sent in order.
	publish(ctx context.Context, messages ...message) error
	// next waits for a message.
	next(ctx context.Context) (message, error)
	// granted is the QoS of each filter; nil when none was asked for.
	granted() []byte
	// present says whether the server had the session. Some programs do not tell.
	present() (present, told bool)
	// disconnect takes leave; the client cannot be used any more.
	disconnect(ctx context.Context) error
	// kill breaks the connection without a word.
	kill(ctx context.Context) error
}

// variant is one way to speak to the server.
type variant struct {
	client    string // its make
	version   string // of the protocol: 3.1.1 or 5
	transport string // tcp, tls or ws
}

func (v variant) String() string { return v.client + "/" + v.version + "/" + v.transport }

// traits are where makes differ in what they can do.
type traits struct {
	tellsPresent bool // whether the server had the session
	leavesWill   bool // an orderly end asks for the will: DISCONNECT with reason 0x04
	twoSessions  bool // publishing takes another session than subscribing
}

// driver makes clients of one make.
type driver interface {
	traits(v variant) traits
	// connect gives a client when the server has accepted it and granted or refused its filters.
	connect(ctx context.Context, v variant, to address, as login) (client, error)
}

// makes are the clients that the broker is driven by. A make that is not installed ends its test by testkit's rules.
var makes = []struct {
	name     string
	make     func(t *testing.T) driver
	variants []variant
}{
	{"mosquitto", newMosquitto, variants("mosquitto", "3.1.1 tcp", "3.1.1 tls", "5 tcp", "5 tls")},
	{"paho", newPaho, variants("paho", "3.1.1 tcp", "3.1.1 tls", "3.1.1 ws")},
	{"mqttjs", newMQTTJS, variants("mqttjs", "5 tcp", "5 tls", "5 ws")},
}

func variants(client string, ways ...string) (all []variant) {
	for _, way := range ways {
		v := variant{client: client}
		_, _ = fmt.Sscan(way, &v.version, &v.transport)
		all = append(all, v)
	}
	return all
}

// inbox is where a client's messages wait for next. It has room for more than any scenario sends.
type inbox chan message

func newInbox() inbox { return make(inbox, 1000) }

func (i inbox) next(ctx context.Context) (message, error) {
	select {
	case m := <-i:
		return m, nil
	case <-ctx.Done():
		return message{}, fmt.Errorf("wait for a message: %w", ctx.Err())
	}
}
