package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// pahoDriver drives paho.mqtt.golang, which speaks 3.1.1.
type pahoDriver struct{}

func newPaho(*testing.T) driver { return pahoDriver{} }

func (pahoDriver) traits(variant) traits { return traits{tellsPresent: true} }

func (pahoDriver) connect(ctx context.Context, _ variant, to address, as login) (client, error) {
	c := &pahoClient{inbox: newInbox()}
	options := paho.NewClientOptions().AddBroker(to.url).SetProtocolVersion(4).SetClientID(as.id).
		SetUsername(as.user).SetPassword(as.password).SetCleanSession(!as.keep).SetAutoReconnect(false).
		SetConnectTimeout(10 * time.Second).
		SetDefaultPublishHandler(c.take).
		SetCustomOpenConnectionFn(func(server *url.URL, _ paho.ClientOptions) (net.Conn, error) { return c.dial(ctx, server, to) })
	if w := as.will; w != nil {
		options.SetWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	c.Client = paho.NewClient(options)
	connecting, _ := c.Connect().(*paho.ConnectToken)
	if err := done(ctx, connecting, "connect"); err != nil {
		return nil, err
	}
	if c.had = connecting.SessionPresent(); c.had {
		return c, nil
	}
	for _, f := range as.filters {
		token, _ := c.Subscribe(f.Topic, f.QoS, nil).(*paho.SubscribeToken)
		if err := done(ctx, token, "subscribe"); err != nil {
			return nil, err
		}
		for _, qos := range token.Result() { // one; paho files it without $share and group
			c.qos = append(c.qos, qos)
		}
	}
	return c, nil
}

type pahoClient struct {
	paho.Client
	inbox
	qos []byte
	had bool

	mu   sync.Mutex
	conn net.Conn
}

// dial opens the connection as paho does, and keeps it for kill.
func (c *pahoClient) dial(ctx context.Context, server *url.URL, to address) (conn net.Conn, err error) {
	switch server.Scheme {
	case "ws":
		conn, err = paho.NewWebsocket(server.String(), nil, 10*time.Second, nil, nil)
	case "mqtts":
		conn, err = (&tls.Dialer{Config: &tls.Config{RootCAs: to.pool, MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", server.Host)
	default:
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", server.Host)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	return conn, err
}

func (c *pahoClient) take(_ paho.Client, m paho.Message) {
	c.inbox <- message{m.Topic(), string(m.Payload()), m.Qos(), m.Retained()}
}

// done waits for what paho began.
func done(ctx context.Context, token paho.Token, what string) error {
	select {
	case <-token.Done():
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (c *pahoClient) publish(ctx context.Context, messages ...message) error {
	var tokens []paho.Token
	for _, m := range messages {
		tokens = append(tokens, c.Publish(m.Topic, m.QoS, m.Retain, m.Payload))
	}
	for _, token := range tokens {
		if err := done(ctx, token, "publish"); err != nil {
			return err
		}
	}
	return nil
}

func (c *pahoClient) granted() []byte               { return c.qos }
func (c *pahoClient) present() (present, told bool) { return c.had, true }

func (c *pahoClient) disconnect(context.Context) error {
	c.Disconnect(5000) // at most: it returns when DISCONNECT is written
	return nil
}

func (c *pahoClient) kill(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.Close()
}
