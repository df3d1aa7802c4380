package state_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
	"meterline/state"
	"meterline/testkit"
)

// liveState is everything that both implementations are.
type liveState interface {
	command.Live
	command.Newest
	command.Notices
	command.Presence
	Open(ctx context.Context, s command.Session) (int64, error)
	Close(ctx context.Context, s command.Session) error
	Restore(ctx context.Context, sessions []command.Session) error
	Lost(ctx context.Context, gateway, incarnation string) (bool, error)
	Announce(ctx context.Context, g command.Gateway, beat int64) error
	Withdraw(ctx context.Context, g command.Gateway) error
	Watch(ctx context.Context, f func(command.Session)) error
}

// both runs a test of the suite on each implementation.
func both(t *testing.T, test func(t *testing.T, s liveState)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, state.NewMemory())
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, state.NewRedis(client(t, testkit.RedisURL(t))))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: testkit.RedisCluster(t), ContextTimeoutEnabled: true, ReadTimeout: time.Minute})
		t.Cleanup(func() { _ = c.Close() })
		test(t, state.NewRedis(c))
	})
}

// client is a client with the settings that the package asks for.
func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	ok(t, err)
	o.ContextTimeoutEnabled, o.ReadTimeout = true, time.Minute // what takes longer would be done again
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// model is a command as the record would keep it: the tests move it and tell the live state.
type model struct {
	t   *testing.T
	cmd command.Command
	ops []*command.Operation
}

func newModel(t *testing.T, id command.ID, devices int) *model {
	m := &model{t: t, cmd: command.Command{
		ID: id, Tenant: "acme", Kind: command.MeterRead, Mode: command.Realtime, Priority: 8, Version: 1,
		Items: []meterread.Item{"1-0:1.8.0"}, CreatedAt: epoch, ExpiresAt: epoch.Add(time.Hour), Attempts: 5,
		Counts: command.Counts{Total: devices, Queued: devices}, Errors: map[string]int{},
	}}
	for i := range devices {
		d := meterread.DeviceID(fmt.Sprintf("m-%05d", i))
		m.ops = append(m.ops, command.Born(m.cmd, command.Candidate{DeviceID: d, Info: fleet.Info{
			Name: "Meter " + string(d), Kind: fleet.Meter, EndpointID: "ipc-1", Tags: map[string]string{"city": "Ulm"},
		}}, epoch))
	}
	return m
}

// view is the snapshot that the record would give.
func (m *model) view() command.View {
	v := m.cmd.View()
	v.Operations = []command.OperationView{}
	for _, o := range m.ops {
		v.Operations = append(v.Operations, o.View())
	}
	return v
}

// fail ends the operations of the given devices in one transaction.
func (m *model) fail(devices ...int) command.Change {
	m.t.Helper()
	c := command.Change{From: m.cmd.Version}
	m.cmd.Version++
	m.cmd.Errors = map[string]int{"BUS_TIMEOUT": m.cmd.Errors["BUS_TIMEOUT"] + len(devices)}
	for _, i := range devices {
		o := *m.ops[i]
		before := o.State
		ok(m.t, o.Fail(epoch.Add(time.Duration(m.cmd.Version)*time.Second), command.Failure{Code: "BUS_TIMEOUT", Message: "<silent>"}))
		o.Changed = m.cmd.Version
		*m.cmd.Counts.Of(before)--
		*m.cmd.Counts.Of(o.State)++
		m.ops[i] = &o
		c.Operations = append(c.Operations, &o)
	}
	if m.cmd.Counts.Open() == 0 {
		m.cmd.FinishedAt = epoch.Add(time.Minute)
	}
	c.Command = m.cmd
	return c
}

// fill puts the model as it is now into s.
func (m *model) fill(s liveState) {
	m.t.Helper()
	token, err := s.Prepare(m.t.Context(), m.cmd.ID)
	ok(m.t, err)
	ok(m.t, s.Fill(m.t.Context(), token, m.view()))
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
