package cluster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/fault"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit"
	"meterline/testkit/cluster"
)

const patience = 2 * time.Minute

// stage is a cluster with a fleet.
type stage struct {
	*testing.T
	*cluster.Cluster
	fleet *simulator.Fleet
	api   *simulator.API
}

func start(t *testing.T, o cluster.Options) *stage {
	t.Helper()
	c, err := cluster.Start(t.Context(), o)
	testkit.Need(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stage{T: t, Cluster: c}
}

// simulate connects IPCs, each to any of the gateways, that answer quickly.
func (s *stage) simulate(ipcs, meters int) {
	s.Helper()
	s.api = simulator.NewAPI(s.API()[0], s.Token)
	sites := simulator.Layout{Prefix: "sim", IPCs: ipcs, MetersPerIPC: meters, BusesPerIPC: 2, Key: "k"}.Sites()
	if err := s.api.Install(s.Context(), sites, "sim"); err != nil {
		s.Fatal(err)
	}
	behaviour := simulator.DefaultBehaviour()
	behaviour.AnswerMin, behaviour.AnswerMax, behaviour.BusTimeoutRate = 5*time.Millisecond, 20*time.Millisecond, 0
	var err error
	if s.fleet, err = simulator.New(simulator.Options{Brokers: s.MQTT(), Sites: sites, Behaviour: behaviour}); err != nil {
		s.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.fleet.Run(ctx) })
	s.Cleanup(func() { stop(); running.Wait(); s.api.Close() })
	select {
	case <-s.fleet.Ready():
	case <-time.After(patience):
		s.Fatal("the fleet did not connect")
	}
}

// read reads all meters and says how long that took.
func (s *stage) read() time.Duration {
	s.Helper()
	began := time.Now()
	v, err := s.api.Issue(s.Context(), simulator.Order{Kind: "meter.read", Mode: "realtime", Targets: command.Selector{Group: "sim"}, Items: []meterread.Item{"1-0:1.8.0"}, TimeoutS: patience.Seconds()}, "")
	if err != nil {
		s.Fatal(err)
	}
	testkit.Eventually(s, patience, func() error {
		v, err := s.api.Command(s.Context(), v.ID)
		if err != nil {
			return err
		}
		if v.Counts.Succeeded != v.Counts.Total || v.Counts.Total == 0 {
			return fmt.Errorf("%+v", v.Counts)
		}
		return nil
	}, "all meters are read")
	took := time.Since(began)
	s.Logf("all meters are read after %v", took.Round(time.Millisecond))
	return took
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// shares waits until the partitions are shared so and says how long that took.
func (s *stage) shares(want map[string]int) time.Duration {
	s.Helper()
	ctx, stop := context.WithTimeout(s.Context(), patience)
	defer stop()
	began := time.Now()
	s.must(s.WaitShares(ctx, want))
	took := time.Since(began)
	s.Logf("shared as %v after %v", want, took.Round(time.Millisecond))
	return took
}

// replacedWithin is how soon owners that died are replaced.
const replacedWithin = 10 * time.Second

// Several of each: partitions are shared fairly, move to the living and back, and commands reach every device by whichever
// gateway it is connected to.
func TestBackendsAndGatewaysComeAndGo(t *testing.T) {
	s := start(t, cluster.Options{Build: cluster.Build{Faults: true}})
	s.shares(map[string]int{"backend-1": 8, "backend-2": 8})
	s.simulate(8, 5)
	s.read()
	pulse := testkit.StartPulse(t)

	s.must(s.Backends[1].Kill())
	if took := s.shares(map[string]int{"backend-1": 16}); took > pulse.Limit(replacedWithin) {
		t.Errorf("the partitions of a killed owner had another after %v", took)
	}
	s.read()
	s.must(s.Backends[1].Start())
	if took := s.shares(map[string]int{"backend-1": 8, "backend-2": 8}); took > pulse.Limit(replacedWithin) {
		t.Errorf("the newcomer had its share after %v", took)
	}
	s.read()

	s.must(s.Gateways[0].Kill())
	if took := s.read(); took > pulse.Limit(20*time.Second) {
		t.Errorf("with a gateway less it took %v to read all", took)
	}
	s.must(s.Gateways[0].Start())
	s.must(s.Gateways[1].Stop())
	if took := s.read(); took > pulse.Limit(20*time.Second) {
		t.Errorf("with the other gateway gone it took %v to read all", took)
	}
	if s.Gateways[1].PID() != 0 || s.Gateways[0].PID() == 0 {
		t.Error("the wrong gateway is down")
	}
}

// One backend answers HTTP alone, another works alone, and each learns of the other's doing.
func TestRolesApart(t *testing.T) {
	s := start(t, cluster.Options{Gateways: 1, Roles: []string{"api", "work"}, Uplink: "store", Build: cluster.Build{Faults: true}})
	s.shares(map[string]int{"backend-1": 0, "backend-2": 16})
	if len(s.API()) != 1 {
		t.Fatalf("the API is at %v", s.API())
	}
	s.simulate(2, 5)
	pulse := testkit.StartPulse(t)
	if took := s.read(); took > pulse.Limit(5*time.Second) {
		t.Errorf("it took %v to read ten meters", took)
	}
}

// A process that is armed is hit, and says so; what is not armed does nothing.
func TestArm(t *testing.T) {
	s := start(t, cluster.Options{Gateways: 1, Backends: 1, Build: cluster.Build{Faults: true}, Direct: true})
	b := s.Backends[0]
	pid := b.PID()
	s.must(b.Arm(fault.Plan{Points: []fault.Armed{{ID: "one", Point: fault.HoldRenewed, Action: fault.Kill}}}))
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	s.must(b.WaitDown(ctx))
	hits, err := b.Hits()
	if err != nil || len(hits) != 1 || hits[0].ID != "one" || hits[0].Point != fault.HoldRenewed || hits[0].PID != pid {
		t.Errorf("%+v, %v", hits, err)
	}
	s.must(b.Arm(fault.Plan{}))
	s.must(b.Start())
	s.shares(map[string]int{"backend-1": 16})
}
