package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/testkit"
)

var at = time.Now().UTC().Add(-time.Minute).Truncate(time.Microsecond)

// A reading travels from HTTP to the meter and back.
func TestReadingComesBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	var answering sync.WaitGroup
	answering.Go(func() {
		c, _ := p.next(waitMost)
		p.up("ack", map[string]any{"v": 1, "command_id": c.CommandID, "device_ids": []string{"d1"}, "status": "accepted"})
		p.up("result", result(c.CommandID, "d1", "1234.50", at))
	})
	a := h.must("POST", "/v1/commands", read("d1", "realtime", `,"timeout_s":60`), "Prefer", "wait=60")
	answering.Wait() // the answer may come before the device has its PUBACK
	if a.status != 200 || a.header.Get("Preference-Applied") == "" {
		t.Fatalf("status %d, Preference-Applied %q", a.status, a.header.Get("Preference-Applied"))
	}
	var v command.View
	a.into(t, &v)
	o := v.Operations[0]
	if v.Status != command.StatusSucceeded || v.Counts.Succeeded != 1 || o.Readings[0].Value != "1234.50" || o.Device.Name != "d1" || o.Delivery != command.Acked {
		t.Fatalf("%s", a.body)
	}
	if got := h.stored("d1"); len(got) != 1 || got[0].CommandID != v.ID || !got[0].ReadAt.Equal(at) || got[0].Late {
		t.Fatalf("stored %+v", got)
	}
	var list struct{ Items []command.OperationView }
	h.must("GET", "/v1/operations?device_id=d1&state=succeeded", "").into(t, &list)
	if len(list.Items) != 1 || list.Items[0].Moves[0].State != command.Queued || list.Items[0].Moves[1].State != command.Sent {
		t.Fatalf("moves of %+v", list.Items)
	}
}

// An endpoint that is offline when the command is issued gets it within a second of subscribing.
func TestOfflineEndpointGetsItWhenItSubscribes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	password := h.direct("d1")
	v := h.issue(read("d1", "async", ""))
	if o := h.operation(v.ID); o.State != command.Queued || o.Delivery != command.NeverSent || o.Attempts != 0 {
		t.Fatalf("%+v", o)
	}
	pulse := testkit.StartPulse(t)
	p := h.play("d1", password, false)
	began := time.Now()
	c, _ := p.next(waitMost)
	if took := time.Since(began); took > pulse.Limit(time.Second) {
		t.Errorf("it took %s", took)
	}
	if c.CommandID != v.ID || c.Attempt != 1 || c.Targets[0].DeviceID != "d1" {
		t.Fatalf("%+v", c)
	}
	p.up("result", result(v.ID, "d1", "1", at))
	h.become(v.ID, command.Succeeded)
}

// Past its deadline an operation that was never sent is expired, at once, and a result that comes then is late.
func TestDeadline(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	password := h.direct("d1")
	v := h.issue(read("d1", "realtime", `,"timeout_s":1`))
	// The deadline is what is waited for; SQLite's clock ticks in milliseconds.
	<-time.After(time.Until(v.ExpiresAt) + 2*time.Millisecond)
	if o := h.operation(v.ID); o.State != command.Expired || o.Delivery != command.NeverSent {
		t.Fatalf("%+v", o)
	}
	p := h.play("d1", password, false)
	p.up("result", result(v.ID, "d1", "5", at))
	if o := h.late(v.ID); o.State != command.Expired {
		t.Fatalf("%+v", o)
	}
	if got := h.stored("d1"); len(got) != 1 || !got[0].Late {
		t.Fatalf("stored %+v", got)
	}
}

// A result that arrives while its operation is queued again ends it, whatever attempt it is of.
func TestResultWhileQueuedAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *command.WorkerOptions) {
		o.RunTimeout = command.ForAll(200 * time.Millisecond)
		o.RetryAfter = command.ForAll([]time.Duration{time.Hour}) // it stays queued until the test has seen it
	})
	p := h.play("d1", h.direct("d1"), false)
	v := h.issue(read("d1", "async", ""))
	p.next(waitMost)
	testkit.Eventually(t, waitMost, func() bool {
		o := h.operation(v.ID)
		return o.State == command.Queued && o.Attempts == 1 && o.Delivery == command.Acked
	}, "the operation is queued again")
	p.up("result", result(v.ID, "d1", "7", at))
	if o := h.become(v.ID, command.Succeeded); o.Attempts != 1 {
		t.Fatalf("%+v", o)
	}
}

// Attempts that are used up end an operation dead, in the dead letters; replaying it makes a new command.
func TestAttemptsUsedUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *command.WorkerOptions) {
		o.RunTimeout = command.ForAll(100 * time.Millisecond)
	})
	p := h.play("d1", h.direct("d1"), false)
	v := h.issue(read("d1", "async", `,"max_attempts":1`))
	p.next(waitMost)
	o := h.become(v.ID, command.Dead)
	if o.Error == nil || o.Error.Code != command.CodeAttemptsUsedUp {
		t.Fatalf("%+v", o)
	}
	letters := h.letters()
	if len(letters) != 1 || letters[0].CommandID != v.ID {
		t.Fatalf("%+v", letters)
	}
	var replayed command.DeadLetter
	h.must("POST", "/v1/dead-letters/"+letters[0].ID+"/replay", "").into(t, &replayed)
	if replayed.Status != command.LetterReplayed || replayed.NewCommand == "" {
		t.Fatalf("%+v", replayed)
	}
	c, _ := p.next(waitMost)
	if c.CommandID != replayed.NewCommand {
		t.Fatalf("got %s, want %s", c.CommandID, replayed.NewCommand)
	}
	if a := h.call("POST", "/v1/dead-letters/"+letters[0].ID+"/discard", ""); a.status != 409 {
		t.Fatalf("discarding a replayed letter: %d %s", a.status, a.body)
	}
}

// Two results: the first ends the operation, the same again is nothing, another one is late.
func TestTwoResults(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	v := h.issue(read("d1", "async", ""))
	p.next(waitMost)
	p.up("result", result(v.ID, "d1", "1.5", at))
	p.up("result", result(v.ID, "d1", "1.5", at))
	if o := h.recorded(v.ID); o.State != command.Succeeded || o.LateResultAt != nil {
		t.Fatalf("a repeat counts as late: %+v", o)
	}
	p.up("result", result(v.ID, "d1", "2.5", at.Add(time.Second)))
	if o := h.late(v.ID); o.State != command.Succeeded || len(o.Readings) != 1 {
		t.Fatalf("%+v", o)
	}
	p.up("readings", map[string]any{"v": 1, "message_id": "x", "readings": []any{map[string]any{
		"device_id": "d1", "item": "1-0:1.8.0", "value": "9.9", "unit": "kWh", "read_at": at.Format(time.RFC3339Nano)}}})
	got := h.stored("d1")
	if len(got) != 3 || got[2].Value != "1.5" || got[1].Value != "9.9" || got[1].Quality != "suspect" || !got[0].Late {
		t.Fatalf("stored %+v", got)
	}
}

// An answer may overtake the PUBACK of its command.
func TestAnswerBeforePuback(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), true)
	v := h.issue(read("d1", "async", ""))
	_, m := p.next(waitMost)
	p.up("result", result(v.ID, "d1", "3", at))
	o := h.become(v.ID, command.Succeeded)
	m.Ack()
	second := h.issue(read("d1", "async", "")) // the window of one is free again
	if c, _ := p.next(waitMost); c.CommandID != second.ID {
		t.Fatalf("got %s", c.CommandID)
	}
	if after := h.operation(v.ID); after.Version != o.Version || after.State != command.Succeeded {
		t.Fatalf("moved after its end: %+v", after)
	}
}

// The same idempotency key posted 50 times at once gives one command.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	h.direct("d1")
	var mu sync.Mutex
	ids, replayed := map[command.ID]int{}, 0
	var posts sync.WaitGroup
	for range 50 {
		posts.Go(func() {
			a := h.call("POST", "/v1/commands", read("d1", "async", ""), "Idempotency-Key", "k")
			var v command.View
			mu.Lock()
			defer mu.Unlock()
			if a.status != 202 || json.Unmarshal(a.body, &v) != nil {
				t.Errorf("%d %s", a.status, a.body)
			}
			ids[v.ID]++
			if a.header.Get("Idempotent-Replayed") == "true" {
				replayed++
			}
		})
	}
	posts.Wait()
	if len(ids) != 1 || replayed != 49 {
		t.Fatalf("%d commands, %d replayed", len(ids), replayed)
	}
	if a := h.call("POST", "/v1/commands", read("d1", "realtime", ""), "Idempotency-Key", "k"); a.status != 422 {
		t.Fatalf("another body: %d %s", a.status, a.body)
	}
}

// What cannot be understood is acknowledged, kept as a dead letter with its code, and disturbs nothing else.
func TestPoison(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	h.direct("d2")
	v := h.issue(read("d1", "async", ""))
	other := h.issue(read("d2", "async", ""))
	p.next(waitMost)

	p.up("result", []byte("not json"))
	p.up("result", []byte(`{"v":9,"results":[]}`))
	p.up("result", result("01999999-0000-7000-8000-000000000000", "d1", "1", at))
	p.up("result", result(other.ID, "d2", "666", at))                                           // not the sender's
	p.up("event", []byte(`{"v":1,"message_id":"e","type":"alarm","data":{"text":"a\u0000b"}}`)) // what the record may refuse
	reading := func(item, value, readAt string) string {
		return fmt.Sprintf(`{"item":%q,"value":%q,"unit":"kWh","read_at":%q}`, item, value, readAt)
	}
	when := at.Format(time.RFC3339)
	p.up("result", []byte(fmt.Sprintf(`{"v":1,"results":[{"command_id":%q,"device_id":"d1","status":"ok","readings":[%s,%s,%s,%s,%s,%s]}]}`, v.ID,
		reading("1-0:1.8.0", "NaN", when), reading("1-0:1.8.0", "1e999", when), reading("1-0:1.8.0", "", when),
		`{"item":"1-0:1.8.0","value":"1","unit":"kWh"}`, reading("energy", "1", when), reading("1-0:1.8.0", "10.5", when))))

	o := h.become(v.ID, command.Succeeded)
	if len(o.Readings) != 1 || o.Readings[0].Value != "10.5" {
		t.Fatalf("%+v", o)
	}
	var causes []string
	for _, l := range h.letters() {
		causes = append(causes, l.Cause)
	}
	slices.Sort(causes)
	want := []string{"BAD_JSON", "ITEM_UNKNOWN", "READ_AT_MISSING", "UNKNOWN_COMMAND", "UNSUPPORTED_VERSION", "VALUE_MISSING", "VALUE_NOT_A_NUMBER", "VALUE_OUT_OF_RANGE"}
	if got := slices.DeleteFunc(causes, func(s string) bool { return s == command.CauseRefused || s == "BAD_EVENT" }); !slices.Equal(got, want) {
		t.Fatalf("dead letters %v, want %v", got, want)
	}
	if got := h.security("d2"); len(got) != 1 {
		t.Fatalf("security events %+v", got)
	}
	if o := h.operation(other.ID); o.State != command.Queued || len(h.stored("d2")) != 0 {
		t.Fatalf("another's operation was touched: %+v", o)
	}
}

// A result the device could not get is an error with its code; retry asks again those that did not succeed.
func TestFailAndRetry(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	v := h.issue(read("d1", "async", ""))
	p.next(waitMost)
	p.up("result", map[string]any{"v": 1, "results": []any{map[string]any{"command_id": v.ID, "device_id": "d1", "status": "error", "code": "BUS_TIMEOUT", "message": "silence"}}})
	o := h.become(v.ID, command.Failed)
	if o.Error.Code != "BUS_TIMEOUT" || o.Error.Message != "silence" {
		t.Fatalf("%+v", o.Error)
	}
	var whole, again command.View
	h.must("GET", "/v1/commands/"+string(v.ID), "").into(t, &whole)
	if whole.Errors["BUS_TIMEOUT"] != 1 || whole.Status != command.StatusFailed {
		t.Fatalf("%+v", whole)
	}
	h.must("POST", "/v1/commands/"+string(v.ID)+"/retry", "").into(t, &again)
	if c, _ := p.next(waitMost); c.CommandID != again.ID || again.ParentID == nil || *again.ParentID != v.ID {
		t.Fatalf("%+v", again)
	}
	p.up("result", result(again.ID, "d1", "1", at))
	h.become(again.ID, command.Succeeded)
}

// Cancelling ends what is open, frees the window, and says whether the device may still act.
func TestCancel(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	first, second := h.issue(read("d1", "async", "")), h.issue(read("d1", "async", ""))
	p.next(waitMost)
	var v command.View
	h.must("POST", "/v1/commands/"+string(first.ID)+"/cancel", "").into(t, &v)
	if v.Status != command.StatusCancelled || v.Operations[0].Delivery == command.NeverSent {
		t.Fatalf("%+v", v)
	}
	if c, _ := p.next(waitMost); c.CommandID != second.ID {
		t.Fatalf("the place of a cancelled operation was not freed: got %s", c.CommandID)
	}
	p.up("result", result(first.ID, "d1", "4", at))
	if o := h.late(first.ID); o.State != command.Cancelled {
		t.Fatalf("%+v", o)
	}
}

// An operation waits for its not_before.
func TestNotBefore(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	when := time.Now().Add(2 * time.Second).UTC().Truncate(time.Millisecond) // SQLite's clock ticks in milliseconds
	v := h.issue(read("d1", "async", `,"not_before":"`+when.Format(time.RFC3339Nano)+`"`))
	c, _ := p.next(waitMost)
	if c.CommandID != v.ID || time.Now().Before(when) {
		t.Fatalf("sent %s early", time.Until(when))
	}
}

// Newest readings that are young enough answer from stock; the others are asked.
func TestFromStock(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	p.up("readings", map[string]any{"v": 1, "message_id": "x", "readings": []any{map[string]any{
		"device_id": "d1", "item": "1-0:1.8.0", "value": "9.9", "unit": "kWh", "read_at": time.Now().UTC().Format(time.RFC3339Nano)}}})
	v := h.issue(read("d1", "realtime", `,"max_age_s":60`))
	if v.Status != command.StatusSucceeded || !v.Operations[0].FromStock || v.Operations[0].Readings[0].Value != "9.9" {
		t.Fatalf("%+v", v)
	}
	asked := h.issue(`{"kind":"meter.read","mode":"realtime","targets":{"device_ids":["d1"]},"items":["1-0:1.8.0","1-0:2.8.0"],"max_age_s":60}`)
	if c, _ := p.next(waitMost); c.CommandID != asked.ID {
		t.Fatalf("%+v", c)
	}
}
