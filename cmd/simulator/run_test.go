package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/meterread"
	"meterline/mqtt"
	"meterline/simulator"
	"meterline/testkit"
)

func TestMain(m *testing.M) { testkit.NoGoroutineLeft(m) }

// plant is the smallest thing the simulator can be run against: a stock broker and an API that sends each command to its
// endpoints and keeps what they answer. It can be told to lose or to double readings that it has acknowledged.
type plant struct {
	mochi.HookBase
	server *mochi.Server
	broker string
	api    *httptest.Server

	mu       sync.Mutex // guards all below
	secrets  map[string]string
	devices  map[meterread.DeviceID]simulator.Registration
	commands map[string]*issued
	rows     []simulator.ReadingView
	known    map[string]bool
	stored   int
	lose     int             // every nth reading is not stored
	double   int             // every nth is stored twice
	pushing  map[string]bool // who hands in readings
}

type issued struct {
	targets  []meterread.DeviceID
	answered map[meterread.DeviceID]simulator.OperationView
}

// guests counts the connections of the broker, and lets nobody in any more once it was found empty.
type guests struct {
	*listeners.TCP
	mu     sync.Mutex
	there  int
	closed bool
}

// Serve implements listeners.Listener.
func (g *guests) Serve(establish listeners.EstablishFn) {
	g.TCP.Serve(func(id string, c net.Conn) error {
		if !g.enter() {
			return c.Close()
		}
		defer g.leave()
		return establish(id, c)
	})
}

func (g *guests) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.there++
	}
	return !g.closed
}

func (g *guests) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.there--
}

func (g *guests) gone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = g.there == 0
	return g.closed
}

func startPlant(t *testing.T) *plant {
	t.Helper()
	p := &plant{secrets: map[string]string{}, devices: map[meterread.DeviceID]simulator.Registration{},
		commands: map[string]*issued{}, known: map[string]bool{}, pushing: map[string]bool{}}
	p.server = mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	guest := &guests{TCP: tcp}
	for _, err := range []error{p.server.AddHook(p, nil), p.server.AddListener(guest), p.server.Serve()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.broker = tcp.Address()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/groups", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	mux.HandleFunc("POST /v1/devices/import", p.install)
	mux.HandleFunc("POST /v1/commands", p.issue)
	mux.HandleFunc("GET /v1/commands/{id}", p.poll)
	mux.HandleFunc("GET /v1/readings", p.readings)
	p.api = httptest.NewServer(mux)
	t.Cleanup(func() {
		p.api.Close()
		// mochi's Close deadlocks when a client comes or goes at that moment (a recursive read lock), so nobody must be there.
		testkit.Eventually(t, time.Minute, guest.gone, "the clients of the simulator have left")
		_ = p.server.Close()
	})
	return p
}

func (p *plant) ID() string { return "plant" }

func (p *plant) Provides(what byte) bool {
	return what == mochi.OnPublish || what == mochi.OnConnectAuthenticate || what == mochi.OnACLCheck
}

func (p *plant) OnACLCheck(*mochi.Client, string, bool) bool { return true }

func (p *plant) OnConnectAuthenticate(_ *mochi.Client, pk packets.Packet) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	secret, ok := p.secrets[string(pk.Connect.Username)]
	return ok && secret == string(pk.Connect.Password)
}

func (p *plant) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	_, channel, ok := mqtt.ParseUplinkTopic(pk.TopicName)
	if ok && channel == mqtt.Readings {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pushing[cl.ID] = true
	}
	if cl.Net.Inline || !ok || channel != mqtt.Result {
		return pk, nil
	}
	var m struct {
		Results []struct {
			CommandID string `json:"command_id"`
			simulator.OperationView
			Status string
		}
	}
	if json.Unmarshal(pk.Payload, &m) != nil {
		return pk, nil // garbage is acknowledged
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range m.Results {
		o := r.OperationView
		o.State = map[string]string{"ok": "succeeded"}[r.Status]
		if o.State == "" {
			o.State = "failed"
		}
		for i := range o.Readings {
			o.Readings[i].DeviceID, o.Readings[i].ReceivedAt = o.DeviceID, time.Now()
			p.store(o.Readings[i])
		}
		if c := p.commands[r.CommandID]; c != nil {
			c.answered[o.DeviceID] = o
		}
	}
	return pk, nil
}

func (p *plant) store(r simulator.ReadingView) {
	key := fmt.Sprint(r.DeviceID, r.Item, r.ReadAt.UnixMicro())
	if p.known[key] {
		return
	}
	p.known[key] = true
	p.stored++
	if p.lose > 0 && p.stored%p.lose == 0 {
		return
	}
	p.rows = append(p.rows, r)
	if p.double > 0 && p.stored%p.double == 0 {
		p.rows = append(p.rows, r)
	}
}

func (p *plant) install(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer good" {
		http.Error(w, `{"status":401,"code":"UNAUTHORIZED","title":"no such token"}`, http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		var d simulator.Registration
		if err := json.Unmarshal(s.Bytes(), &d); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		if d.EndpointID == "" {
			d.EndpointID = d.ID
		}
		p.devices[d.ID] = d
		p.secrets[string(d.ID)] = d.Secret
	}
}

func (p *plant) issue(w http.ResponseWriter, r *http.Request) {
	var o simulator.Order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	id := fmt.Sprintf("c-%d", len(p.commands))
	c := &issued{targets: o.Targets.DeviceIDs, answered: map[meterread.DeviceID]simulator.OperationView{}}
	p.commands[id] = c
	messages := map[meterread.DeviceID]*command.Message{}
	for _, target := range c.targets {
		d := p.devices[target]
		m := messages[d.EndpointID]
		if m == nil {
			m = &command.Message{V: 1, CommandID: command.ID(id), Kind: o.Kind, ExpiresAt: time.Now().Add(time.Minute), Attempt: 1, Items: o.Items}
			messages[d.EndpointID] = m
		}
		m.Targets = append(m.Targets, command.Target{DeviceID: target, Route: d.Route})
	}
	p.mu.Unlock()
	for endpoint, m := range messages {
		payload, _ := json.Marshal(m)
		_ = p.server.Publish(mqtt.CommandTopic(endpoint), payload, false, 1)
	}
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(p.view(id))
}

func (p *plant) count() (commands, pushing int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.commands), len(p.pushing)
}

func (p *plant) view(id string) simulator.CommandView {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.commands[id]
	v := simulator.CommandView{ID: command.ID(id), Status: "running", Counts: command.Counts{Total: len(c.targets)}, Errors: map[string]int{}}
	for _, o := range c.answered {
		v.Operations = append(v.Operations, o)
		if o.State == "succeeded" {
			v.Counts.Succeeded++
		} else {
			v.Counts.Failed++
		}
	}
	if v.Counts.Sent = len(c.targets) - len(c.answered); v.Counts.Sent == 0 {
		v.Status = "partial"
	}
	for _, target := range c.targets {
		if _, ok := c.answered[target]; !ok {
			v.Operations = append(v.Operations, simulator.OperationView{DeviceID: target, State: "sent"})
		}
	}
	return v
}

func (p *plant) poll(w http.ResponseWriter, r *http.Request) {
	_ = json.NewEncoder(w).Encode(p.view(r.PathValue("id")))
}

func (p *plant) readings(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var page struct {
		Items []simulator.ReadingView `json:"items"`
	}
	for _, row := range p.rows {
		if string(row.DeviceID) == r.URL.Query().Get("device_id") {
			page.Items = append(page.Items, row)
		}
	}
	_ = json.NewEncoder(w).Encode(page)
}

// quickly runs the program for a moment, with faults that need no second attempt. The moment lasts until there were enough
// commands for each of the faults: how many there are in a time is the machine's affair.
func quickly(t *testing.T, p *plant, more ...string) (int, string, string) {
	t.Helper()
	args := append([]string{"--broker=" + p.broker, "--api=" + p.api.URL, "--token=good", "--ipcs=2", "--meters-per-ipc=4", "--direct=3",
		"--answer-min=1ms", "--answer-max=3ms", "--bus-timeout=5ms", "--group-delay=5ms", "--rate=50", "--duration=0s", "--poll=10ms",
		"--fault=duplicate=0.2", "--fault=garbage=0.1", "--fault=error=0.1"}, more...)
	return runUntil(t, args, "commands", func() bool { n, _ := p.count(); return n >= 15 })
}

// runUntil runs the program, and interrupts it when what is waited for is so.
func runUntil(t *testing.T, args []string, what string, enough func() bool) (status int, stdout, stderr string) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	var out, errs strings.Builder
	var running sync.WaitGroup
	running.Go(func() { status = run(ctx, args, &out, &errs) })
	defer running.Wait()
	defer interrupt()
	testkit.Eventually(t, time.Minute, enough, what)
	interrupt()
	running.Wait()
	return status, out.String(), errs.String()
}

func TestCleanRun(t *testing.T) {
	p := startPlant(t)
	status, stdout, stderr := quickly(t, p, "--json", "--settle=1m") // it takes no longer than it has to
	var report simulator.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	if status != exitOK || stderr != "" {
		t.Errorf("status %d, %s", status, stderr)
	}
	if v := report.Check; v == nil || !v.Clean() || v.Checked == 0 || v.Checked != v.Stored || v.Devices != 11 {
		t.Errorf("check %+v", v)
	}
	l := report.Load
	if l == nil || l.Issued < 2 || l.Unfinished != 0 || l.Readings == 0 || l.Seen.Count == 0 || l.Operations != l.States.Succeeded+l.States.Failed {
		t.Errorf("load %+v", l)
	}
	if f := report.Fleet; f.Connected != 5 || f.Duplicates == 0 || f.Garbage == 0 || f.Errors == 0 || f.Journal != 0 {
		t.Errorf("fleet %+v", f)
	}
}

func TestLossesAndDuplicatesFailTheRun(t *testing.T) {
	for want, spoil := range map[string]func(*plant){
		"lost: ":      func(p *plant) { p.lose = 7 },
		"duplicate: ": func(p *plant) { p.double = 7 },
	} {
		p := startPlant(t)
		spoil(p)
		status, stdout, stderr := quickly(t, p, "--settle=100ms") // for so long what is lost is looked for
		if status != exitFault || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("%s status %d\n%s%s", want, status, stdout, stderr)
		}
	}
}

func TestUnreachable(t *testing.T) {
	p := startPlant(t)
	nowhere, err := testkit.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	for want, arg := range map[string]string{"reach broker": "--broker=" + nowhere, "connection refused": "--api=http://" + nowhere,
		"401 UNAUTHORIZED": "--token=bad"} {
		// kong takes the last value of a flag, brokers are added: so the good one goes.
		args := []string{"--broker=" + p.broker, "--api=" + p.api.URL, "--token=good"}
		for i, a := range args {
			if strings.HasPrefix(arg, a[:7]) {
				args[i] = arg
			}
		}
		var stdout, stderr strings.Builder
		status := run(t.Context(), args, &stdout, &stderr)
		if text := stderr.String(); status != exitFault || !strings.Contains(text, want) || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: status %d, %q", arg, status, text)
		}
	}
}

// A signal ends the run as the end of its duration does: with a report.
func TestInterruptedRunReports(t *testing.T) {
	p := startPlant(t)
	// Only a run whose fleet is connected reports: that is so when all of it has handed in readings.
	args := []string{"--broker=" + p.broker, "--api=" + p.api.URL, "--token=good", "--ipcs=1", "--direct=3", "--push-every=5ms", "--settle=1s"}
	status, stdout, stderr := runUntil(t, args, "readings of all endpoints", func() bool {
		_, pushing := p.count()
		return pushing == 4 && p.server.Info.Clone().MessagesReceived >= 20
	})
	// Readings nobody asked for are not kept by the plant: all are losses, which the run finds.
	if status != exitFault || !strings.Contains(stdout, "lost: ") || stderr != "" {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
}
