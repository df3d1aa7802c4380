package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/testkit"
)

// letter shows one dead letter.
func (h *house) letter(id string) command.DeadLetter {
	h.t.Helper()
	var l command.DeadLetter
	h.must("GET", "/v1/dead-letters/"+id, "").into(h.t, &l)
	return l
}

// lettersOf lists dead letters, newest first.
func (h *house) lettersOf(query string) []command.DeadLetter {
	h.t.Helper()
	var list struct{ Items []command.DeadLetter }
	h.must("GET", "/v1/dead-letters?limit=1000&"+query, "").into(h.t, &list)
	return list.Items
}

// handled waits until a replayed letter was handled again.
func (h *house) handled(id string) command.DeadLetter {
	h.t.Helper()
	var l command.DeadLetter
	testkit.Eventually(h.t, waitMost, func() bool { l = h.letter(id); return l.HandledAt != nil }, "the letter is handled again")
	return l
}

func (h *house) decide(as, body string, headers ...string) command.BulkDecision {
	h.t.Helper()
	var done command.BulkDecision
	h.must("POST", "/v1/dead-letters/"+as, body, headers...).into(h.t, &done)
	return done
}

// What is poison again is a dead letter again, linked to the first, and nothing replays it by itself; who did it is shown.
func TestPoisonAgainIsLinked(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	p.up("result", []byte("{\xff"))
	first := h.letters()[0]
	l := h.letter(first.ID)
	if l.Cause != "BAD_UTF8" || string(l.Payload) != "{\xff" || l.PayloadText != nil || l.Topic != "meterline/v1/d1/up/result" || l.EndpointID != "d1" ||
		l.Epoch == 0 || !strings.HasPrefix(l.Gateway, "standalone/") || l.ReceivedAt.IsZero() || l.Attempt != 1 || l.Decision != nil {
		t.Fatalf("%+v", l)
	}
	const at10 = 10
	statuses := make([]int, at10)
	var all sync.WaitGroup
	for i := range at10 {
		all.Go(func() {
			statuses[i] = h.call("POST", "/v1/dead-letters/"+first.ID+"/replay", "", "X-Request-ID", fmt.Sprint("shift-", i)).status
		})
	}
	all.Wait()
	replayed := map[int]int{}
	for _, s := range statuses {
		replayed[s]++
	}
	if replayed[200] != 1 || replayed[409] != at10-1 {
		t.Fatalf("replayed by ten at once: %v", statuses)
	}
	l = h.handled(first.ID)
	d := l.Decision
	if l.Status != command.LetterReplayed || l.Again != 1 || d == nil || d.TokenID == "" || d.TokenID != l.DecidedBy || d.TokenName != "admin" ||
		!strings.HasPrefix(d.RequestID, "shift-") || !strings.HasPrefix(d.RemoteAddr, "127.0.0.1:") || l.DecidedAt == nil {
		t.Fatalf("%+v of %+v", d, l)
	}
	for attempt := 2; attempt <= 3; attempt++ {
		again := h.lettersOf("parent_id=" + l.ID)
		if len(again) != 1 || again[0].Attempt != attempt || again[0].Status != command.LetterOpen || again[0].Cause != l.Cause || !again[0].ReceivedAt.Equal(l.ReceivedAt) {
			t.Fatalf("%+v", again)
		}
		h.must("POST", again[0].Links["replay"], "")
		l = h.handled(again[0].ID)
	}
	if n := len(h.letters()); n != 4 {
		t.Fatalf("%d letters", n)
	}
	if open := h.lettersOf("status=open"); len(open) != 1 || open[0].Attempt != 4 {
		t.Fatalf("%+v", open)
	}
	done := h.decide("discard", `{"cause":"BAD_UTF8"}`)
	if done.Letters != 1 || done.More || len(h.lettersOf("decision_id="+done.ID)) != 1 {
		t.Fatalf("%+v", done)
	}
	var causes struct{ Items []command.LetterCause }
	h.must("GET", "/v1/dead-letters/causes", "").into(t, &causes)
	if len(causes.Items) != 0 {
		t.Fatalf("%+v", causes)
	}
}

// What a device sent too early is stored, as of when it came, once it can be understood.
func TestReplayOfWhatCameTooEarly(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	var ipc struct{ Credentials struct{ Password string } }
	h.must("POST", "/v1/devices", `{"id":"ipc","kind":"ipc"}`).into(t, &ipc)
	p := h.play("ipc", ipc.Credentials.Password, false)
	p.up("readings", map[string]any{"v": 1, "message_id": "x", "readings": []any{map[string]any{
		"device_id": "m1", "item": "1-0:1.8.0", "value": "9.9", "unit": "kWh", "read_at": at.Format(time.RFC3339Nano)}}})
	l := h.lettersOf("device_id=m1")[0]
	h.must("POST", "/v1/devices", `{"id":"m1","kind":"meter","endpoint_id":"ipc","route":[{"meter":"1"}]}`)
	done := h.decide("replay", `{"endpoint_id":"ipc","cause":"UNKNOWN_DEVICE"}`)
	if done.Letters != 1 || done.Uplinks != 1 || done.More || done.Skipped != 0 {
		t.Fatalf("%+v", done)
	}
	if l = h.handled(l.ID); l.Again != 0 {
		t.Fatalf("%+v", l)
	}
	if got := h.stored("m1"); len(got) != 1 || got[0].Value != "9.9" || got[0].Late || !got[0].ReceivedAt.Equal(l.ReceivedAt) {
		t.Fatalf("stored %+v, letter received at %s", got, l.ReceivedAt)
	}
}

// The dead operations of one command become one new command, which succeeds; the key gives the same answer again.
func TestReplayOfDeadOperations(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	h := openHouse(t, data, func(o *command.WorkerOptions) { o.RunTimeout = command.ForAll(100 * time.Millisecond) })
	var ipc struct{ Credentials struct{ Password string } }
	h.must("POST", "/v1/devices", `{"id":"ipc","kind":"ipc"}`).into(t, &ipc)
	for _, m := range []string{"m1", "m2", "m3"} {
		h.must("POST", "/v1/devices", `{"id":"`+m+`","kind":"meter","endpoint_id":"ipc","route":[{"meter":"1"}]}`)
	}
	p := h.play("ipc", ipc.Credentials.Password, false)
	dead := h.issue(`{"kind":"meter.read","targets":{"device_ids":["m1","m2","m3"]},"items":["1-0:1.8.0"],"max_attempts":1}`)
	testkit.Eventually(t, waitMost, func() bool { return len(h.lettersOf("command_id="+string(dead.ID))) == 3 }, "the operations die")
	p.client.Disconnect(0)
	h.stack.Unwind()
	h = openHouse(t, data, nil) // with time to answer
	p = h.play("ipc", ipc.Credentials.Password, false)
	h.must("PATCH", "/v1/devices/m3", `{"enabled":false}`)
	done := h.decide("replay", `{"all":true}`, "Idempotency-Key", "k")
	if done.Letters != 2 || done.Operations != 2 || len(done.Commands) != 1 || done.More || done.Skipped != 1 {
		t.Fatalf("%+v", done)
	}
	a := h.must("POST", "/v1/dead-letters/replay", `{"all":true}`, "Idempotency-Key", "k")
	var same command.BulkDecision
	if a.into(t, &same); same.ID != done.ID || same.Letters != 2 || len(same.Commands) != 1 || a.header.Get("Idempotent-Replayed") != "true" {
		t.Fatalf("%+v", same)
	}
	if other := h.decide("replay", `{"all":true}`); other.Letters != 0 || other.Skipped != 1 {
		t.Fatalf("%+v", other)
	}
	c, _ := p.next(waitMost)
	if c.CommandID != done.Commands[0] || len(c.Targets) != 2 {
		t.Fatalf("%+v", c)
	}
	for _, m := range []string{"m1", "m2"} {
		p.up("result", result(c.CommandID, m, "5", at))
	}
	var v command.View
	h.must("GET", "/v1/commands/"+string(c.CommandID)+"?wait=60", "").into(t, &v)
	if v.Status != command.StatusSucceeded || v.ParentID == nil || *v.ParentID != dead.ID {
		t.Fatalf("%+v", v)
	}
	left := h.lettersOf("status=open")
	if len(left) != 1 || left[0].DeviceID != "m3" {
		t.Fatalf("%+v", left)
	}
	if a := h.call("POST", left[0].Links["replay"], ""); a.status != 422 || !strings.Contains(string(a.body), "disabled") {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

// Another tenant sees nothing of dead letters and decides none.
func TestDeadLettersOfAnotherTenant(t *testing.T) {
	t.Parallel()
	e := newEstate(t, "store")
	password := e.direct("d1")
	p := e.play("d1", password, false)
	p.up("event", []byte("rubbish"))
	testkit.Eventually(t, waitMost, func() bool { return len(e.letters()) == 1 }, "the letter is there")
	id := e.letters()[0].ID
	ours := e.token
	e.token = strings.TrimSpace(e.once("token", "create", "--tenant", "other", "--scopes", "admin"))
	for _, call := range [][2]string{{"GET", "/v1/dead-letters/" + id}, {"POST", "/v1/dead-letters/" + id + "/replay"}, {"POST", "/v1/dead-letters/" + id + "/discard"}} {
		if a := e.call(call[0], call[1], ""); a.status != 404 {
			t.Errorf("%s %s: %d %s", call[0], call[1], a.status, a.body)
		}
	}
	for _, as := range []string{"replay", "discard"} {
		for _, body := range []string{`{"all":true}`, `{"ids":["` + id + `"]}`} {
			if done := e.decide(as, body); done.Letters != 0 || done.More || done.Skipped != 0 {
				t.Errorf("%s %s: %+v", as, body, done)
			}
		}
	}
	for _, path := range []string{"/v1/dead-letters", "/v1/dead-letters/causes"} {
		if a := e.must("GET", path, ""); strings.TrimSpace(string(a.body)) != `{"items":[],"next_cursor":null}` {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	e.token = ours
	if l := e.letter(id); l.Status != command.LetterOpen {
		t.Errorf("%+v", l)
	}
}

// A device that floods fills its own bound alone; what is not kept is counted, and its tenant is told.
func TestAFloodOfPoisonIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *command.WorkerOptions) { o.MaxLetters = 5 })
	bad, good := h.play("d1", h.direct("d1"), false), h.play("d2", h.direct("d2"), false)
	began := time.Now().Truncate(time.Hour)
	for i := range 20 {
		bad.up("event", fmt.Appendf(nil, "rubbish %d", i))
	}
	good.up("event", []byte("rubbish"))
	if n, others := len(h.lettersOf("endpoint_id=d1")), len(h.lettersOf("endpoint_id=d2")); n != 5 || others != 1 {
		t.Fatalf("%d letters, of another %d", n, others)
	}
	metrics := string(h.must("GET", "/metrics", "").body)
	if !strings.Contains(metrics, `meterline_dead_letters_dropped_total{cause="BAD_JSON"} 15`) {
		t.Errorf("not counted: %s", metrics)
	}
	hours := 1 + int(time.Now().Truncate(time.Hour).Sub(began)/time.Hour) // it is told once in each
	if told := h.security("d1"); len(told) < 1 || len(told) > hours || !strings.Contains(string(told[0].Data), "not kept") {
		t.Fatalf("%+v", told)
	}
	if done := h.decide("discard", `{"endpoint_id":"d1"}`); done.Letters != 5 {
		t.Fatalf("%+v", done)
	}
	bad.up("event", []byte("one more"))
	if n := len(h.lettersOf("endpoint_id=d1&status=open")); n != 1 {
		t.Fatalf("%d letters", n)
	}
}

// Processes: poison by mosquitto_pub, seen, replayed, dead again with its link. A result of before a command's end that is
// handled again after it is late.
func TestLettersInThreeProcesses(t *testing.T) {
	publish := testkit.Program(t, "mosquitto_pub", "mosquitto-clients")
	e := newEstate(t, "redis")
	password := e.direct("d1")
	pub := exec.Command(publish, "-h", "127.0.0.1", "-p", e.mqttPort, "-u", "d1", "-P", password, "-q", "1", "-i", "d1:hand", "-t", "meterline/v1/d1/up/result", "-m", `{"v":2}`)
	if out, err := pub.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	testkit.Eventually(t, waitMost, func() bool { return len(e.letters()) == 1 }, "the letter is there")
	l := e.letters()[0]
	if l.Cause != "UNSUPPORTED_VERSION" || l.Payload == nil || !strings.HasPrefix(l.Gateway, "g1/") {
		t.Fatalf("%+v", l)
	}
	e.must("POST", l.Links["replay"], "")
	if l = e.handled(l.ID); l.Again != 1 || len(e.lettersOf("parent_id="+l.ID)) != 1 {
		t.Fatalf("%+v", l)
	}

	v := e.issue(read("d1", "async", ""))
	payload, _ := json.Marshal(result(v.ID, "d1", "77", at))
	e.put("panicked", "HANDLER_PANIC", "result", payload) // as if a bug had been mended since
	e.must("POST", "/v1/commands/"+string(v.ID)+"/cancel", "")
	e.must("POST", "/v1/dead-letters/panicked/replay", "")
	e.handled("panicked")
	if o := e.late(v.ID); o.State != command.Cancelled {
		t.Fatalf("%+v", o)
	}
	if got := e.stored("d1"); len(got) != 1 || !got[0].Late || got[0].Value != "77" {
		t.Fatalf("%+v", got)
	}
	e.put("corrupt", "CORRUPT_ENTRY", "result", payload)
	if a := e.call("POST", "/v1/dead-letters/corrupt/replay", ""); a.status != 422 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if done := e.decide("replay", `{"ids":["corrupt"]}`); done.Letters != 0 || done.Skipped != 1 {
		t.Fatalf("%+v", done)
	}
}

// put writes a dead letter of d1's by hand.
func (e *estate) put(id, cause, kind string, payload []byte) {
	e.t.Helper()
	_, err := e.db.Exec(`
		INSERT INTO dead_letters (id, tenant, source, cause, detail, endpoint_id, device_id, command_id, kind, payload, key, created_at, received_at, status)
		VALUES ($1, 'acme', 'uplink', $2, 'by hand', 'd1', '', '', $3, $4, $1, now(), now(), 'open')`, id, cause, kind, payload)
	if err != nil {
		e.t.Fatal(err)
	}
}

// The backend is killed in the middle of a bulk replay, started again, and the call repeated: each letter was handled again
// once, each reading is stored once, and each that is bad again has left one letter.
func TestKillInTheMiddleOfABulkReplay(t *testing.T) {
	const letters, bad = 2000, 100
	e := newEstate(t, "redis")
	var ipc struct{ Credentials struct{ Password string } }
	e.must("POST", "/v1/devices", `{"id":"ipc","kind":"ipc"}`).into(t, &ipc)
	p := e.play("ipc", ipc.Credentials.Password, false)
	var devices strings.Builder
	for i := range letters {
		value := fmt.Sprint(i)
		fmt.Fprintf(&devices, `{"id":"m%d","kind":"meter","endpoint_id":"ipc","route":[{"meter":"%d"}],"enabled":true}`+"\n", i, i)
		if i < bad {
			value = "rubbish " + value
		}
		p.send("readings", map[string]any{"v": 1, "message_id": value, "readings": []any{map[string]any{
			"device_id": fmt.Sprint("m", i), "item": "1-0:1.8.0", "value": value, "unit": "kWh", "read_at": at.Format(time.RFC3339Nano)}}})
	}
	p.acknowledged()
	count := func(where string) (n int) { e.query(&n, `SELECT count(*) FROM dead_letters WHERE `+where); return n }
	testkit.Eventually(t, waitMost, func() bool { return count("status = 'open'") == letters }, "all are dead letters")
	e.must("POST", "/v1/devices/import", devices.String(), "Content-Type", "application/x-ndjson")

	// The middle is held fast: the reading of one letter waits for a transaction of ours.
	hold, err := e.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold.Exec(`
		INSERT INTO readings (device_id, item, read_at, revision, value, unit, received_at, quality, late, tenant)
		VALUES ($1, '1-0:1.8.0', $2, 0, '', '', now(), 'valid', FALSE, 'acme')`, fmt.Sprint("m", letters/2), at); err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer hangUp()
	asking.Go(func() { // the answer may never come
		request, _ := http.NewRequestWithContext(ctx, http.MethodPost, e.http+"/v1/dead-letters/replay", strings.NewReader(`{"endpoint_id":"ipc"}`))
		request.Header.Set("Authorization", "Bearer "+e.token)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", "bulk")
		if r, err := http.DefaultClient.Do(request); err == nil {
			_ = r.Body.Close()
		}
	})
	handled := 0
	testkit.Eventually(t, waitMost, func() bool {
		e.query(&handled, `SELECT count(*) FROM dead_letters WHERE handled_at IS NOT NULL`)
		return handled > 0
	}, "some are handled again")
	kill(e.backend)
	if err := hold.Rollback(); err != nil {
		t.Fatal(err)
	}
	handled = count("handled_at IS NOT NULL")
	if handled == 0 || handled == letters {
		t.Fatalf("killed after %d of %d: not in the middle", handled, letters)
	}
	t.Logf("killed when %d of %d were handled again", handled, letters)
	e.startBackend()
	done := e.decide("replay", `{"endpoint_id":"ipc"}`, "Idempotency-Key", "bulk")
	if done.Letters != letters || done.Uplinks != letters || done.More {
		t.Fatalf("%+v", done)
	}
	testkit.Eventually(t, waitMost, func() bool { return count("handled_at IS NOT NULL") == letters }, "all are handled again")
	var readings, distinct int
	e.query(&readings, `SELECT count(*) FROM readings`)
	e.query(&distinct, `SELECT count(DISTINCT device_id) FROM readings`)
	if readings != letters-bad || distinct != letters-bad {
		t.Errorf("%d readings of %d devices, want %d", readings, distinct, letters-bad)
	}
	for where, want := range map[string]int{
		"true":                                  letters + bad,
		"status = 'open'":                       bad,
		"parent_id <> '' AND attempt = 2":       bad,
		"again = 1":                             bad,
		"again > 1 OR replay_in IS NOT NULL":    0,
		"handled_at IS NULL AND parent_id = ''": 0,
	} {
		if n := count(where); n != want {
			t.Errorf("%d letters with %s, want %d", n, where, want)
		}
	}
	var parents int
	if e.query(&parents, `SELECT count(DISTINCT parent_id) FROM dead_letters WHERE parent_id <> ''`); parents != bad {
		t.Errorf("%d parents, want %d", parents, bad)
	}
}

// send publishes without waiting for the PUBACK; acknowledged waits for all.
func (p *player) send(kind string, payload any) {
	p.t.Helper()
	b, err := json.Marshal(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	p.sent = append(p.sent, p.client.Publish("meterline/v1/"+p.id+"/up/"+kind, 1, false, b))
}

func (p *player) acknowledged() {
	p.t.Helper()
	for _, token := range p.sent {
		wait(p.t, token)
	}
	p.sent = nil
}
