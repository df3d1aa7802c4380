package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
)

const read = `{"kind":"meter.read","targets":{"device_ids":["m-001"]},"items":["1-0:1.8.0"]}`

// TestErrorsOfTheServicesBecomeStatuses holds the table in problem.go, as a client sees it.
func TestErrorsOfTheServicesBecomeStatuses(t *testing.T) {
	for _, c := range []struct {
		err        error
		status     int
		code       string
		retryAfter string
		pointers   []string
	}{
		{command.ErrNotFound, 404, "NOT_FOUND", "", nil},
		{fleet.ErrNotFound, 404, "NOT_FOUND", "", nil},
		{command.ErrForbidden, 403, "SCOPE_MISSING", "", nil},
		{fleet.ErrScope, 403, "SCOPE_MISSING", "", nil},
		{fleet.ErrTaken, 409, "ID_TAKEN", "", nil},
		{fleet.ErrInUse, 409, "IN_USE", "", nil},
		{command.ErrAlreadyDecided, 409, "ALREADY_DECIDED", "", nil},
		{command.ErrStillRunning, 409, "STILL_RUNNING", "1", nil},
		{command.ErrKeyReused, 422, "IDEMPOTENCY_KEY_REUSED", "", nil},
		{command.ErrTooManyOpen, 429, "TOO_MANY_OPEN", "1", nil},
		{command.ErrUnavailable, 503, "UNAVAILABLE", "1", nil},
		{errors.New("pq: password of user meterline"), 500, "INTERNAL", "", nil},
		{&command.Invalid{Fields: []command.FieldError{{Pointer: "/items/0", Detail: "bad"}, {Pointer: "/mode", Detail: "bad"}}},
			422, "INVALID", "", []string{"/items/0", "/mode"}},
		{&fleet.Invalid{Fields: []fleet.FieldError{{Pointer: "/id", Detail: "bad"}}}, 422, "INVALID", "", []string{"/id"}},
	} {
		t.Run(c.code+" "+c.err.Error(), func(t *testing.T) {
			s := newServer(t, nil)
			s.commands.fail = fmt.Errorf("retry: %w", c.err)
			a := s.do("POST", commandURL+"/retry", "").problem(c.status, c.code, c.pointers...)
			if got := a.header.Get("Retry-After"); got != c.retryAfter {
				t.Errorf("Retry-After %q, want %q", got, c.retryAfter)
			}
			if strings.Contains(a.body, "password") {
				t.Errorf("internals left the house: %s", a.body)
			}
			if logged := strings.Contains(s.logs.String(), "request failed"); logged != (c.status >= 500) {
				t.Errorf("logged: %v\n%s", logged, s.logs)
			}
		})
	}
}

func TestAnOutageDoesNotFloodTheLog(t *testing.T) {
	s := newServer(t, nil)
	s.commands.fail = command.ErrUnavailable
	began := time.Now()
	for range 3 * outageBurst {
		s.do("POST", commandURL+"/retry", "").problem(503, "UNAVAILABLE")
	}
	most := outageBurst + int(time.Since(began)/outagePause) + 1
	if n := strings.Count(s.logs.String(), "request failed"); n < outageBurst || n > most {
		t.Errorf("%d lines, want %d to %d", n, outageBurst, most)
	}
	s.commands.fail = errors.New("ours")
	for range 3 {
		s.do("POST", commandURL+"/retry", "").problem(500, "INTERNAL")
	}
	if n := strings.Count(s.logs.String(), "error=ours"); n != 3 {
		t.Errorf("%d lines about what is ours, want all 3:\n%s", n, s.logs)
	}

	o, now := newOutage(), time.Now()
	for range outageBurst + 7 {
		o.turn(now)
	}
	if out, ok := o.turn(now.Add(outagePause)); !ok || out != 7 {
		t.Errorf("later: %d lines were left out, told: %v; want 7", out, ok)
	}
}

func TestRequestsThatCannotBeUnderstood(t *testing.T) {
	s := newServer(t, nil)
	large := `{"kind":"` + strings.Repeat("x", maxBody) + `"}`
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     string
		pointers                 []string
	}{
		{"no JSON", "POST", "/v1/commands", `{"kind"`, nil, 400, "BAD_JSON", nil},
		{"no value", "POST", "/v1/commands", ` `, nil, 400, "BAD_JSON", nil},
		{"no body", "POST", "/v1/commands", ``, nil, 400, "BAD_REQUEST", nil},
		{"two values", "POST", "/v1/commands", `{} {}`, nil, 400, "BAD_JSON", nil},
		{"rubbish behind", "POST", "/v1/commands", `{}x`, nil, 400, "BAD_JSON", nil},
		{"no UTF-8", "POST", "/v1/commands", "{\"kind\":\"\xff\"}", nil, 400, "BAD_JSON", nil},
		{"an array", "POST", "/v1/commands", `[]`, nil, 422, "INVALID", []string{""}},
		{"unknown fields", "POST", "/v1/commands", `{"kind":"meter.read","colour":1,"targets":{"a/b~c":2},"Items":[]}`, nil, 422, "INVALID",
			[]string{"/Items", "/colour", "/targets/a~1b~0c"}},
		{"wrong types", "POST", "/v1/commands", `{"kind":7,"items":["1-0:1.8.0",8,null],"targets":{"tags":{"a":1},"all":"yes"},"timeout_s":1.5,
			"priority":99999999999999999999,"not_before":"tomorrow","max_age_s":"1"}`, nil, 422, "INVALID",
			[]string{"/items/1", "/items/2", "/kind", "/max_age_s", "/not_before", "/priority", "/targets/all", "/targets/tags/a", "/timeout_s"}},
		{"NUL", "POST", "/v1/commands", `{"kind":"a\u0000","params":{"x":["\u0000"],"n":1e999}}`, nil, 422, "INVALID", []string{"/kind", "/params/n", "/params/x/0"}},
		{"form", "POST", "/v1/commands", `a=b`, []string{"Content-Type: application/x-www-form-urlencoded"}, 415, "UNSUPPORTED_MEDIA_TYPE", nil},
		{"latin 1", "POST", "/v1/commands", read, []string{"Content-Type: application/json; charset=latin1"}, 415, "UNSUPPORTED_MEDIA_TYPE", nil},
		{"JSON to import", "POST", "/v1/devices/import", `{}`, nil, 415, "UNSUPPORTED_MEDIA_TYPE", nil},
		{"too large", "POST", "/v1/commands", large, nil, 413, "BODY_TOO_LARGE", nil},
		{"no such path", "GET", "/v1/comands", "", nil, 404, "NOT_FOUND", nil},
		{"no such path at all", "GET", "/", "", nil, 404, "NOT_FOUND", nil},
		{"wrong method", "PUT", "/v1/commands", read, nil, 405, "METHOD_NOT_ALLOWED", nil},
		{"wrong method, import", "GET", "/v1/groups/a/devices", "", nil, 405, "METHOD_NOT_ALLOWED", nil},
		{"limit", "GET", "/v1/commands?limit=1001", "", nil, 422, "INVALID", []string{"?limit"}},
		{"limit zero", "GET", "/v1/devices?limit=0", "", nil, 422, "INVALID", []string{"?limit"}},
		{"limit word", "GET", "/v1/operations?limit=many", "", nil, 422, "INVALID", []string{"?limit"}},
		{"cursor", "GET", "/v1/devices?cursor=zzz", "", nil, 422, "INVALID", []string{"?cursor"}},
		{"cursor of the record", "GET", "/v1/operations?cursor=zzz", "", nil, 422, "INVALID", []string{"?cursor"}},
		{"unknown filter", "GET", "/v1/operations?colour=red", "", nil, 422, "INVALID", []string{"?colour"}},
		{"state", "GET", "/v1/operations?state=lost", "", nil, 422, "INVALID", []string{"?state"}},
		{"time", "GET", "/v1/operations?from=yesterday", "", nil, 422, "INVALID", []string{"?from"}},
		{"time backwards", "GET", "/v1/operations?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "", nil, 422, "INVALID", []string{"?to"}},
		{"command id", "GET", "/v1/operations?command_id=7", "", nil, 422, "INVALID", []string{"?command_id"}},
		{"command id of commands", "GET", "/v1/commands?command_id=7", "", nil, 422, "INVALID", []string{"?command_id"}},
		{"cause", "GET", "/v1/dead-letters?cause=BAD_JASON", "", nil, 422, "INVALID", []string{"?cause"}},
		{"ids of letters", "GET", "/v1/dead-letters/causes?parent_id=7&decision_id=x", "", nil, 422, "INVALID", []string{"?parent_id", "?decision_id"}},
		{"command id of letters", "GET", "/v1/dead-letters?command_id=7", "", nil, 422, "INVALID", []string{"?command_id"}},
		{"state of commands", "GET", "/v1/commands?state=lost", "", nil, 422, "INVALID", []string{"?state"}},
		{"state and status", "GET", "/v1/commands?state=failed&status=partial", "", nil, 422, "INVALID", []string{"?state"}},
		{"tag", "GET", "/v1/devices?tag=x", "", nil, 422, "INVALID", []string{"?tag"}},
		{"wait", "GET", "/v1/commands/" + string(theCommand) + "?wait=61", "", nil, 422, "INVALID", []string{"?wait"}},
		{"no device", "GET", "/v1/readings", "", nil, 422, "INVALID", []string{"?device_id"}},
		{"NUL in the query", "GET", "/v1/operations?code=%00", "", nil, 422, "INVALID", []string{"?code"}},
		{"query no UTF-8", "GET", "/v1/operations?code=%ff", "", nil, 422, "INVALID", []string{"?code"}},
		{"query not encoded", "GET", "/v1/operations?code=%zz", "", nil, 422, "INVALID", []string{"?"}},
		{"key not ASCII", "POST", "/v1/commands", read, []string{"Idempotency-Key: é"}, 422, "INVALID", []string{"header:Idempotency-Key"}},
		{"key too long", "POST", "/v1/commands", read, []string{"Idempotency-Key: " + strings.Repeat("k", 256)}, 422, "INVALID", []string{"header:Idempotency-Key"}},
		{"event id", "GET", "/v1/commands/" + string(theCommand) + "/events", "", []string{"Last-Event-ID: x"}, 422, "INVALID", []string{"header:Last-Event-ID"}},
		{"patch a field that cannot change", "PATCH", "/v1/devices/m-001", `{"kind":"ipc"}`, nil, 422, "INVALID", []string{"/kind"}},
		{"patch null", "PATCH", "/v1/devices/m-001", `{"enabled":null}`, nil, 422, "INVALID", []string{"/enabled"}},
		{"group patch", "PATCH", "/v1/groups/a", `{"name":"b"}`, nil, 422, "INVALID", []string{"/name"}},
		{"a command of no id", "GET", "/v1/commands/7", "", nil, 404, "NOT_FOUND", nil},
		{"a device of no id", "GET", "/v1/devices/a%20b", "", nil, 404, "NOT_FOUND", nil},
		{"a letter of no id", "POST", "/v1/dead-letters/a%00b/discard", "", nil, 404, "NOT_FOUND", nil},
		{"a token of no id", "DELETE", "/v1/tokens/7", "", nil, 404, "NOT_FOUND", nil},
		{"no such schema", "GET", "/schemas/nope.json", "", nil, 404, "NOT_FOUND", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			a := s.do(c.method, c.path, c.body, c.headers...).problem(c.status, c.code, c.pointers...)
			if (c.status == 405) != (a.header.Get("Allow") != "") {
				t.Errorf("Allow %q", a.header.Get("Allow"))
			}
		})
	}
	if len(s.commands.issued) != 0 {
		t.Errorf("issued %v", s.commands.issued)
	}
}

// TestTheLastByteOfABodyThatMayBe holds the bound on both sides, with and without an announced length.
func TestTheLastByteOfABodyThatMayBe(t *testing.T) {
	s := newServer(t, nil)
	fits := read + strings.Repeat(" ", maxBody-len(read))
	s.do("POST", "/v1/commands", fits).is(202)
	s.do("POST", "/v1/commands", fits+" ").problem(413, "BODY_TOO_LARGE")
	unannounced := func(body string) answer {
		r := s.request("POST", "/v1/commands", io.MultiReader(strings.NewReader(body)))
		r.ContentLength = -1
		return s.send(r)
	}
	unannounced(fits).is(202)
	unannounced(fits+" ").problem(413, "BODY_TOO_LARGE")
}

func TestWhoAsks(t *testing.T) {
	s := newServer(t, nil)
	for name, header := range map[string]string{"nothing": "", "another scheme": "Basic YTpi", "no token": "Bearer",
		"unknown": "Bearer mtl_nope", "not ours": "Bearer xyz"} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			a := s.do("GET", "/v1/devices", "", "Authorization: "+header).problem(401, "UNAUTHENTICATED")
			if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), `Bearer realm="meterline"`) {
				t.Errorf("WWW-Authenticate %q", a.header.Get("WWW-Authenticate"))
			}
		})
	}
	s.t = t
	s.do("GET", "/v1/devices", "", "Authorization: bearer "+s.admin).is(200) // schemes know no case
	s.registry.SetFail(command.ErrUnavailable)
	s.do("GET", "/v1/devices", "", "Authorization: Bearer mtl_other").problem(503, "UNAVAILABLE")
}

// TestEveryRouteNeedsItsScope asks each route with a token that has every scope but those it needs, and with one that
// has only one of them.
func TestEveryRouteNeedsItsScope(t *testing.T) {
	s := newServer(t, nil)
	for pattern, r := range s.api.routes {
		if r.path == "/v1/session" {
			continue // of whoever asks, or of whoever wants to be somebody
		}
		t.Run(pattern, func(t *testing.T) {
			s.t = t
			if len(r.scopes) == 0 {
				t.Fatal("the route needs no scope")
			}
			path := strings.NewReplacer("{id}", string(theCommand), "{name}", "group").Replace(r.path)
			body := ""
			if r.body != nil {
				body = "{}"
			}
			others := slices.DeleteFunc(slices.Clone(fleet.Scopes), func(sc fleet.Scope) bool {
				return sc == fleet.Admin || slices.Contains(r.scopes, sc)
			})
			secret, _ := s.token(others...)
			s.do(r.method, path, body, "Authorization: Bearer "+secret).problem(403, "SCOPE_MISSING")
			s.do(r.method, path, body, "Authorization: ").problem(401, "UNAUTHENTICATED")
			for _, scope := range r.scopes {
				secret, _ := s.token(scope)
				resp, err := http.DefaultClient.Do(s.request(r.method, path, strings.NewReader(body), "Authorization: Bearer "+secret, "Content-Type: "))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close() // an event stream would go on
				if resp.StatusCode == 401 || resp.StatusCode == 403 {
					t.Errorf("with %s: %d", scope, resp.StatusCode)
				}
			}
		})
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestOfAnotherTenantNothingIsThere asks for everything that has an id with another tenant's token.
func TestOfAnotherTenantNothingIsThere(t *testing.T) {
	s := newServer(t, nil)
	s.do("POST", "/v1/devices", `{"id":"m-001","kind":"direct"}`).is(201)
	s.do("POST", "/v1/groups", `{"name":"north"}`).is(201)
	stranger, _ := s.tokenOf("other", fleet.Admin)
	asked := 0
	for _, call := range []string{
		"GET /v1/commands/" + string(theCommand), "GET /v1/commands/" + string(theCommand) + "?wait=1",
		"GET /v1/commands/" + string(theCommand) + "/operations", "GET /v1/commands/" + string(theCommand) + "/events",
		"POST /v1/commands/" + string(theCommand) + "/cancel", "POST /v1/commands/" + string(theCommand) + "/retry",
		"GET /v1/devices/m-001", "PATCH /v1/devices/m-001 {}", "DELETE /v1/devices/m-001", "POST /v1/devices/m-001/credentials",
		"GET /v1/devices/m-001/latest", "GET /v1/readings?device_id=m-001",
		"GET /v1/groups/north", `PATCH /v1/groups/north {"description":"x"}`, "DELETE /v1/groups/north",
		`PUT /v1/groups/north/devices {"device_ids":["m-001"]}`, `DELETE /v1/groups/north/devices {"device_ids":["m-001"]}`,
		"GET /v1/dead-letters/" + theLetter, "POST /v1/dead-letters/" + theLetter + "/replay", "POST /v1/dead-letters/" + theLetter + "/discard",
		"DELETE /v1/tokens/" + s.adminID,
	} {
		parts := strings.SplitN(call, " ", 3)
		t.Run(call, func(t *testing.T) {
			s.t = t
			s.do(parts[0], parts[1], strings.Join(parts[2:], ""), "Authorization: Bearer "+stranger).problem(404, "NOT_FOUND")
			asked++
		})
	}
	s.t = t
	for _, path := range []string{"/v1/devices", "/v1/groups", "/v1/commands", "/v1/operations", "/v1/events", "/v1/dead-letters", "/v1/dead-letters/causes"} {
		var l list[any]
		if s.do("GET", path, "", "Authorization: Bearer "+stranger).is(200).json(&l); len(l.Items) != 0 {
			t.Errorf("%s: %v", path, l.Items)
		}
	}
	for _, path := range []string{"/v1/dead-letters/replay", "/v1/dead-letters/discard"} {
		var done command.BulkDecision
		if s.do("POST", path, `{"ids":["`+theLetter+`"]}`, "Authorization: Bearer "+stranger).is(200).json(&done); done.Letters != 0 {
			t.Errorf("%s: %+v", path, done)
		}
	}
	s.do("POST", "/v1/devices", `{"id":"m-001","kind":"direct"}`, "Authorization: Bearer "+stranger).problem(409, "ID_TAKEN")
	s.do("GET", "/v1/devices/m-001", "").is(200)
}

func TestTokensAreRememberedForAMoment(t *testing.T) {
	clock := time.Now()
	s := newServer(t, func(_ *Options, a *API) {
		if a != nil {
			a.tokens.now = func() time.Time { return clock }
		}
	})
	secret, id := s.token(fleet.FleetRead)
	ask := func() answer { return s.do("GET", "/v1/devices", "", "Authorization: Bearer "+secret) }
	before := s.registry.TimesAsked()
	for range 5 {
		ask().is(200)
	}
	if n := s.registry.TimesAsked() - before; n != 1 {
		t.Errorf("asked %d times", n)
	}
	if err := s.registry.DeleteToken(t.Context(), by(tenant), id); err != nil { // elsewhere
		t.Fatal(err)
	}
	clock = clock.Add(tokenFresh - time.Millisecond)
	ask().is(200)
	clock = clock.Add(time.Millisecond)
	ask().problem(401, "UNAUTHENTICATED")

	secret, id = s.token(fleet.FleetRead)
	ask().is(200)
	s.do("DELETE", "/v1/tokens/"+id, "").is(204) // here
	ask().problem(401, "UNAUTHENTICATED")

	soon := time.Now().Add(time.Hour)
	_, secret, err := s.fleet.GrantToken(t.Context(), by(tenant), fleet.NewToken{Name: "short", Scopes: []fleet.Scope{fleet.FleetRead}, ExpiresAt: &soon})
	if err != nil {
		t.Fatal(err)
	}
	clock = soon.Add(-time.Millisecond)
	ask().is(200)
	clock = soon
	ask().problem(401, "UNAUTHENTICATED")
}

func TestATokenThatAsksTooOftenIsTold(t *testing.T) {
	s := newServer(t, func(o *Options, _ *API) { o.Requests, o.Burst = 0.01, 2 }) // the third is too many for 100 s
	began := time.Now()
	s.do("GET", "/v1/devices", "").is(200)
	s.do("GET", "/v1/devices", "").is(200)
	a := s.do("GET", "/v1/devices", "").problem(429, "RATE_LIMITED")
	least := 100 - int(time.Since(began).Seconds()) // from the first request on it has been getting less
	if got, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || got > 100 || got < least {
		t.Errorf("Retry-After %d, %v, want %d to 100", got, err, least)
	}
	other, _ := s.token(fleet.FleetRead)
	s.do("GET", "/v1/devices", "", "Authorization: Bearer "+other).is(200)
	s.do("GET", "/livez", "", "Authorization: ").is(200)
}

func TestAPanicIsAnsweredAndLogged(t *testing.T) {
	s := newServer(t, nil)
	s.commands.panics = true
	a := s.do("GET", "/v1/commands/"+string(theCommand), "", "X-Request-ID: trace-me").problem(500, "INTERNAL")
	if id := a.header.Get("X-Request-ID"); id != "trace-me" {
		t.Errorf("request id %q", id)
	}
	if logs := s.logs.String(); !strings.Contains(logs, "boom") || !strings.Contains(logs, "request_id=trace-me") || !strings.Contains(logs, "fakes_test.go") {
		t.Errorf("logged %s", logs)
	}
	s.do("GET", "/livez", "").is(200)
}

func TestRequestIDs(t *testing.T) {
	s := newServer(t, nil)
	if got := s.do("GET", "/livez", "", "X-Request-ID: a/b:c=1").header.Get("X-Request-ID"); got != "a/b:c=1" {
		t.Errorf("got %q", got)
	}
	for _, given := range []string{"", "two words", strings.Repeat("x", 129)} {
		if got := s.do("GET", "/livez", "", "X-Request-ID: "+given).header.Get("X-Request-ID"); got == given || len(got) != 36 {
			t.Errorf("for %q: got %q", given, got)
		}
	}
}

func TestMetricsNameRoutesNotPaths(t *testing.T) {
	s := newServer(t, nil)
	s.do("POST", "/v1/devices", `{"id":"m-001","kind":"direct"}`).is(201)
	s.do("GET", "/v1/devices/m-001", "").is(200)
	s.do("GET", "/nowhere", "").is(404)
	s.do("BREW", "/nowhere", "").is(404)
	s.commands.panics = true
	s.do("GET", "/v1/commands/"+string(theCommand), "").is(500)
	page := s.do("GET", "/metrics", "", "Authorization: ").is(200).body
	for _, line := range []string{
		`meterline_http_requests_total{code="200",method="GET",route="/v1/devices/{id}"} 1`,
		`meterline_http_requests_total{code="404",method="GET",route="none"} 1`,
		`meterline_http_requests_total{code="404",method="other",route="none"} 1`,
		`meterline_http_requests_total{code="500",method="GET",route="/v1/commands/{id}"} 1`,
		`meterline_http_request_duration_seconds_count{method="GET",route="/v1/devices/{id}"} 1`,
	} {
		if !strings.Contains(page, line) {
			t.Errorf("no %s", line)
		}
	}
	if strings.Contains(page, "m-001") {
		t.Error("a device id became a label")
	}
}
