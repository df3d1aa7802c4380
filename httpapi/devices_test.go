package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
)

func TestTheLifeOfADevice(t *testing.T) {
	s := newServer(t, nil)
	var ipc device
	a := s.do("POST", "/v1/devices", `{"id":"ipc-1","kind":"ipc","name":"Cellar"}`).is(201).json(&ipc)
	if a.header.Get("Location") != "/v1/devices/ipc-1" || ipc.Credentials == nil || ipc.Credentials.ClientID != "ipc-1" ||
		ipc.Credentials.Username != "ipc-1" || len(ipc.Credentials.Password) != 43 {
		t.Errorf("got %s", a.body)
	}
	a = s.do("POST", "/v1/devices", `{"id":"m-001","kind":"meter","endpoint_id":"ipc-1","route":[{"bus":"com1","baud":2400}],"tags":{"city":"Graz"}}`).is(201)
	if strings.Contains(a.body, "credentials") {
		t.Errorf("a meter got credentials: %s", a.body)
	}
	a = s.do("GET", "/v1/devices/ipc-1", "").is(200)
	for _, shape := range []string{`"tenant":"acme"`, `"endpoint_id":"ipc-1"`, `"route":[]`, `"tags":{}`, `"groups":[]`, `"enabled":true`, `"last_read_at":null`,
		`"presence":{"online":false,"gateway":"","since":null}`} {
		if !strings.Contains(a.body, shape) {
			t.Errorf("no %s in %s", shape, a.body)
		}
	}
	if strings.Contains(a.body, "credentials") {
		t.Errorf("credentials were shown again: %s", a.body)
	}
	var again device
	s.do("POST", "/v1/devices/ipc-1/credentials", "").is(200).json(&again)
	if again.Credentials == nil || again.Credentials.Password == ipc.Credentials.Password {
		t.Errorf("got %+v", again.Credentials)
	}
	s.do("POST", "/v1/devices/m-001/credentials", "").problem(422, "INVALID", "")

	var m device
	a = s.do("PATCH", "/v1/devices/m-001", `{"name":"Attic","tags":{"floor":"3","city":null},"enabled":false}`, "Content-Type: application/merge-patch+json").is(200).json(&m)
	if m.Name != "Attic" || len(m.Tags) != 1 || m.Tags["floor"] != "3" || m.Enabled || len(m.Route) < 5 {
		t.Errorf("got %s", a.body)
	}
	a = s.do("PATCH", "/v1/devices/m-001", `{"name":null,"tags":null,"groups":null}`).is(200).json(&m)
	if m.Name != "" || !strings.Contains(a.body, `"tags":{}`) {
		t.Errorf("got %s", a.body)
	}
	s.do("PATCH", "/v1/devices/m-001", `{"endpoint_id":null,"route":null}`).problem(422, "INVALID", "/endpoint_id", "/route")
	s.do("PATCH", "/v1/devices/m-001", `[]`).problem(422, "INVALID", "")
	s.do("PATCH", "/v1/devices/m-001", `null`).is(200)

	s.do("POST", "/v1/devices", `{"id":"ipc-1","kind":"ipc"}`).problem(409, "ID_TAKEN")
	s.do("DELETE", "/v1/devices/ipc-1", "").problem(409, "IN_USE")
	if a := s.do("DELETE", "/v1/devices/m-001", "").is(204); a.body != "" {
		t.Errorf("got %q", a.body)
	}
	s.do("GET", "/v1/devices/m-001", "").problem(404, "NOT_FOUND")
	s.do("POST", "/v1/devices", `{"id":"x y","kind":"meter"}`).problem(422, "INVALID", "/id", "/endpoint_id", "/route")
}

func TestDevicesAreFoundAndPaged(t *testing.T) {
	s := newServer(t, nil)
	for i := range 5 {
		s.do("POST", "/v1/devices", fmt.Sprintf(`{"id":"d-%d","kind":"direct","tags":{"parity":"%d","all":"a:b=c"}}`, i, i%2)).is(201)
	}
	since := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	s.sessions.m["d-1"] = command.Session{Endpoint: "d-1", Gateway: "gw", Since: since}
	s.sessions.m["d-4"] = command.Session{Endpoint: "d-4", Gateway: "gw", Since: since}
	all := func(query string) string {
		t.Helper()
		ids, cursor := "", ""
		for {
			var l list[device]
			s.do("GET", "/v1/devices?limit=2"+query+cursor, "").is(200).json(&l)
			for _, d := range l.Items {
				ids += strings.TrimPrefix(string(d.ID), "d-")
				if d.Presence == nil || d.Presence.Online != (d.ID == "d-1" || d.ID == "d-4") {
					t.Errorf("%s: presence %+v", d.ID, d.Presence)
				}
				if d.Presence.Online && (d.Presence.Gateway != "gw" || !d.Presence.Since.Equal(since)) {
					t.Errorf("%s: presence %+v", d.ID, d.Presence)
				}
			}
			if l.NextCursor == nil {
				return ids
			}
			ids += "|"
			cursor = "&cursor=" + *l.NextCursor
		}
	}
	for query, want := range map[string]string{
		"": "01|23|4", "&tag=parity:1": "13", "&tag=parity:0": "02|4", "&tag=parity%3D0&tag=all:a:b=c": "02|4", "&tag=parity:2": "",
		"&q=D-3": "3", "&kind=direct&endpoint_id=d-2": "2", "&kind=ipc": "", "&online=true": "14|", "&online=false": "02|3", "&online=true&tag=parity:1": "1",
	} {
		if got := all(query); got != want {
			t.Errorf("%q: got %s, want %s", query, got, want)
		}
	}
	*s.sessions.err = errors.New("redis is away")
	if a := s.do("GET", "/v1/devices/d-1", "").is(200); !strings.Contains(a.body, `"presence":null`) {
		t.Errorf("got %s", a.body)
	}
	s.do("GET", "/v1/devices?online=true", "").problem(503, "UNAVAILABLE")
}

func TestImport(t *testing.T) {
	s := newServer(t, nil)
	a := s.do("POST", "/v1/devices/import", "id,kind,endpoint_id,route,groups\nipc,ipc,,,\nm,meter,ipc,\"[{\"\"bus\"\":1}]\",north;south\n", "Content-Type: text/csv").is(200)
	if strings.TrimSpace(a.body) != `{"created":2,"updated":0,"without_credentials":1}` {
		t.Errorf("got %s", a.body)
	}
	a = s.do("POST", "/v1/devices/import", `{"id":"ipc","kind":"ipc","name":"new"}`, "Content-Type: application/x-ndjson; charset=utf-8").is(200)
	if strings.TrimSpace(a.body) != `{"created":0,"updated":1,"without_credentials":0}` {
		t.Errorf("got %s", a.body)
	}
	s.do("GET", "/v1/groups/south", "").is(200)
	s.do("POST", "/v1/devices/import", "id,kind\na b,ipc\nx,robot\n", "Content-Type: text/csv").problem(422, "INVALID", "/2/id", "/3/kind")
	s.do("POST", "/v1/devices/import", "", "Content-Type: text/csv").problem(422, "INVALID", "/1")
	s.registry.SetFail(command.ErrUnavailable)
	s.do("POST", "/v1/devices/import", "id,kind\na,ipc\n", "Content-Type: text/csv").problem(503, "UNAVAILABLE")
}

// endless is a body of so many empty lines.
type endless struct{ left int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.left)
	for i := range p[:n] {
		p[i] = '\n'
	}
	e.left -= n
	return int(n), nil
}

func TestAnImportMayBeLargeButNotEndless(t *testing.T) {
	s := newServer(t, nil)
	head := `{"id":"a","kind":"direct"}` + "\n"
	send := func(length int64) answer {
		body := io.MultiReader(strings.NewReader(head), &endless{left: length - int64(len(head))})
		r := s.request("POST", "/v1/devices/import", body, "Content-Type: application/x-ndjson")
		r.ContentLength = -1
		return s.send(r)
	}
	t.Setenv("TMPDIR", t.TempDir())
	send(2 * spoolInMemory).is(200)
	send(maxImport+1).problem(413, "BODY_TOO_LARGE")
	s.do("GET", "/v1/devices/a", "").is(200)
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("left on disk: %v, %v", left, err)
	}
}

func TestABodyThatStopsComing(t *testing.T) {
	s := newServer(t, func(_ *Options, a *API) {
		if a != nil {
			a.times.body = 50 * time.Millisecond
		}
	})
	for path, contentType := range map[string]string{"/v1/devices/import": "text/csv", "/v1/commands": "application/json"} {
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, "id,kind\n") }()
		req := s.request("POST", path, r, "Content-Type: "+contentType)
		req.ContentLength = -1
		resp, err := http1().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
		w.Close()
	}
}

func TestGroupsByHTTP(t *testing.T) {
	s := newServer(t, nil)
	s.do("POST", "/v1/devices", `{"id":"a","kind":"direct"}`).is(201)
	if a := s.do("POST", "/v1/groups", `{"name":"north","description":"up"}`).is(201); a.header.Get("Location") != "/v1/groups/north" {
		t.Errorf("Location %q", a.header.Get("Location"))
	}
	s.do("POST", "/v1/groups", `{"name":"north"}`).problem(409, "ID_TAKEN")
	s.do("POST", "/v1/groups", `{"name":"a/b"}`).problem(422, "INVALID", "/name")
	var g fleet.Group
	if s.do("PUT", "/v1/groups/north/devices", `{"device_ids":["a"]}`).is(200).json(&g); g.Devices != 1 {
		t.Errorf("got %+v", g)
	}
	s.do("PUT", "/v1/groups/north/devices", `{"device_ids":["a","b"]}`).problem(422, "INVALID", "/device_ids/1")
	s.do("PUT", "/v1/groups/north/devices", `{"device_ids":[]}`).problem(422, "INVALID", "/device_ids")
	if s.do("PATCH", "/v1/groups/north", `{"description":"down"}`).is(200).json(&g); g.Description != "down" {
		t.Errorf("got %+v", g)
	}
	if s.do("PATCH", "/v1/groups/north", `{}`).is(200).json(&g); g.Description != "down" {
		t.Errorf("got %+v", g)
	}
	if s.do("PATCH", "/v1/groups/north", `{"description":null}`).is(200).json(&g); g.Description != "" {
		t.Errorf("got %+v", g)
	}
	if s.do("DELETE", "/v1/groups/north/devices", `{"device_ids":["a"]}`).is(200).json(&g); g.Devices != 0 {
		t.Errorf("got %+v", g)
	}
	var l list[fleet.Group]
	if s.do("GET", "/v1/groups", "").is(200).json(&l); len(l.Items) != 1 {
		t.Errorf("got %+v", l)
	}
	s.do("DELETE", "/v1/groups/north", "").is(204)
	s.do("GET", "/v1/groups/north", "").problem(404, "NOT_FOUND")
}

func TestTokensByHTTP(t *testing.T) {
	s := newServer(t, nil)
	var made madeToken
	s.do("POST", "/v1/tokens", `{"name":"reader","scopes":["fleet:read","tokens:admin"],"expires_at":"2999-01-01T00:00:00Z"}`).is(201).json(&made)
	if !strings.HasPrefix(made.Secret, fleet.TokenPrefix) || made.Tenant != tenant {
		t.Errorf("got %+v", made)
	}
	as := "Authorization: Bearer " + made.Secret
	s.do("GET", "/v1/devices", "", as).is(200)
	s.do("POST", "/v1/tokens", `{"name":"x","scopes":["fleet:write"]}`, as).problem(403, "SCOPE_MISSING")
	s.do("POST", "/v1/tokens", `{"name":"","scopes":["fly"],"expires_at":"2020-01-01T00:00:00Z"}`, as).problem(422, "INVALID", "/name", "/scopes/0", "/expires_at")
	var l list[fleet.Token]
	a := s.do("GET", "/v1/tokens", "", as).is(200).json(&l)
	if len(l.Items) != 2 || strings.Contains(a.body, made.Secret) {
		t.Errorf("got %s", a.body)
	}
	s.do("DELETE", "/v1/tokens/"+made.ID, "").is(204)
	s.do("GET", "/v1/devices", "", as).problem(401, "UNAUTHENTICATED")
}
