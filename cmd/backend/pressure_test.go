package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/simulator"
	"meterline/testkit"
	"meterline/uplink"
)

// The faults of these tests last so long.
const faultFor = 10 * time.Second

// pushing runs direct meters that hand in readings nobody asked for, four a second each.
func (e *estate) pushing(meters int) *simulated {
	e.t.Helper()
	api := simulator.NewAPI(e.http, e.token)
	sites := simulator.Layout{Prefix: "push", Direct: meters, Key: "k"}.Sites()
	if err := api.Install(e.t.Context(), sites, "push"); err != nil {
		e.t.Fatal(err)
	}
	behaviour := simulator.DefaultBehaviour()
	behaviour.PushEvery, behaviour.AckTimeout, behaviour.RetryMax = 250*time.Millisecond, 8*time.Second, 2*time.Second
	s := &simulated{ledger: simulator.NewLedger(), api: api, total: meters}
	var err error
	if s.fleet, err = simulator.New(simulator.Options{Brokers: []string{e.mqtt}, Sites: sites, Behaviour: behaviour, Ledger: s.ledger}); err != nil {
		e.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.fleet.Run(ctx) })
	s.stop = sync.OnceFunc(func() { stop(); running.Wait() })
	e.t.Cleanup(func() { s.stop(); api.Close() })
	s.acks(e.t, "readings are acknowledged before the fault", 5*meters)
	return s
}

// acks waits for so many more readings to be acknowledged.
func (s *simulated) acks(t *testing.T, what string, more int) {
	t.Helper()
	from := s.ledger.Acked()
	testkit.Eventually(t, waitMost, func() bool { return s.ledger.Acked() >= from+more }, what)
}

// settled waits until what was under way is answered, and gives how many readings were acknowledged until then: nothing
// comes in twenty looks, a tenth of a second apart. A machine that stands still between two of them has shown nothing.
func (s *simulated) settled(t *testing.T, what string) (acked int) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for quiet := 0; quiet < 20; {
		<-tick.C
		quiet++
		if now := s.ledger.Acked(); now != acked {
			acked, quiet = now, 0
		}
		if time.Since(began) > waitMost {
			t.Errorf("%s: readings are acknowledged all the time", what)
			return acked
		}
	}
	return acked
}

// metric sums up a metric over its labels, or is the one with the labels that the name has; -1 when it cannot be had.
func (e *estate) metric(address, name string) (sum float64) {
	client := http.Client{Timeout: 5 * time.Second}
	a, err := client.Get("http://" + strings.TrimPrefix(address, "http://") + "/metrics")
	if err != nil {
		return -1
	}
	defer a.Body.Close()
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		if found, _, _ := strings.Cut(key, "{"); found == name || key == name {
			v, _ := strconv.ParseFloat(value, 64)
			sum += v
		}
	}
	return sum
}

// bounded runs the fault and looks at the gateway's memory and goroutines while it lasts.
func (e *estate) bounded(what string, during func(<-chan time.Time)) {
	e.t.Helper()
	var goroutines, memory float64
	testkit.Eventually(e.t, waitMost, func() bool {
		goroutines, memory = e.metric(e.edgeHTTP, "go_goroutines"), e.metric(e.edgeHTTP, "process_resident_memory_bytes")
		return goroutines > 0 && memory > 0
	}, "the gateway's metrics")
	most, mostMemory := goroutines, memory
	over := time.After(faultFor)
	stop, looked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(looked)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				most = max(most, e.metric(e.edgeHTTP, "go_goroutines"))
				mostMemory = max(mostMemory, e.metric(e.edgeHTTP, "process_resident_memory_bytes"))
			}
		}
	}()
	during(over)
	close(stop)
	<-looked
	e.t.Logf("%s: gateway's goroutines %.0f, at most %.0f; memory %.1f MiB, at most %.1f MiB", what, goroutines, most, memory/(1<<20), mostMemory/(1<<20))
	if most > 3*goroutines+200 || mostMemory > memory+64<<20 {
		e.t.Errorf("%s: the gateway is not bounded", what)
	}
}

// inOrder stops the load, waits until the backlog is gone, and compares the record with what was acknowledged. Rows of a
// device were written in the order in which it read.
func (e *estate) inOrder(s *simulated) {
	e.t.Helper()
	s.stop()
	v, err := s.ledger.Check(e.t.Context(), s.api, waitMost)
	if err != nil || v.Losses != 0 || v.Duplicates != 0 || v.Checked == 0 {
		e.t.Fatalf("%v: %+v", err, v)
	}
	var disorder int
	e.query(&disorder, `
		SELECT count(*) FROM (
			SELECT xmin::text::bigint AS x, lag(xmin::text::bigint) OVER (PARTITION BY device_id ORDER BY read_at) AS before
			FROM readings) AS r WHERE x < before`)
	if disorder != 0 {
		e.t.Errorf("%d readings were stored before older ones of their device", disorder)
	}
}

// unacked lets a server stand still: nothing is acknowledged meanwhile, and the gateway counts that it could not.
func (e *estate) unacked(s *simulated, what string, server interface {
	Pause()
	Resume()
}, counted string) {
	e.t.Helper()
	e.bounded(what, func(over <-chan time.Time) {
		server.Pause()
		resume := sync.OnceFunc(server.Resume)
		defer resume()
		acked := s.settled(e.t, what)
		<-over
		if now := s.settled(e.t, what); now != acked { // however long it took the first time
			e.t.Errorf("%s: %d readings were acknowledged meanwhile", what, now-acked)
		}
		testkit.Eventually(e.t, waitMost, func() bool { return e.metric(e.edgeHTTP, counted) >= 1 }, what+": "+counted)
	})
}

// TestRedisStandsStill: while the log cannot be written nothing is acknowledged and nothing piles up; then all of it comes.
func TestRedisStandsStill(t *testing.T) {
	e := newEstate(t, "redis")
	s := e.pushing(60)
	e.unacked(s, "Redis stands still", e.server, "meterline_mqtt_append_failures_total")
	s.acks(t, "readings are acknowledged again by themselves", 10*s.total)
	e.inOrder(s)
}

// mutations are calls that cannot be answered without a commit.
var mutations = []struct{ method, path, body string }{
	{"POST", "/v1/commands", `{"kind":"meter.read","mode":"async","targets":{"device_ids":["push-direct-00001"]},"items":["1-0:1.8.0"]}`},
	{"POST", "/v1/commands/{id}/cancel", ""},
	{"POST", "/v1/commands/{id}/retry", ""},
	{"POST", "/v1/devices", `{"id":"new","name":"new","kind":"direct"}`},
	{"PATCH", "/v1/devices/push-direct-00001", `{"name":"x"}`},
	{"DELETE", "/v1/devices/push-direct-00001", ""},
	{"POST", "/v1/devices/push-direct-00001/credentials", ""},
	{"POST", "/v1/groups", `{"name":"g"}`},
	{"PATCH", "/v1/groups/push", `{"description":"x"}`},
	{"DELETE", "/v1/groups/push", ""},
	{"PUT", "/v1/groups/push/devices", `{"device_ids":["push-direct-00001"]}`},
	{"DELETE", "/v1/groups/push/devices", `{"device_ids":["push-direct-00001"]}`},
	{"POST", "/v1/dead-letters/1/replay", ""},
	{"POST", "/v1/dead-letters/1/discard", ""},
	{"POST", "/v1/tokens", `{"name":"t","scopes":["fleet:read"]}`},
	{"DELETE", "/v1/tokens/00000000-0000-7000-8000-000000000000", ""},
}

// refused checks that whatever needs the record is refused in time, with a time to come back, and that a command that is in
// the live state is still shown.
func (e *estate) refused(id command.ID) {
	e.t.Helper()
	pulse := testkit.StartPulse(e.t)
	for _, m := range mutations {
		began := time.Now()
		request, err := http.NewRequestWithContext(e.t.Context(), m.method, e.http+strings.ReplaceAll(m.path, "{id}", string(id)), strings.NewReader(m.body))
		if err != nil {
			e.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+e.token)
		if m.body != "" {
			kind := "application/json"
			if m.method == "PATCH" {
				kind = "application/merge-patch+json"
			}
			request.Header.Set("Content-Type", kind)
		}
		a, err := http.DefaultClient.Do(request)
		if err != nil {
			e.t.Errorf("%s %s: %v", m.method, m.path, err)
			continue
		}
		_ = a.Body.Close()
		if took := time.Since(began); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" || took > pulse.Limit(6*time.Second) {
			e.t.Errorf("%s %s: %d, Retry-After %q, after %v", m.method, m.path, a.StatusCode, a.Header.Get("Retry-After"), took)
		}
	}
	testkit.Eventually(e.t, waitMost, func() error { // a poll is refused when Redis has not answered within half a second
		v, err := e.poll(id)
		if err == nil && v.ID != id {
			err = fmt.Errorf("%s is shown", v.ID)
		}
		return err
	}, "a poll of a command that is in the live state")
}

// TestRecordAway: while PostgreSQL stands still, or is gone, uplinks are acknowledged and wait in Redis, calls that need it are
// refused, and the backlog can be seen; then it drains in order.
func TestRecordAway(t *testing.T) {
	const oldest = `meterline_uplink_log_oldest_seconds{log="redis"}` // the other log cannot be looked at meanwhile
	for what, fault := range map[string]struct{ begin, end func(*testkit.PostgresHandle) }{
		"stands still": {(*testkit.PostgresHandle).Pause, (*testkit.PostgresHandle).Resume},
		"stopped":      {func(p *testkit.PostgresHandle) { p.Stop() }, func(p *testkit.PostgresHandle) { p.Start() }},
	} {
		t.Run(what, func(t *testing.T) {
			server := testkit.PostgresPrivate(t)
			e := newEstateOn(t, "redis", server.URL, testWriter{t})
			s := e.pushing(60)
			v := e.issue(`{"kind":"meter.read","mode":"async","targets":{"device_ids":["push-direct-00001"]},"items":["1-0:1.8.0"],"timeout_s":600}`)
			e.until(v.ID, func(v command.View) bool { return v.Status != command.StatusRunning })
			e.bounded("PostgreSQL "+what, func(over <-chan time.Time) {
				fault.begin(server)
				end := sync.OnceFunc(func() { fault.end(server) })
				defer end()
				e.refused(v.ID)
				s.acks(t, "readings are acknowledged without the record", 10*s.total)
				testkit.Eventually(t, waitMost, func() bool { return e.metric(e.http, oldest) > 3 }, "the backlog gets old")
				<-over
			})
			testkit.Eventually(t, waitMost, func() bool {
				age := e.metric(e.http, oldest)
				return age >= 0 && age < 2
			}, "the backlog has drained")
			e.inOrder(s)
		})
	}
}

// TestNoBackend: uplinks are acknowledged and wait, whether no backend is there or one that stands still now and then.
func TestNoBackend(t *testing.T) {
	e := newEstate(t, "redis")
	s := e.pushing(60)
	e.bounded("no backend", func(over <-chan time.Time) {
		kill(e.backend)
		s.acks(t, "readings are acknowledged without a backend", 10*s.total)
		<-over
	})
	e.startBackend()
	s.acks(t, "readings are acknowledged while the backlog drains", 10*s.total)
	e.inOrder(s)
}

// TestLogInTheRecordAway: with the log in PostgreSQL nothing is acknowledged while that is away, and devices come back.
func TestLogInTheRecordAway(t *testing.T) {
	server := testkit.PostgresPrivate(t)
	e := newEstateOn(t, "store", server.URL, testWriter{t})
	s := e.pushing(60)
	e.unacked(s, "the log in PostgreSQL stands still", server, "meterline_mqtt_clients_stopped_total")
	s.acks(t, "readings are acknowledged again by themselves", 10*s.total)
	e.inOrder(s)
}

// TestAnswersOvertakeABacklog: who reads in real time does not wait for the backlog of the same partitions, and what was
// overtaken is stored all the same, once and in order.
func TestAnswersOvertakeABacklog(t *testing.T) {
	const backlog, away = 40_000, 200
	e := newEstate(t, "redis")
	s := e.simulate(16, 1) // 16 IPCs with a meter each, in many partitions
	if err := s.api.Install(t.Context(), simulator.Layout{Prefix: "away", Direct: away, Key: "k"}.Sites(), "away"); err != nil {
		t.Fatal(err)
	}
	kill(e.backend)
	log := uplink.NewRedis(e.redis, uplink.Options{})
	batch := make([]command.Uplink, 0, 1000)
	for n := range backlog {
		id := fleet.DeviceID(fmt.Sprintf("away-direct-%05d", n%away+1))
		payload := fmt.Sprintf(`{"v":1,"message_id":"%d","readings":[{"device_id":%q,"item":"1-0:1.8.0","value":"%d","unit":"kWh","read_at":%q}]}`,
			n, id, n, time.Unix(1_700_000_000+int64(n/away), 0).UTC().Format(time.RFC3339))
		batch = append(batch, command.Uplink{Partition: fleet.Partition(id, 16), Endpoint: id, Epoch: 1, Gateway: "g0/x",
			Kind: command.UplinkReadings, Payload: []byte(payload)})
		if len(batch) == cap(batch) {
			if err := log.Append(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	e.startBackend()
	v := e.readAll("realtime")
	e.until(v.ID, func(v command.View) bool { return v.Status == command.StatusSucceeded })
	stored := func() (n int) {
		e.query(&n, `SELECT count(*) FROM readings WHERE device_id LIKE 'away-%'`)
		return n
	}
	testkit.Eventually(t, 2*time.Minute, func() bool { return stored() == backlog }, "the backlog has drained")
	e.verify(s, v.ID)
	// The record tells: by the time that the test sees the answers the backlog may have drained.
	var after int
	e.query(&after, `
		SELECT count(*) FROM readings
		WHERE device_id LIKE 'away-%' AND xmin::text::bigint > (SELECT max(xmin::text::bigint) FROM readings WHERE command_id = $1)`, v.ID)
	if after == 0 {
		t.Error("the answers came after the backlog")
	}
	t.Logf("%d of %d readings of the backlog were stored after the answers", after, backlog)
	if n := e.metric(e.http, "meterline_uplinks_overtook_total"); n < 1 {
		t.Errorf("%v answers were read ahead", n)
	}
}
