package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"meterline/command"
	"meterline/fleet"
	"meterline/testkit"
)

// audited lists the audit log, newest first.
func (h *house) audited(query string) []fleet.Entry {
	h.t.Helper()
	var list struct{ Items []fleet.Entry }
	h.must("GET", "/v1/audit?limit=1000&"+query, "").into(h.t, &list)
	return list.Items
}

// mutating lists the calls of the API that change something, as its own description has them.
func (h *house) mutating() (calls []string) {
	h.t.Helper()
	var description struct {
		Paths map[string]map[string]json.RawMessage
	}
	h.must("GET", "/openapi.json", "").into(h.t, &description)
	for path, methods := range description.Paths {
		for method := range methods {
			if m := strings.ToUpper(method); m != http.MethodGet {
				calls = append(calls, m+" "+path)
			}
		}
	}
	slices.Sort(calls)
	return calls
}

// Every call that changes something is in the audit log: by its actor, its request and where it came from. A call that is new
// in the API fails this test until it is tried here.
func TestEveryMutatingCallIsAudited(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	p := h.play("d1", h.direct("d1"), false)
	for i := range 4 {
		p.up("result", []byte{'{', 0xff, byte('0' + i)})
	}
	var letters []command.DeadLetter
	testkit.Eventually(t, waitMost, func() bool { letters = h.lettersOf("status=open"); return len(letters) == 4 }, "four dead letters")
	read := `{"kind":"meter.read","targets":{"device_ids":["d2"]},"items":["1-0:1.8.0"],"timeout_s":600}`
	h.direct("d2")
	issued := string(h.issue(read).ID)
	var token struct{ ID, Token string }
	tried := map[string]bool{}
	var secrets []string

	try := func(call, path, body string, action fleet.Action, object string, headers ...string) answer {
		t.Helper()
		tried[call] = true
		method, _, _ := strings.Cut(call, " ")
		request := "walk-" + strings.NewReplacer(" ", "-", "/", "-", "{", "", "}", "").Replace(call)
		a := h.must(method, path, body, append(headers, "X-Request-ID", request)...)
		for _, e := range h.audited("action=" + string(action)) {
			if e.RequestID != request {
				continue
			}
			if e.Actor.Kind != fleet.ByToken || e.Actor.Name != "admin" || e.Actor.ID == "" || !strings.HasPrefix(e.Remote, "127.0.0.1:") ||
				e.At.IsZero() || e.Tenant != standaloneTenant || (object != "*" && string(e.Object.Kind)+":"+e.Object.ID != object) {
				t.Errorf("%s: %+v", call, e)
			}
			return a
		}
		t.Errorf("%s left no entry %s of the request", call, action)
		return a
	}

	made := try("POST /v1/devices", "/v1/devices", `{"id":"x1","kind":"direct"}`, fleet.DeviceCreate, "device:x1")
	var device struct {
		Credentials struct{ Password string }
	}
	made.into(t, &device)
	secrets = append(secrets, device.Credentials.Password)
	try("PATCH /v1/devices/{id}", "/v1/devices/x1", `{"name":"cellar"}`, fleet.DeviceUpdate, "device:x1")
	try("POST /v1/devices/{id}/credentials", "/v1/devices/x1/credentials", "", fleet.DeviceCredentials, "device:x1").into(t, &device)
	secrets = append(secrets, device.Credentials.Password)
	try("POST /v1/devices/import", "/v1/devices/import", "id,name,kind\ny1,,direct\ny2,,direct\n", fleet.DeviceImport, "device:", "Content-Type", "text/csv")
	try("POST /v1/groups", "/v1/groups", `{"name":"north"}`, fleet.GroupCreate, "group:north")
	try("PATCH /v1/groups/{name}", "/v1/groups/north", `{"description":"up there"}`, fleet.GroupUpdate, "group:north")
	try("PUT /v1/groups/{name}/devices", "/v1/groups/north/devices", `{"device_ids":["x1"]}`, fleet.GroupAdd, "group:north")
	try("DELETE /v1/groups/{name}/devices", "/v1/groups/north/devices", `{"device_ids":["x1"]}`, fleet.GroupRemove, "group:north")
	try("DELETE /v1/groups/{name}", "/v1/groups/north", "", fleet.GroupDelete, "group:north")
	try("DELETE /v1/devices/{id}", "/v1/devices/x1", "", fleet.DeviceDelete, "device:x1")
	try("POST /v1/tokens", "/v1/tokens", `{"name":"t","scopes":["fleet:read"]}`, fleet.TokenCreate, "*").into(t, &token)
	secrets = append(secrets, token.Token)
	try("DELETE /v1/tokens/{id}", "/v1/tokens/"+token.ID, "", fleet.TokenDelete, "token:"+token.ID)
	session := try("POST /v1/session", "/v1/session", `{"token":"`+h.token+`"}`, fleet.SessionCreate, "*")
	cookie, err := http.ParseSetCookie(session.header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, cookie.Value)
	try("DELETE /v1/session", "/v1/session", "", fleet.SessionDelete, "*", "Authorization", "", "Cookie", cookie.Name+"="+cookie.Value)
	try("POST /v1/commands", "/v1/commands", read, fleet.CommandIssue, "*")
	try("POST /v1/commands/{id}/cancel", "/v1/commands/"+issued+"/cancel", "", fleet.CommandCancel, "command:"+issued)
	try("POST /v1/commands/{id}/retry", "/v1/commands/"+issued+"/retry", "", fleet.CommandRetry, "*")
	try("POST /v1/dead-letters/{id}/replay", "/v1/dead-letters/"+letters[0].ID+"/replay", "", fleet.LetterReplay, "dead_letter:"+letters[0].ID)
	try("POST /v1/dead-letters/{id}/discard", "/v1/dead-letters/"+letters[1].ID+"/discard", "", fleet.LetterDiscard, "dead_letter:"+letters[1].ID)
	try("POST /v1/dead-letters/replay", "/v1/dead-letters/replay", `{"ids":["`+letters[2].ID+`"]}`, fleet.LetterReplay, "*")
	try("POST /v1/dead-letters/discard", "/v1/dead-letters/discard", `{"all":true}`, fleet.LetterDiscard, "*")

	for _, call := range h.mutating() {
		if !tried[call] {
			t.Errorf("%s changes something, and is not tried here", call)
		}
	}
	all := h.must("GET", "/v1/audit?limit=1000", "").body
	for _, secret := range secrets {
		if secret == "" || bytes.Contains(all, []byte(secret)) {
			t.Error("the audit log tells a secret")
		}
	}
	if a := h.call("GET", "/v1/audit?action=fly", ""); a.status != 422 || !bytes.Contains(a.body, []byte("?action")) {
		t.Errorf("%d %s", a.status, a.body)
	}
	// The token that standalone itself made at its first start.
	first := h.audited("action=token.create&actor=command%20line")
	if len(first) != 1 || first[0].Actor.Kind != fleet.BySystem || first[0].Remote == "" {
		t.Errorf("%+v", first)
	}
}
