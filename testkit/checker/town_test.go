package checker_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"meterline/testkit"
	"meterline/testkit/checker"
	"meterline/testkit/history"
	"meterline/testkit/load"
)

// programs builds the programs once, so that they can be broken.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "meterline-bin-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-tags", "faults", "-o", dir, "meterline/cmd/backend", "meterline/cmd/gateway").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

var built bool

func TestMain(m *testing.M) {
	status := m.Run()
	if built {
		dir, _ := programs()
		_ = os.RemoveAll(dir)
	}
	os.Exit(status)
}

// town is two gateways and two backends over one PostgreSQL and one Redis, under load.
type town struct {
	t        *testing.T
	bin      string
	dir      string // of the history
	plan     string // the file of faults, of all processes
	env      []string
	db       string
	redis    *testkit.RedisHandle
	tenants  []load.Tenant
	gateways []*node
	backends []*node
	load     *load.Load
	broken   bool // on purpose: what does not end is for the checker to tell
}

// node is a process that can be killed and started again at the same addresses.
type node struct {
	town *town
	args []string
	http string // host:port
	mqtt string
	run  *exec.Cmd
}

func newTown(t *testing.T, uplink string, gateways, backends int) *town {
	t.Helper()
	testkit.Postgres(t) // skips where there is none, before anything is built
	built = true
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, bin: bin, dir: filepath.Join(t.TempDir(), "history"), plan: filepath.Join(t.TempDir(), "faults.json"),
		db: testkit.Postgres(t), redis: testkit.RedisPrivate(t)}
	w.env = append(os.Environ(), "METERLINE_DATABASE_URL="+w.db, "METERLINE_REDIS_URL="+w.redisURL(), "METERLINE_FAULTS="+w.plan)
	w.once("migrate")
	for _, tenant := range []string{"acme", "bolt"} {
		w.tenants = append(w.tenants, load.Tenant{Name: tenant, Token: w.once("token", "create", "--tenant", tenant, "--scopes", "admin")})
	}
	for i := range gateways {
		n := &node{town: w, http: freeAddress(t), mqtt: freeAddress(t)}
		n.args = []string{"gateway", "--id", fmt.Sprintf("g%d", i+1), "--mqtt", n.mqtt, "--http", n.http, "--uplink", uplink}
		w.gateways = append(w.gateways, n)
	}
	for range backends {
		n := &node{town: w, http: freeAddress(t)}
		n.args = []string{"backend", "serve", "--http", n.http, "--request-rate", "0"}
		w.backends = append(w.backends, n)
	}
	return w
}

func (w *town) redisURL() string { return "redis://" + w.redis.Addr + "/0" }

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// once runs a subcommand of backend and gives what it prints.
func (w *town) once(args ...string) string {
	w.t.Helper()
	c := exec.Command(filepath.Join(w.bin, "backend"), args...)
	var stderr bytes.Buffer
	c.Env, c.Stderr = w.env, &stderr
	out, err := c.Output()
	if err != nil {
		w.t.Fatalf("backend %v: %v: %s", args, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// launch starts the process; ready waits for it.
func (n *node) launch() {
	n.town.t.Helper()
	c := exec.Command(filepath.Join(n.town.bin, n.args[0]), n.args[1:]...)
	c.Env = n.town.env
	if os.Getenv("METERLINE_TEST_LOGS") != "" {
		c.Stderr = os.Stderr
	}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		n.town.t.Fatal(err)
	}
	n.run = c
	n.town.t.Cleanup(func() { _, _ = c.Process.Kill(), c.Wait() })
}

func (n *node) ready() {
	n.town.t.Helper()
	testkit.Eventually(n.town.t, 20*time.Second, func() bool {
		r, err := http.Get("http://" + n.http + "/readyz")
		if err != nil {
			return false
		}
		return r.Body.Close() == nil && r.StatusCode == 200
	}, n.args[0]+" is ready")
}

// kill is kill -9, noted in the history, with the start that follows.
func (n *node) kill(id string) {
	n.town.t.Helper()
	name := "kill " + n.args[0]
	h := n.town.load.History()
	h.Add(history.Event{Actor: "test", Kind: history.Break, Phase: history.Invoke, ID: id, Fault: &history.Fault{Name: name, Target: n.http}})
	if err := n.run.Process.Kill(); err != nil {
		n.town.t.Fatal(err)
	}
	err := n.run.Wait()
	h.Add(history.Event{Actor: "test", Kind: history.Break, Phase: history.OK, ID: id, Fault: &history.Fault{Name: name, Evidence: fmt.Sprint(err)}})
	n.launch()
	n.ready()
	h.Add(history.Event{Actor: "test", Kind: history.Heal, Phase: history.OK, ID: id, Fault: &history.Fault{Name: name}})
}

func (w *town) nodes() []*node { return slices.Concat(w.gateways, w.backends) }

// begin starts everything, and then the load.
func (w *town) begin(change func(*load.Options)) {
	w.t.Helper()
	o := load.Options{Tenants: w.tenants, Seed: 1, History: w.dir, IPCs: 3, MetersPerIPC: 6, Direct: 4, Clients: 2, Readings: 600,
		Think: 150 * time.Millisecond, Deadline: 8 * time.Second, Lies: 200 * time.Millisecond, Cuts: 500 * time.Millisecond}
	for _, n := range w.nodes() {
		n.launch()
	}
	for _, n := range w.nodes() {
		n.ready()
	}
	for _, n := range w.gateways {
		o.MQTT = append(o.MQTT, n.mqtt)
	}
	for _, n := range w.backends {
		o.API = append(o.API, "http://"+n.http)
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	var err error
	if w.load, err = load.Start(ctx, o); err != nil {
		w.t.Fatal(err)
	}
}

// judge stops the load and checks the run.
func (w *town) judge() checker.Report {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	stopping := time.Now()
	if err := w.load.Stop(ctx); err != nil && !w.broken {
		w.t.Error(err)
	}
	o := checker.Options{History: w.dir, DB: w.db, Redis: w.redisURL(), Grace: 5 * time.Second, Settle: time.Second}
	for _, n := range w.nodes() {
		o.Metrics = append(o.Metrics, "http://"+n.http+"/metrics")
	}
	r, err := checker.Check(ctx, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("stopped and judged in %s (%s of it judging)\n%s%s", time.Since(stopping), r.Took, checker.Head, r.Row(w.t.Name()))
	return r
}
