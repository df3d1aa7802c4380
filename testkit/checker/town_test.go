package checker_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meterline/testkit"
	"meterline/testkit/checker"
	"meterline/testkit/cluster"
	"meterline/testkit/history"
	"meterline/testkit/load"
)

// town is a cluster whose processes can be broken, under load.
type town struct {
	*cluster.Cluster
	t       *testing.T
	dir     string // of the history
	tenants []load.Tenant
	load    *load.Load
	broken  bool // on purpose: what does not end is for the checker to tell
}

func newTown(t *testing.T, uplink string, gateways, backends int) *town {
	t.Helper()
	o := cluster.Options{Gateways: gateways, Backends: backends, Uplink: uplink, Build: cluster.Build{Faults: true}, Direct: true}
	if logs := os.Getenv("METERLINE_TEST_LOGS"); logs != "" {
		o.Dir = filepath.Join(logs, t.Name())
	}
	c, err := cluster.Start(t.Context(), o)
	testkit.Need(t, err)
	w := &town{Cluster: c, t: t, dir: filepath.Join(t.TempDir(), "history"), tenants: []load.Tenant{{Name: "acme", Token: c.Token}}}
	t.Cleanup(func() { w.must(c.Close()) })
	token, err := c.Backend(t.Context(), "token", "create", "--tenant", "bolt", "--scopes", "admin")
	w.must(err)
	w.tenants = append(w.tenants, load.Tenant{Name: "bolt", Token: strings.TrimSpace(token)})
	return w
}

func (w *town) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// kill is kill -9, noted in the history, with the start that follows.
func (w *town) kill(n *cluster.Node, id string) {
	w.t.Helper()
	name, pid, h := "kill "+n.Name, n.PID(), w.load.History()
	h.Add(history.Event{Actor: "test", Kind: history.Break, Phase: history.Invoke, ID: id, Fault: &history.Fault{Name: name, Target: n.HTTP}})
	w.must(n.Kill())
	h.Add(history.Event{Actor: "test", Kind: history.Break, Phase: history.OK, ID: id,
		Fault: &history.Fault{Name: name, Evidence: fmt.Sprintf("process %d is gone", pid)}})
	w.start(n)
	h.Add(history.Event{Actor: "test", Kind: history.Heal, Phase: history.OK, ID: id, Fault: &history.Fault{Name: name}})
}

// start starts nodes that are down, and returns when they are ready.
func (w *town) start(nodes ...*cluster.Node) {
	w.t.Helper()
	for _, n := range nodes {
		w.must(n.Start())
	}
	ctx, stop := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer stop()
	w.must(w.WaitReady(ctx))
}

// begin starts the load.
func (w *town) begin(change func(*load.Options)) {
	w.t.Helper()
	o := load.Options{Tenants: w.tenants, Seed: 1, History: w.dir, IPCs: 3, MetersPerIPC: 6, Direct: 4, Clients: 2, Readings: 600,
		Think: 150 * time.Millisecond, Deadline: 8 * time.Second, Lies: 200 * time.Millisecond, Cuts: 500 * time.Millisecond,
		MQTT: w.MQTT(), API: w.API()}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	var err error
	if w.load, err = load.Start(ctx, o); err != nil {
		w.t.Fatal(err)
	}
}

// judge stops the load and checks the run.
func (w *town) judge() checker.Report {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	stopping := time.Now()
	if err := w.load.Stop(ctx); err != nil && !w.broken {
		w.t.Error(err)
	}
	o := checker.Options{History: w.dir, DB: w.DatabaseURL, Redis: "redis://" + w.Redis.Addr + "/0", Grace: 5 * time.Second, Settle: time.Second,
		Metrics: w.Metrics()}
	for _, n := range w.Nodes() {
		if err := n.Ended(); err != nil && !w.broken {
			w.t.Error(err)
		}
	}
	r, err := checker.Check(ctx, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("stopped and judged in %s (%s of it judging)\n%s%s", time.Since(stopping), r.Took, checker.Head, r.Row(w.t.Name()))
	return r
}
