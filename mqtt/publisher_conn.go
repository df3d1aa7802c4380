package mqtt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"meterline/command"
)

const (
	connectTimeout = 5 * time.Second
	writeTimeout   = 3 * time.Second
	drainTime      = 2 * time.Second
	disconnectTime = 100 * time.Millisecond
)

// errUnacknowledged is what becomes of messages whose connection was lost before their PUBACK came.
var errUnacknowledged = errors.New("the connection was lost before the gateway acknowledged the message")

// job is one message on its way.
type job struct {
	topic   string
	payload []byte
	done    func(error)
}

// unacknowledged is a message that was given to paho.
type unacknowledged struct {
	token paho.Token
	at    time.Time
	done  func(error)
}

// connection is one MQTT connection, from its CONNACK to its loss. paho's own reconnecting is off: over a reconnect it
// completes tokens without error though no PUBACK came.
type connection struct {
	opt     PublisherOptions
	metrics *publisherMetrics
	client  paho.Client
	socket  net.Conn
	jobs    chan job            // closed when no more will come
	slots   chan struct{}       // one per message in flight
	sent    chan unacknowledged // in the order of sending, which is that of PUBACKs [MQTT-4.6.0-2]
	lost    chan struct{}
	once    sync.Once
	why     error // readable when lost is closed
}

// connect returns when the gateway has sent its CONNACK.
func connect(ctx context.Context, opt PublisherOptions, m *publisherMetrics, g command.Gateway) (*connection, error) {
	c := &connection{opt: opt, metrics: m, jobs: make(chan job, opt.Queue), slots: make(chan struct{}, opt.InFlight),
		sent: make(chan unacknowledged, opt.InFlight), lost: make(chan struct{})}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	socket, err := (&net.Dialer{}).DialContext(ctx, "tcp", g.Address)
	if err != nil {
		return nil, err // names the address
	}
	c.socket = socket
	c.client = paho.NewClient(paho.NewClientOptions().
		AddBroker("tcp://" + g.Address).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return socket, nil }).
		SetClientID("backend:" + opt.ID + ":" + rand.Text()).SetUsername("backend").SetPassword(opt.Secret).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetConnectTimeout(connectTimeout).SetWriteTimeout(writeTimeout).
		SetKeepAlive(10 * time.Second).SetPingTimeout(5 * time.Second).
		SetConnectionLostHandler(func(_ paho.Client, err error) { c.lose(err) }))
	token := c.client.Connect()
	select {
	case <-token.Done():
		err = token.Error()
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		_ = socket.Close()
		c.client.Disconnect(0) // should it have come up just now
		return nil, fmt.Errorf("connect to %s: %w", g.Address, err)
	}
	return c, nil
}

// lose ends the connection; the first reason counts.
func (c *connection) lose(why error) {
	c.once.Do(func() {
		c.why = why
		close(c.lost)
	})
}

func (c *connection) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// drain waits until everything that was queued is answered, but not for long.
func (c *connection) drain(work *sync.WaitGroup) {
	late := time.AfterFunc(drainTime, func() { c.lose(errors.New("stopped")) })
	defer late.Stop()
	work.Wait()
}

// close ends paho's goroutines, and by that send and await. A socket that is closed under paho would not: it takes that
// for its own doing. A gateway that reads nothing any more delays it for disconnectTime.
func (c *connection) close() {
	c.lose(errors.New("closed"))
	c.client.Disconnect(uint(disconnectTime.Milliseconds()))
	_ = c.socket.Close()
}

// send sends what is queued, in order. What is left when the connection is lost was surely not sent.
func (c *connection) send() {
	defer close(c.sent)
	for j := range c.jobs {
		select {
		case c.slots <- struct{}{}:
		case <-c.lost:
		}
		if c.isLost() {
			c.metrics.refused.Inc()
			j.done(fmt.Errorf("%w: %w", command.ErrGatewayGone, c.why))
			continue
		}
		token := c.client.Publish(j.topic, 1, false, j.payload) // blocks while the gateway is slow, writeTimeout at most
		c.sent <- unacknowledged{token, time.Now(), j.done}     // has room: there is a slot for each
	}
}

// await answers what was sent.
func (c *connection) await() {
	timer := time.NewTimer(c.opt.AckTimeout)
	defer timer.Stop()
	for u := range c.sent {
		timer.Reset(time.Until(u.at.Add(c.opt.AckTimeout)))
		select {
		case <-u.token.Done():
		case <-c.lost:
		case <-timer.C:
			c.lose(fmt.Errorf("no PUBACK for %s", c.opt.AckTimeout))
		}
		err := outcome(u.token)
		if err == nil {
			c.metrics.acknowledged.Inc()
		} else {
			c.metrics.unknown.Inc()
			c.lose(err) // paho may have given it up and send it all the same: no order, no trust
		}
		u.done(err)
		<-c.slots
	}
}

// outcome is what a token says now. One that is not complete by now never counts.
func outcome(t paho.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	default:
		return errUnacknowledged
	}
}
