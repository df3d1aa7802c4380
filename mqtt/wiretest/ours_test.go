package wiretest_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt/broker"
	"meterline/mqtt/door"
	"meterline/mqtt/wiretest"
)

var pepper = fleet.Pepper("pepper")

// A machine that is busy with other tests answers late, and most cases wait for the server or for an expiry.
const (
	patience = 20 * time.Second
	atATime  = 200
)

// TestOurBroker runs the whole catalogue against our broker.
func TestOurBroker(t *testing.T) {
	t.Parallel()
	target := wiretest.Target{Address: startBroker(t), Patience: patience, Parallel: atATime}
	check(t, target, wiretest.Catalogue())
}

// TestOurEndpoints runs the cases for endpoints, which our broker gives a narrower service.
func TestOurEndpoints(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	target := wiretest.Target{Address: startBroker(t), Patience: patience, Parallel: atATime, Backend: "backend secret"}
	target.Devices = func() (id, secret string) {
		id = fmt.Sprint("device-", n.Add(1))
		return id, id
	}
	check(t, target, wiretest.Endpoints())
}

// check wants every case to hold. WIRE_RUN is an expression for those that are wanted.
func check(t *testing.T, target wiretest.Target, cases []wiretest.Case) {
	t.Helper()
	cases = wiretest.Select(cases, regexp.MustCompile(os.Getenv("WIRE_RUN")))
	for _, r := range wiretest.Run(t.Context(), target, cases) {
		if r.Err != nil {
			t.Errorf("%s (%s): %v", r.Name, strings.Join(r.Clauses, " "), r.Err)
		}
	}
}

// startBroker runs our broker in memory until the end of the test, and returns its address. Clients without credentials
// have plain MQTT; every device is known, and its secret is its id.
func startBroker(t *testing.T) (address string) {
	t.Helper()
	o := broker.Options{
		Gateway:     command.Gateway{ID: "gw1", Incarnation: "i1"},
		Listeners:   []door.Listen{{Name: "mqtt", Address: "127.0.0.1:0"}},
		Log:         takeAll{},
		Credentials: everyDevice{},
		Sessions:    &lonely{},
		Pepper:      pepper, BackendSecret: "backend secret", Anonymous: broker.AnonymousMQTT, Partitions: 16,
	}
	if os.Getenv("BROKER_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b.Addr("mqtt")
}

// takeAll is an uplink log that keeps nothing.
type takeAll struct{}

func (takeAll) Append(context.Context, []command.Uplink) error { return nil }

// everyDevice knows every device; its secret is its id.
type everyDevice struct{}

func (everyDevice) Credentials(_ context.Context, ids []fleet.DeviceID) (known []fleet.Credential, err error) {
	for _, id := range ids {
		if strings.HasPrefix(string(id), "device-") {
			known = append(known, fleet.Credential{DeviceID: id, Tenant: "t1", Kind: fleet.Direct, Enabled: true, MAC: pepper.MAC(string(id))})
		}
	}
	return known, nil
}

// lonely is presence without other gateways.
type lonely struct{ epoch atomic.Int64 }

func (l *lonely) Open(context.Context, command.Session) (int64, error) { return l.epoch.Add(1), nil }
func (*lonely) Close(context.Context, command.Session) error           { return nil }
func (*lonely) Restore(context.Context, []command.Session) error       { return nil }
func (*lonely) Lost(context.Context, string, string) (bool, error)     { return false, nil }
func (*lonely) Announce(context.Context, command.Gateway, int64) error { return nil }
func (*lonely) Watch(ctx context.Context, _ func(command.Session)) (err error) {
	<-ctx.Done()
	return nil
}
