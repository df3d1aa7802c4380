package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/crypto/bcrypt"

	"meterline/command"
	"meterline/simulator"
	"meterline/testkit"
)

// programs builds the programs once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "meterline-bin-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	out, err := exec.Command("go", "build", "-o", dir, "meterline/cmd/backend", "meterline/cmd/gateway", "meterline/cmd/simulator").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	passwordCost = bcrypt.MinCost
	status := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(status)
}

// builtIn is where programs has built; "" when no test wanted any. It is written there, and read when all tests are over.
var builtIn string

// estate is a gateway and a backend as processes of their own, on a real PostgreSQL and a real Redis.
type estate struct {
	*house
	bin      string
	uplink   string // which log the gateway appends to; backends need not be told
	env      []string
	logs     io.Writer        // what the programs log
	said     *testkit.Journal // the same
	db       *sql.DB
	redis    *redis.Client
	server   *testkit.RedisHandle
	gateway  *exec.Cmd
	backend  *exec.Cmd
	mqttPort string
	httpPort string
	edgeHTTP string // host:port of the gateway's health and metrics
}

func newEstate(t *testing.T, uplink string) *estate {
	t.Helper()
	return newEstateOn(t, uplink, testkit.Postgres(t), testWriter{t})
}

func newEstateOn(t *testing.T, uplink, url string, logs io.Writer, env ...string) *estate {
	t.Helper()
	server := testkit.RedisPrivate(t)
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	said := &testkit.Journal{}
	e := &estate{
		bin: bin, uplink: uplink, logs: io.MultiWriter(logs, said), said: said, mqttPort: freePort(t), httpPort: freePort(t), server: server, edgeHTTP: "127.0.0.1:" + freePort(t),
		env: append(append(os.Environ(), "METERLINE_DATABASE_URL="+url, "METERLINE_REDIS_URL=redis://"+server.Addr+"/0"), env...),
	}
	e.house = &house{&standalone{http: "http://127.0.0.1:" + e.httpPort, mqtt: "127.0.0.1:" + e.mqttPort}, t}
	if e.db, err = sql.Open("postgres", url); err != nil {
		t.Fatal(err)
	}
	e.redis = redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { _, _ = e.db.Close(), e.redis.Close() })
	e.once("migrate")
	e.token = strings.TrimSpace(e.once("token", "create", "--tenant", "acme", "--scopes", "admin"))
	e.startGateway()
	e.startBackend()
	return e
}

// freePort is a port of 127.0.0.1 that a program of the test listens on later.
func freePort(t *testing.T) string {
	t.Helper()
	address, err := testkit.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	return port
}

// once runs a subcommand of backend to its end and gives its standard output.
func (e *estate) once(args ...string) string {
	e.t.Helper()
	c := exec.Command(filepath.Join(e.bin, "backend"), args...)
	var stderr bytes.Buffer
	c.Env, c.Stderr = e.env, &stderr
	out, err := c.Output()
	if err != nil {
		e.t.Fatalf("backend %v: %v: %s", args, err, stderr.String())
	}
	return string(out)
}

func (e *estate) start(program string, args ...string) *exec.Cmd {
	e.t.Helper()
	c := exec.Command(filepath.Join(e.bin, program), args...)
	c.Env, c.Stderr = e.env, e.logs
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { kill(c) })
	return c
}

// kill is kill -9, of a process that this test started.
func kill(c *exec.Cmd) {
	_ = c.Process.Kill()
	_ = c.Wait()
}

func (e *estate) startGateway() {
	e.t.Helper()
	e.gateway = e.startGatewayWith("g1", e.mqtt, e.edgeHTTP)
}

func (e *estate) startGatewayAt(id, address string) *exec.Cmd {
	e.t.Helper()
	return e.startGatewayWith(id, address, "127.0.0.1:0")
}

func (e *estate) startGatewayWith(id, address, http string) *exec.Cmd {
	e.t.Helper()
	c := e.start("gateway", "--id", id, "--mqtt", address, "--http", http, "--uplink", e.uplink)
	testkit.Eventually(e.t, waitMost, func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}, "the gateway accepts")
	return c
}

func (e *estate) startBackend() {
	e.t.Helper()
	e.backend = e.start("backend", "serve", "--http", "127.0.0.1:"+e.httpPort, "--request-rate", "0")
	testkit.Eventually(e.t, waitMost, func() bool {
		r, err := http.Get(e.http + "/readyz")
		if err != nil {
			return false
		}
		return r.Body.Close() == nil && r.StatusCode == 200
	}, "the backend is ready")
}

// simulated is a running fleet with a ledger of what it was acknowledged.
type simulated struct {
	fleet  *simulator.Fleet
	ledger *simulator.Ledger
	api    *simulator.API
	total  int
	stop   func() // of pushing
}

// simulate registers and runs IPCs with meters that answer quickly.
func (e *estate) simulate(ipcs, meters int) *simulated {
	e.t.Helper()
	return e.simulateAt(ipcs, meters, 10*time.Millisecond, 60*time.Millisecond)
}

// simulateAt is simulate with meters that answer within these times.
func (e *estate) simulateAt(ipcs, meters int, soonest, latest time.Duration) *simulated {
	e.t.Helper()
	api := simulator.NewAPI(e.http, e.token)
	sites := simulator.Layout{Prefix: "sim", IPCs: ipcs, MetersPerIPC: meters, BusesPerIPC: 2, Key: "k"}.Sites()
	if err := api.Install(e.t.Context(), sites, "sim"); err != nil {
		e.t.Fatal(err)
	}
	behaviour := simulator.DefaultBehaviour()
	behaviour.AnswerMin, behaviour.AnswerMax, behaviour.BusTimeoutRate = soonest, latest, 0
	s := &simulated{ledger: simulator.NewLedger(), api: api, total: ipcs * meters}
	var err error
	if s.fleet, err = simulator.New(simulator.Options{Brokers: []string{e.mqtt}, Sites: sites, Behaviour: behaviour, Ledger: s.ledger}); err != nil {
		e.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.fleet.Run(ctx) })
	e.t.Cleanup(func() { stop(); running.Wait(); api.Close() })
	select {
	case <-s.fleet.Ready():
	case <-time.After(waitMost):
		e.t.Fatal("the fleet did not connect")
	}
	return s
}

// readAll issues a command for the whole fleet.
func (e *estate) readAll(mode string) command.View {
	return e.issue(`{"kind":"meter.read","mode":"` + mode + `","targets":{"group":"sim"},"items":["1-0:1.8.0"],"timeout_s":300}`)
}

// until polls a command every 100 ms until done says so. The counts must be right in every poll: they sum up, what has ended
// never gets less, and they say what the listed operations say.
func (e *estate) until(id command.ID, done func(command.View) bool) command.View {
	e.t.Helper()
	ended, newest := 0, int64(0)
	var v command.View
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); <-tick.C {
		a, err := e.poll(id)
		if err != nil {
			continue // the backend is away
		}
		if now := a.Counts.Total - a.Counts.Open(); a.Version < newest && now < ended {
			e.redisWasSlow(fmt.Sprintf("%d had ended, now only %d, in version %d after %d", ended, now, a.Version, newest))
			continue
		}
		newest = max(newest, a.Version)
		if v = a; v.Counts.Total > len(v.Operations) {
			v.Operations = nil // only the first 1000 are listed
		}
		if err := checkCounts(v, ended); err != nil {
			e.t.Fatal(err)
		}
		ended = v.Counts.Total - v.Counts.Open()
		if done(v) {
			return v
		}
	}
	e.t.Fatalf("not done in time: %+v", v.Counts)
	return v
}

// redisWasSlow is for what happens only when Redis has kept the backend waiting for half a second: a poll is answered from the
// record then, or refused while that is away, and the next one again from the live state, which may be behind for a moment.
func (e *estate) redisWasSlow(otherwise string) {
	e.t.Helper()
	testkit.Eventually(e.t, waitMost, func() bool { return strings.Contains(e.said.Text(), "live state is behind") }, "the backend to say why: "+otherwise)
}

func (e *estate) poll(id command.ID) (v command.View, err error) {
	request, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.http+"/v1/commands/"+string(id), nil)
	if err != nil {
		return v, err
	}
	request.Header.Set("Authorization", "Bearer "+e.token)
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return v, err
	}
	defer r.Body.Close()
	if r.StatusCode != 200 {
		return v, fmt.Errorf("status %d", r.StatusCode)
	}
	return v, json.NewDecoder(r.Body).Decode(&v)
}

func checkCounts(v command.View, ended int) error {
	c := v.Counts
	if sum := c.Open() + c.Succeeded + c.Failed + c.Expired + c.Cancelled + c.Dead; sum != c.Total {
		return fmt.Errorf("the counts do not sum up: %+v", c)
	}
	if c.Total-c.Open() < ended {
		return fmt.Errorf("%d had ended, now only %d: %+v", ended, c.Total-c.Open(), c)
	}
	if v.Operations == nil {
		return nil
	}
	var listed command.Counts
	listed.Total = c.Total
	for _, o := range v.Operations {
		*listed.Of(o.State)++
	}
	if listed != c {
		return fmt.Errorf("counts %+v, but the operations say %+v", c, listed)
	}
	return nil
}

// verify checks that every acknowledged reading is stored exactly once and every operation has ended.
func (e *estate) verify(s *simulated, id command.ID) {
	e.t.Helper()
	// A result counts when it is appended: its command may have ended before the device has its PUBACK.
	testkit.Eventually(e.t, waitMost, func() bool { return s.ledger.Acked() >= s.total }, "all readings are acknowledged")
	v, err := s.ledger.Check(e.t.Context(), s.api, waitMost)
	if err != nil {
		e.t.Fatal(err)
	}
	if v.Losses != 0 || v.Duplicates != 0 || v.Checked < s.total {
		e.t.Fatalf("%+v", v)
	}
	var rows, twice, open int
	e.query(&rows, `SELECT count(*) FROM readings WHERE command_id = $1`, id)
	e.query(&twice, `SELECT count(*) FROM (SELECT 1 FROM readings WHERE command_id = $1 GROUP BY device_id, item HAVING count(*) > 1) AS x`, id)
	e.query(&open, `SELECT count(*) FROM operations WHERE command_id = $1 AND state <> 'succeeded'`, id)
	if rows != s.total || twice != 0 || open != 0 {
		e.t.Fatalf("%d readings of %d, %d twice, %d operations not succeeded", rows, s.total, twice, open)
	}
}

func (e *estate) query(into any, query string, args ...any) {
	e.t.Helper()
	if err := e.db.QueryRow(query, args...).Scan(into); err != nil {
		e.t.Fatal(err)
	}
}

// cached waits until the live state of a command is as it should be. It follows the record, and is filled by those who poll:
// should it not have answered one of them in time, by the next.
func (e *estate) cached(id command.ID, right func(map[string]string) bool) {
	e.t.Helper()
	testkit.Eventually(e.t, waitMost, func() error {
		if _, err := e.poll(id); err != nil {
			return err
		}
		hash, err := e.redis.HGetAll(e.t.Context(), "meterline:command:{"+string(id)+"}").Result()
		if err == nil && !right(hash) {
			err = fmt.Errorf("%d operations: %.1000v", len(hash), hash)
		}
		return err
	}, "the live state of "+string(id))
}

// In three processes a device played with the mosquitto clients receives a command and answers it.
func TestByHandInThreeProcesses(t *testing.T) {
	subscribe, publish := testkit.Program(t, "mosquitto_sub", "mosquitto-clients"), testkit.Program(t, "mosquitto_pub", "mosquitto-clients")
	e := newEstate(t, "redis")
	password := e.direct("d1")
	v := e.issue(read("d1", "realtime", `,"timeout_s":300`))
	auth := []string{"-h", "127.0.0.1", "-p", e.mqttPort, "-u", "d1", "-P", password, "-q", "1"}
	sub := exec.Command(subscribe, append(auth, "-i", "d1", "-t", "meterline/v1/d1/down/command", "-C", "1", "-W", "60")...)
	got, err := sub.Output()
	if err != nil {
		t.Fatal(err)
	}
	var m command.Message
	if err := json.Unmarshal(got, &m); err != nil || m.CommandID != v.ID || m.V != 1 || m.MessageType != "unicast" {
		t.Fatalf("%v: %s", err, got)
	}
	payload, _ := json.Marshal(result(v.ID, "d1", "1234.56", at))
	pub := exec.Command(publish, append(auth, "-i", "d1:pub", "-t", "meterline/v1/d1/up/result", "-m", string(payload))...)
	if out, err := pub.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o := e.become(v.ID, command.Succeeded)
	if o.Device.Name != "d1" || o.Readings[0].Value != "1234.56" {
		t.Fatalf("%+v", o)
	}
	e.cached(v.ID, func(hash map[string]string) bool {
		return strings.Contains(hash["d1"], `"value":"1234.56"`) && strings.Contains(hash["d1"], `"state":"succeeded"`)
	})
	var moves string
	e.query(&moves, `SELECT moves FROM operations WHERE command_id = $1 AND device_id = 'd1' AND state = 'succeeded'`, v.ID)
	if !strings.Contains(moves, `"sent"`) || !strings.Contains(moves, `"g1"`) {
		t.Fatal(moves)
	}
	var value string
	e.query(&value, `SELECT value FROM readings WHERE device_id = 'd1' AND command_id = $1`, v.ID)
	if value != "1234.56" {
		t.Fatal(value)
	}
}

// Whoever is killed in the middle, each reading is stored exactly once and each operation ends once.
func TestKills(t *testing.T) {
	for _, uplink := range []string{"redis", "store"} {
		t.Run(uplink, func(t *testing.T) {
			e := newEstate(t, uplink)
			s := e.simulate(20, 50)
			v := e.readAll("async")
			third := func(v command.View) bool { return v.Counts.Succeeded > s.total/3 }
			e.until(v.ID, third)
			kill(e.backend)
			e.startBackend()
			half := func(v command.View) bool { return v.Counts.Succeeded > s.total/2 }
			e.until(v.ID, half)
			kill(e.gateway)
			e.startGateway()
			v = e.until(v.ID, func(v command.View) bool { return v.Status != command.StatusRunning })
			if v.Status != command.StatusSucceeded {
				t.Fatalf("%+v", v.Counts)
			}
			e.verify(s, v.ID)
		})
	}
}

// Redis may be flushed at any moment without a wrong answer.
func TestFlush(t *testing.T) {
	e := newEstate(t, "store") // what was in a flushed uplink log is the one exception: here it is in SQL
	s := e.simulate(20, 50)
	v := e.readAll("realtime")
	e.until(v.ID, func(v command.View) bool { return v.Counts.Succeeded > s.total*3/10 })
	if err := e.redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	v = e.until(v.ID, func(v command.View) bool { return v.Status != command.StatusRunning })
	if v.Status != command.StatusSucceeded {
		t.Fatalf("%+v", v.Counts)
	}
	e.verify(s, v.ID)
	e.cached(v.ID, func(hash map[string]string) bool { return len(hash) == s.total })
}

// What a person mistypes is one line and exit status 2; what is not there is one line and 1.
func TestMistakesAreOneLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"serve", "--roles", "cook"}, 2, "--roles"},
		{[]string{"serve", "--id", "a b"}, 2, "--id"},
		{[]string{"serve", "--log-level", "loud"}, 2, "debug, info, warn or error"},
		{[]string{"serve", "--redis-url", "localhost"}, 2, "--redis-url"},
		{[]string{"serve", "--database-url", "mysql://x"}, 2, "--database-url"},
		{[]string{"serve", "--uplink", "paper"}, 2, "--uplink"},
		{[]string{"serve", "--max-attempts", "meter.wash=3"}, 2, "--max-attempts: \"meter.wash=3\": the kind must be one of"},
		{[]string{"serve", "--max-attempts", "device.ping=21"}, 2, "--max-attempts: \"device.ping=21\": must be 1 to 20"},
		{[]string{"serve", "--max-attempts", "0"}, 2, "--max-attempts"},
		{[]string{"serve", "--max-attempts", "3", "--max-attempts", "4"}, 2, "--max-attempts: \"4\": is given twice"},
		{[]string{"serve", "--retry-after", "device.ping="}, 2, "--retry-after: \"device.ping=\": must name at least one time"},
		{[]string{"serve", "--retry-after", "5s,,6s"}, 2, "--retry-after"},
		{[]string{"serve", "--retry-after=-5s"}, 2, "--retry-after"},
		{[]string{"serve", "--retry-after", strings.Repeat("1s,", 19) + "1s"}, 2, "--retry-after"},
		{[]string{"serve", "--run-timeout", "device.ping=1ms"}, 2, "--run-timeout"},
		{[]string{"standalone", "--run-timeout", "48h"}, 2, "--run-timeout"},
		{[]string{"standalone", "--anonymous", "all"}, 2, "--anonymous"},
		{[]string{"standalone", "--mqtt-tls", ":0"}, 2, "--tls-cert"},
		{[]string{"token", "create", "--tenant", "t", "--scopes", "everything"}, 2, "--scopes"},
		{[]string{"token", "create", "--scopes", "admin", "--tenant", ""}, 2, "--tenant: must be 1 to 64 characters"},
		{[]string{"token", "create", "--scopes", "admin", "--tenant", strings.Repeat("ä", 65)}, 2, "--tenant: must be 1 to 64 characters, not 65"},
		{[]string{"cook"}, 2, "cook"},
		{[]string{"serve", "--database-url", "postgres://127.0.0.1:1/x"}, 1, "127.0.0.1:1"},
		{[]string{"serve", "--database-url", "sqlite:" + filepath.Join(t.TempDir(), "none.db")}, 1, "backend migrate"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), c.args, &stdout, &stderr)
		line := stderr.String()
		if status != c.status || !strings.Contains(line, c.says) || strings.Count(line, "\n") != 1 {
			t.Errorf("%v: status %d, said %q", c.args, status, line)
		}
	}
}
