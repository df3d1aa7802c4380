package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"meterline/command"
	"meterline/testkit"
)

// many registers n meters behind an IPC, and gives the password of the IPC.
func (h *house) many(ipc string, n int) string {
	h.t.Helper()
	var made struct {
		Credentials struct{ Password string }
	}
	h.must("POST", "/v1/devices", `{"id":"`+ipc+`","kind":"ipc"}`).into(h.t, &made)
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"id":"%s-m%04d","kind":"meter","endpoint_id":"%s","route":[{"bus":"com1"},{"meter":"%012d"}],"tags":{"ipc":"%s"}}`+"\n", ipc, i, ipc, i, ipc)
	}
	h.must("POST", "/v1/devices/import", lines.String(), "Content-Type", "application/x-ndjson")
	return made.Credentials.Password
}

// A command of more devices than one transaction makes operations for is expanded in chunks; its total is fixed from the
// first answer on. Cancelling ends all of it.
func TestLargeCommand(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	h.many("ipc-1", 2500)
	v := h.issue(`{"kind":"meter.read","targets":{"tags":{"ipc":"ipc-1"}},"items":["1-0:1.8.0"]}`)
	if v.Counts.Total != 2500 || v.Counts.Queued != 2500 {
		t.Fatalf("%+v", v.Counts)
	}
	var page struct {
		Items      []command.OperationView
		NextCursor *string `json:"next_cursor"`
	}
	testkit.Eventually(t, waitMost, func() bool {
		seen, cursor := map[string]bool{}, ""
		for {
			page.NextCursor = nil
			h.must("GET", "/v1/commands/"+string(v.ID)+"/operations?limit=1000"+cursor, "").into(t, &page)
			for _, o := range page.Items {
				seen[string(o.DeviceID)] = true
			}
			if page.NextCursor == nil {
				return len(seen) == 2500
			}
			cursor = "&cursor=" + *page.NextCursor
		}
	}, "all operations are made")
	h.must("POST", "/v1/commands/"+string(v.ID)+"/cancel", "").into(t, &v)
	if v.Status != command.StatusCancelled || v.Counts.Cancelled != 2500 {
		t.Fatalf("%s %+v", v.Status, v.Counts)
	}
}

// An IPC gets no more operations at a time than its window, and may say itself how many that are. Operations of one command
// travel together.
func TestWindow(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("ipc-1", h.many("ipc-1", 100), false)
	p.up("event", map[string]any{"v": 1, "message_id": "h", "type": "hello", "data": map[string]any{"window": 5}})
	v := h.issue(`{"kind":"meter.read","targets":{"tags":{"ipc":"ipc-1"}},"items":["1-0:1.8.0"]}`)
	m, _ := p.next(waitMost)
	if m.CommandID != v.ID || len(m.Targets) != 5 || string(m.Targets[0].Route) == "" {
		t.Fatalf("%d targets", len(m.Targets))
	}
	p.up("result", result(v.ID, string(m.Targets[0].DeviceID), "1", at))
	if m, _ = p.next(waitMost); len(m.Targets) != 1 {
		t.Fatalf("%d targets for one free place", len(m.Targets))
	}
	// The reserve is for real-time work alone.
	urgent := h.issue(read("ipc-1-m0099", "realtime", ""))
	if m, _ = p.next(waitMost); m.CommandID != urgent.ID {
		t.Fatalf("got %s", m.CommandID)
	}
}

// A restart loses nothing: what waited goes out, what was on its way is asked again at the most, and the token still counts.
func TestRestart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	h := openHouse(t, data, nil)
	first, second := h.direct("d1"), h.direct("d2")
	waiting, sent := h.issue(read("d1", "async", "")), h.issue(read("d2", "async", ""))
	h.play("d2", second, false).next(waitMost)
	h.become(sent.ID, command.Delivered)
	h.stack.Unwind()

	again := openHouse(t, data, nil)
	if again.token != h.token {
		t.Fatal("another admin token")
	}
	p := again.play("d2", second, false)
	p.up("result", result(sent.ID, "d2", "2", at))
	if o := again.become(sent.ID, command.Succeeded); o.Attempts != 1 {
		t.Fatalf("%+v", o)
	}
	if m, _ := again.play("d1", first, false).next(waitMost); m.CommandID != waiting.ID {
		t.Fatalf("%+v", m)
	}
}

// Disabling a device cancels its open operations, at once for whoever polls.
func TestDisablingCancels(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	v := h.issue(read("d1", "async", ""))
	p.next(waitMost)
	h.must("PATCH", "/v1/devices/d1", `{"enabled":false}`, "Content-Type", "application/merge-patch+json")
	if o := h.operation(v.ID); o.State != command.Cancelled || o.Delivery == command.NeverSent {
		t.Fatalf("%+v", o)
	}
	if a := h.call("POST", "/v1/commands", read("d1", "async", "")); a.status != 422 || !strings.Contains(string(a.body), "/targets/device_ids/0") {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

// What waits for a device that moves to another endpoint follows it.
func TestMoving(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	h.many("ipc-1", 1)
	p := h.play("ipc-2", h.many("ipc-2", 1), false)
	v := h.issue(read("ipc-1-m0000", "async", ""))
	h.must("PATCH", "/v1/devices/ipc-1-m0000", `{"endpoint_id":"ipc-2"}`, "Content-Type", "application/merge-patch+json")
	m, _ := p.next(waitMost)
	if m.CommandID != v.ID || m.Targets[0].DeviceID != "ipc-1-m0000" {
		t.Fatalf("%+v", m)
	}
}

// The event stream tells each state once and in order, ends with the command, and resumes where it was.
func TestEventStream(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	v := h.issue(read("d1", "async", ""))
	p.next(waitMost)
	follow := func(lastID string) (ids, states []string) {
		ctx, stop := context.WithTimeout(t.Context(), waitMost)
		defer stop()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.http+"/v1/commands/"+string(v.ID)+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+h.token)
		if lastID != "" {
			request.Header.Set("Last-Event-ID", lastID)
		}
		r, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				ids = append(ids, id)
			}
			for _, s := range command.States {
				if strings.HasPrefix(lines.Text(), "data: ") && strings.Contains(lines.Text(), `,"state":"`+string(s)+`","command_id"`) {
					states = append(states, string(s))
				}
			}
			if lines.Text() == "event: end" {
				return ids, states
			}
		}
		t.Fatalf("the stream did not end in order: %v", lines.Err())
		return nil, nil
	}
	var publishing sync.WaitGroup
	publishing.Go(func() { p.up("result", result(v.ID, "d1", "1", at)) })
	ids, states := follow("")
	publishing.Wait() // the stream may end before the device has its PUBACK
	if len(states) == 0 || states[len(states)-1] != "succeeded" {
		t.Fatalf("%v", states)
	}
	if _, again := follow(ids[len(states)-1]); len(again) != 0 {
		t.Fatalf("resumed at the end, told again: %v", again)
	}
}
