package httpapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

const commandURL = "/v1/commands/" + string(theCommand)

func TestIssueHandsOverWhatWasAsked(t *testing.T) {
	s := newServer(t, nil)
	a := s.do("POST", "/v1/commands", `{"kind":"meter.read","mode":"realtime","targets":{"tags":{"city":"Graz"}},"items":["1-0:1.8.0"],
		"params":{"b":1.50,"a":"<&>"},"timeout_s":30,"priority":0,"not_before":"2026-01-31T12:00:00+01:00","max_age_s":60,"max_attempts":null}`,
		"Idempotency-Key: k1", "Content-Type: application/json; charset=UTF-8").is(202)
	for name, want := range map[string]string{"Location": commandURL, "Retry-After": "1", "Idempotent-Replayed": "", "Preference-Applied": "",
		"Content-Type": "application/json", "Cache-Control": "no-store"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	thirty, zero, noon := 30, 0, time.Date(2026, 1, 31, 11, 0, 0, 0, time.UTC)
	got := s.commands.issued[0]
	if got.NotBefore == nil || !got.NotBefore.Equal(noon) {
		t.Errorf("not before %v", got.NotBefore)
	}
	got.NotBefore = nil
	want := command.Request{Kind: command.MeterRead, Mode: command.Realtime, Targets: command.Selector{Tags: map[string]string{"city": "Graz"}},
		Items: []string{"1-0:1.8.0"}, Params: json.RawMessage(`{"a":"<&>","b":1.50}`), TimeoutS: &thirty, Priority: &zero, MaxAgeS: 60}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if by := s.commands.by[0]; by.ID != s.adminID || by.Tenant != tenant {
		t.Errorf("by %+v", by)
	}
	if key := s.commands.keys[0]; key.Key != "k1" || len(key.BodyHash) != 32 {
		t.Errorf("key %+v", key)
	}
	var shown map[string]any
	a.json(&shown)
	for _, field := range []string{"id", "kind", "mode", "status", "priority", "created_at", "expires_at", "finished_at", "items", "counts", "errors", "links"} {
		if _, ok := shown[field]; !ok {
			t.Errorf("no %s in %s", field, a.body)
		}
	}
	if links := shown["links"].(map[string]any); links["self"] != commandURL {
		t.Errorf("links %v", links)
	}
}

func TestTheSameBodyHasTheSameHash(t *testing.T) {
	hash := func(body string) []byte {
		_, h, err := decode[command.Request]([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	one := hash(`{"kind":"meter.read","items":["a","b"],"params":{"x":1}}`)
	if two := hash("{\n \"params\": {\"x\":1}, \"items\":[\"a\",\"b\"],\"kind\":\"meter.re\\u0061d\"}"); !bytes.Equal(one, two) {
		t.Error("space, order or spelling made a difference")
	}
	for _, other := range []string{`{"kind":"meter.read","items":["b","a"],"params":{"x":1}}`, `{"kind":"meter.read","items":["a","b"],"params":{"x":2}}`,
		`{"kind":"meter.read","items":["a","b"]}`} {
		if bytes.Equal(one, hash(other)) {
			t.Errorf("%s has the same hash", other)
		}
	}
}

func TestARetryIsKeyedByItsCommand(t *testing.T) {
	s := newServer(t, nil)
	a := s.do("POST", commandURL+"/retry", "", "Idempotency-Key: k").is(202)
	if got := a.header.Get("Location"); got != "/v1/commands/"+string(strangersID) {
		t.Errorf("Location %q", got)
	}
	var v command.View
	if a.json(&v); v.ParentID == nil || *v.ParentID != theCommand || v.Links["parent"] != commandURL {
		t.Errorf("got %s", a.body)
	}
	s.do("POST", commandURL+"/retry", "", "Idempotency-Key: k").is(202)
	if ks := s.commands.keys; ks[0].Key != "k" || len(ks[0].BodyHash) != 32 || !bytes.Equal(ks[0].BodyHash, ks[1].BodyHash) {
		t.Errorf("keys %+v", ks)
	}
}

func TestReplayIsSaid(t *testing.T) {
	s := newServer(t, nil)
	s.commands.replays = true
	if got := s.do("POST", "/v1/commands", read, "Idempotency-Key: k").is(202).header.Get("Idempotent-Replayed"); got != "true" {
		t.Errorf("got %q", got)
	}
}

func TestPreferredWait(t *testing.T) {
	for headers, want := range map[string]time.Duration{
		"":                               0,
		"wait=5":                         5 * time.Second,
		"respond-async, wait=10":         10 * time.Second,
		`Wait = "7" ; foo=bar, wait=9`:   7 * time.Second,
		"respond-async|return=minimal":   0,
		"respond-async|wait=3":           3 * time.Second,
		"wait=600":                       60 * time.Second,
		"wait=99999999999999999999":      0,
		"wait=-1":                        0,
		"wait=soon":                      0,
		"wait":                           0,
		"waiting=5":                      0,
		"handling=lenient;x=1,\twait=2 ": 2 * time.Second,
	} {
		if got := preferredWait(strings.Split(headers, "|")); got != want {
			t.Errorf("%q: got %v, want %v", headers, got, want)
		}
	}
}

func TestPreferWaitAnswersWhenItEnds(t *testing.T) {
	s := newServer(t, nil)
	later := s.later("POST", "/v1/commands", read, "Prefer: wait=30")
	until(t, "the request to wait", func() bool {
		s.commands.mu.Lock()
		defer s.commands.mu.Unlock()
		return len(s.commands.waited) == 1
	})
	s.commands.end(command.StatusSucceeded)
	a := later().is(200)
	if a.header.Get("Preference-Applied") != "wait=30" || a.header.Get("Retry-After") != "" || a.header.Get("Location") != commandURL {
		t.Errorf("headers %v", a.header)
	}
	var v command.View
	if a.json(&v); v.Status != command.StatusSucceeded {
		t.Errorf("status %s", v.Status)
	}
}

func TestPreferWaitThatIsNotLongEnough(t *testing.T) {
	s := newServer(t, nil)
	a := s.do("POST", "/v1/commands", read, "Prefer: wait=1").is(202)
	if a.header.Get("Preference-Applied") != "" || a.header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", a.header)
	}
}

// TestALongWaitOutlivesTheDeadlineOfTheBody: the deadline for reading a body must not end the request that waits.
func TestALongWaitOutlivesTheDeadlineOfTheBody(t *testing.T) {
	s := newServer(t, func(_ *Options, a *API) {
		if a != nil {
			a.times.body = 50 * time.Millisecond
		}
	})
	began := time.Now()
	s.do("POST", "/v1/commands", read, "Prefer: wait=1").is(202)
	if took := time.Since(began); took < time.Second {
		t.Errorf("answered after %v", took)
	}
	if strings.Contains(s.logs.String(), "waiting for a command failed") {
		t.Errorf("logged %s", s.logs)
	}
}

func TestGetWaits(t *testing.T) {
	s := newServer(t, nil)
	s.commands.move(command.Sent, "m-001", "m-002")
	var v command.View
	if s.do("GET", commandURL, "").is(200).json(&v); v.Status != command.StatusRunning || len(v.Operations) != 2 || v.Operations[0].Readings == nil {
		t.Errorf("got %+v", v)
	}
	later := s.later("GET", commandURL+"?wait=60", "")
	until(t, "the request to wait", func() bool {
		s.commands.mu.Lock()
		defer s.commands.mu.Unlock()
		return slices.Equal(s.commands.waited, []time.Duration{time.Minute})
	})
	s.commands.end(command.StatusPartial)
	if later().is(200).json(&v); v.Status != command.StatusPartial {
		t.Errorf("got %+v", v)
	}
}

func TestCancel(t *testing.T) {
	s := newServer(t, nil)
	var v command.View
	if s.do("POST", commandURL+"/cancel", "").is(200).json(&v); v.Status != command.StatusCancelled {
		t.Errorf("got %+v", v)
	}
}

// TestFiltersReachTheRecord holds the names of the query's parameters.
func TestFiltersReachTheRecord(t *testing.T) {
	from, to := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	const span = "&from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z&limit=7&cursor=0"
	for path, want := range map[string]any{
		"/v1/commands?kind=meter.read&status=partial" + span: command.CommandFilter{Kind: command.MeterRead, Status: command.StatusPartial, From: from, To: to},
		"/v1/commands?state=failed" + span:                   command.CommandFilter{Status: command.StatusFailed, From: from, To: to},
		"/v1/commands?state=running&status=running" + span:   command.CommandFilter{Status: command.StatusRunning, From: from, To: to},
		"/v1/commands?state=dead&status=partial&device_id=d&endpoint_id=e&group=g&kind=device.ping&code=BUSY&command_id=" + string(theCommand) + span: command.CommandFilter{
			State: command.Dead, Status: command.StatusPartial, DeviceID: "d", EndpointID: "e", Group: "g", Kind: command.DevicePing, ID: theCommand, Code: "BUSY", From: from, To: to},
		"/v1/operations?device_id=d&endpoint_id=e&group=g&state=dead&kind=device.ping&code=BUSY&command_id=" + string(theCommand) + span: command.OperationFilter{
			DeviceID: "d", EndpointID: "e", Group: "g", State: command.Dead, Kind: command.DevicePing, CommandID: theCommand, Code: "BUSY", From: from, To: to},
		commandURL + "/operations?state=queued&limit=7&cursor=0": command.OperationFilter{CommandID: theCommand, State: command.Queued},
		"/v1/readings?device_id=m-001&item=1-0:1.8.0" + span:     command.ReadingFilter{DeviceID: "m-001", Item: "1-0:1.8.0", From: from, To: to},
		"/v1/events?device_id=d&type=alarm" + span:               command.EventFilter{DeviceID: "d", Type: "alarm", From: from, To: to},
		"/v1/dead-letters?cause=BAD_JSON&status=open&source=uplink&endpoint_id=e&device_id=d&parent_id=" + theLetter + "&decision_id=" + theLetter + "&command_id=" + string(theCommand) + span: command.DeadLetterFilter{
			Cause: "BAD_JSON", Status: "open", Source: "uplink", EndpointID: "e", DeviceID: "d", CommandID: theCommand, ParentID: theLetter, DecisionID: theLetter, From: from, To: to},
	} {
		s := newServer(t, nil)
		s.commands.readings = []meterread.Reading{{DeviceID: "m-001", Quality: meterread.Valid}}
		s.do("GET", path, "").is(200)
		if got := s.commands.filters[0]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", path, got, want)
		}
		if got := s.commands.pages[0]; got != (command.Page{Limit: 7, Cursor: "0"}) {
			t.Errorf("%s: page %+v", path, got)
		}
	}
}

func TestListsArePaged(t *testing.T) {
	s := newServer(t, nil)
	s.commands.move(command.Sent, "a", "b", "c", "d", "e")
	var got []string
	path := "/v1/operations?limit=2"
	for pages := 1; ; pages++ {
		var l list[command.OperationView]
		s.do("GET", path, "").is(200).json(&l)
		for _, o := range l.Items {
			got = append(got, string(o.DeviceID))
		}
		if l.NextCursor == nil {
			break
		}
		path = "/v1/operations?limit=2&cursor=" + *l.NextCursor
	}
	if strings.Join(got, "") != "abcde" || s.commands.pages[0].Limit != 2 {
		t.Errorf("got %v", got)
	}
	a := s.do("GET", "/v1/dead-letters", "").is(200)
	if !strings.Contains(a.body, `"next_cursor":null`) || s.commands.pages[len(s.commands.pages)-1].Limit != 100 {
		t.Errorf("got %s", a.body)
	}
	s.commands.events = nil
	if a := s.do("GET", "/v1/events", "").is(200); strings.TrimSpace(a.body) != `{"items":[],"next_cursor":null}` {
		t.Errorf("got %s", a.body)
	}
}

func TestSecurityEventsAreForAuditors(t *testing.T) {
	s := newServer(t, nil)
	s.commands.events = []command.Event{{ID: "1", Type: "alarm"}, {ID: "2", Type: command.EventSecurity}}
	auditor, _ := s.token(fleet.AuditRead)
	reader, _ := s.token(fleet.FleetRead)
	for token, want := range map[string]int{auditor: 2, reader: 1} {
		var l list[command.Event]
		a := s.do("GET", "/v1/events", "", "Authorization: Bearer "+token).is(200).json(&l)
		if len(l.Items) != want || string(l.Items[0].Data) != "{}" {
			t.Errorf("got %s", a.body)
		}
	}
	s.do("GET", "/v1/events?type=security", "", "Authorization: Bearer "+reader).problem(403, "SCOPE_MISSING")
	s.do("GET", "/v1/events?type=security", "", "Authorization: Bearer "+auditor).is(200)
}

func TestOperationsInCSV(t *testing.T) {
	s := newServer(t, nil)
	at := time.Date(2026, 1, 31, 12, 0, 0, 5000, time.UTC)
	for _, o := range []command.Operation{
		{DeviceID: "m-001", State: command.Succeeded, Delivery: command.Acked, Device: fleet.Info{Route: json.RawMessage(`[{"bus":"com1"}]`)}, Readings: []meterread.Reading{
			{Item: "1-0:1.8.0", Value: "-12.50", Unit: "kWh", ReadAt: at, Quality: meterread.Valid}, {Item: "1-0:2.8.0", Value: "=1+1", Unit: "@SUM(A1)", ReadAt: at, Quality: meterread.Valid}}},
		{DeviceID: "m-002", State: command.Failed, Delivery: command.Acked, Error: &command.Failure{Code: "=cmd|' /C calc'!A0", Message: "x"}},
		{DeviceID: "m-003", State: command.Queued, Delivery: command.NeverSent},
	} {
		s.commands.changed = append(s.commands.changed, o.View())
	}
	a := s.do("GET", commandURL+"/operations", "", "Accept: text/csv").is(200)
	want := `device,route,item,value,unit,read_at,state,code
m-001,"[{""bus"":""com1""}]",1-0:1.8.0,-12.50,kWh,2026-01-31T12:00:00.000005Z,succeeded,
m-001,"[{""bus"":""com1""}]",1-0:2.8.0,'=1+1,'@SUM(A1),2026-01-31T12:00:00.000005Z,succeeded,
m-002,[],,,,,failed,'=cmd|' /C calc'!A0
m-003,[],,,,,queued,
`
	if a.body != want || !strings.HasPrefix(a.header.Get("Content-Type"), "text/csv") {
		t.Errorf("got %s", a.body)
	}
	for _, accept := range []string{"application/json", "*/*", "text/csv;q=0.5, application/json", ""} {
		if got := s.do("GET", commandURL+"/operations", "", "Accept: "+accept).is(200).header.Get("Content-Type"); got != "application/json" {
			t.Errorf("Accept %q: %s", accept, got)
		}
	}
}

func TestCSVIsWholeOrBroken(t *testing.T) {
	s := newServer(t, nil)
	for i := range 2*csvPage + 1 {
		s.commands.readings = append(s.commands.readings, meterread.Reading{DeviceID: "m-001", Item: "1-0:1.8.0", Value: strconv.Itoa(i)})
	}
	a := s.do("GET", "/v1/readings?device_id=m-001", "", "Accept: text/csv").is(200)
	if lines := strings.Count(a.body, "\n"); lines != 2*csvPage+2 {
		t.Errorf("got %d lines", lines)
	}
	if !strings.HasPrefix(a.body, "device_id,item,value,unit,read_at,received_at,quality,late,command_id\nm-001,1-0:1.8.0,0,,,,,false,\n") {
		t.Errorf("got %.200s", a.body)
	}
	a = s.do("GET", "/v1/readings?device_id=m-001&limit=10", "", "Accept: text/csv").is(200)
	if lines := strings.Count(a.body, "\n"); lines != 11 || a.header.Get("Link") != `</v1/readings?cursor=10&device_id=m-001&limit=10>; rel="next"` {
		t.Errorf("got %d lines, Link %q", lines, a.header.Get("Link"))
	}
	s.commands.mu.Lock()
	s.commands.failPage = len(s.commands.pages) + 3
	s.commands.mu.Unlock()
	resp, err := http1().Do(s.request("GET", "/v1/readings?device_id=m-001", nil, "Accept: text/csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := new(bytes.Buffer).ReadFrom(resp.Body); err == nil {
		t.Error("an answer that is not whole ended as if it were")
	}
}

func TestReadingsOutliveTheirDevice(t *testing.T) {
	s := newServer(t, nil)
	s.commands.readings = []meterread.Reading{{DeviceID: "gone", Item: "1-0:1.8.0", Value: "1", Quality: meterread.Valid}}
	s.do("GET", "/v1/readings?device_id=gone", "").is(200)
	s.do("GET", "/v1/readings?device_id=never", "").problem(404, "NOT_FOUND")
	var l list[meterread.Reading]
	if s.do("GET", "/v1/devices/m-001/latest", "").is(200).json(&l); len(l.Items) != 1 {
		t.Errorf("got %+v", l)
	}
	s.do("GET", "/v1/devices/m-404/latest", "").problem(404, "NOT_FOUND")
}
