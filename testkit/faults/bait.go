package faults

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"meterline/meterread"
	"meterline/mqtt"
	"meterline/simulator"
	"meterline/testkit/cluster"
)

// BaitTenant is whose devices and commands the faults use that need some of their own; nothing else belongs to it.
const BaitTenant = "bait"

// bait registers devices of the fault's own, and gives what speaks for their tenant at n.
func (s *scene) bait(ctx context.Context, n *cluster.Node, devices ...simulator.Registration) (*simulator.API, error) {
	token, err := s.Cluster.Backend(ctx, "token", "create", "--tenant", BaitTenant, "--scopes", "admin")
	if err != nil {
		return nil, err
	}
	api := simulator.NewAPI("http://"+n.HTTP, strings.TrimSpace(token))
	return api, api.Import(ctx, devices)
}

// direct is a device of the fault's own.
func (s *scene) direct(which string) simulator.Registration {
	return simulator.Registration{ID: meterread.DeviceID(s.short() + which), Kind: "direct", Enabled: true, Secret: secret}
}

// secret is what all of them sign in with: 32 bytes.
var secret = base64.RawURLEncoding.EncodeToString([]byte("the-secret-of-a-device-of-a-fault"[:32]))

// short is the id of the scene, short enough for an id of a device.
func (s *scene) short() string { return "bait" + s.id[strings.LastIndexByte(s.id, '-'):] + "-" }

// device is a connected device of the fault's own.
type device struct {
	paho.Client
	id   meterread.DeviceID
	lost chan struct{}
	got  chan json.RawMessage // commands
}

const connectWithin = 10 * time.Second

// connect connects a device to a gateway. One that is deaf never acknowledges its commands.
func connect(id meterread.DeviceID, n *cluster.Node, deaf bool) (*device, error) {
	d := &device{id: id, lost: make(chan struct{}), got: make(chan json.RawMessage, 16)}
	d.Client = paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + n.Address).
		SetClientID(string(id)).SetUsername(string(id)).SetPassword(secret).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(connectWithin).
		SetAutoAckDisabled(deaf).SetConnectionLostHandler(func(paho.Client, error) { close(d.lost) }))
	if err := done(d.Connect()); err != nil {
		return nil, fmt.Errorf("connect %s to %s: %w", id, n.Name, err)
	}
	err := done(d.Subscribe(mqtt.CommandTopic(id), 1, func(_ paho.Client, m paho.Message) {
		select {
		case d.got <- m.Payload():
		default:
		}
	}))
	if err != nil {
		d.close()
		return nil, fmt.Errorf("subscribe %s: %w", id, err)
	}
	return d, nil
}

func (d *device) close() { d.Disconnect(0) }

func done(t paho.Token) error {
	if !t.WaitTimeout(connectWithin) {
		return errors.New("no answer")
	}
	return t.Error()
}

// say publishes at QoS 1 and returns when that was acknowledged.
func (d *device) say(c mqtt.Channel, payload string) error {
	if err := done(d.Publish(mqtt.Prefix+string(d.id)+"/up/"+string(c), 1, false, payload)); err != nil {
		return fmt.Errorf("publish as %s: %w", d.id, err)
	}
	return nil
}

// reading is a message with one reading of the device, of the second n.
func reading(id meterread.DeviceID, n int) string {
	at := time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC).Format(time.RFC3339)
	return fmt.Sprintf(`{"v":1,"message_id":"m-%d","readings":[{"device_id":"%s","item":"1-0:1.8.0","value":"%d.5","unit":"kWh","read_at":"%s"}]}`, n, id, n, at)
}

// count is the one number of a query of the record.
func (s *scene) count(ctx context.Context, query string, args ...any) (n int, err error) {
	err = s.DB.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}

// becomes waits until a query of the record counts so many.
func (s *scene) becomes(ctx context.Context, what string, want int, query string, args ...any) error {
	return until(ctx, what, func() error {
		n, err := s.count(ctx, query, args...)
		if err == nil && n != want {
			err = fmt.Errorf("there are %d, not %d", n, want)
		}
		return err
	})
}
