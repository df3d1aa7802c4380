package httpapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"meterline/fleet"
)

// user adds a user of the tenant whose password is "correct horse".
func (s *server) user(name string, role fleet.Role) {
	s.t.Helper()
	if _, err := s.fleet.CreateUser(s.t.Context(), by(tenant), name, role, "correct horse"); err != nil {
		s.t.Fatal(err)
	}
}

// signIn signs in and gives the header that carries the session.
func (s *server) signIn(body string) (session, cookie string) {
	s.t.Helper()
	a := s.do("POST", "/v1/session", body, "Authorization: ").is(200)
	c, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil {
		s.t.Fatal(err)
	}
	if c.Name != "__Host-meterline" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.Value == "" {
		s.t.Errorf("the cookie is %s", c)
	}
	if strings.Contains(a.body, c.Value) {
		s.t.Error("the body tells the secret of the session")
	}
	return a.body, "Cookie: " + c.Name + "=" + c.Value
}

func TestAUserSignsInAndOut(t *testing.T) {
	s := newServer(t, nil)
	s.user("anna", fleet.Operator)
	body, cookie := s.signIn(`{"name":"anna","password":"correct horse"}`)
	var who session
	if err := json.Unmarshal([]byte(body), &who); err != nil {
		t.Fatal(err)
	}
	if who.Tenant != tenant || who.Name != "anna" || who.Role != fleet.Operator || !slices.Equal(who.Scopes, fleet.Operator.Scopes()) || time.Until(*who.ExpiresAt) < time.Hour {
		t.Errorf("signed in as %+v", who)
	}
	if again := s.do("GET", "/v1/session", "", "Authorization: ", cookie).is(200).body; again != body {
		t.Errorf("got %s, want %s", again, body)
	}
	s.do("GET", "/v1/devices", "", "Authorization: ", cookie).is(200)
	s.do("POST", "/v1/devices", `{"id":"d1","kind":"direct"}`, "Authorization: ", cookie).problem(403, "SCOPE_MISSING")
	s.do("POST", "/v1/commands", `{"kind":"device.ping","targets":{"all":true}}`, "Authorization: ", cookie).is(202)
	if who := s.commands.by[len(s.commands.by)-1]; who.ID != "user:anna" || who.Name != "anna" {
		t.Errorf("a command is issued by %+v", who)
	}
	// The secret of a session is no bearer token, nor is that of a token a session.
	_, secret, _ := strings.Cut(cookie, "=")
	s.do("GET", "/v1/devices", "", "Authorization: Bearer "+secret).problem(401, "UNAUTHENTICATED")
	s.do("GET", "/v1/devices", "", "Authorization: ", "Cookie: __Host-meterline="+s.admin).problem(401, "UNAUTHENTICATED")

	gone := s.do("DELETE", "/v1/session", "", "Authorization: ", cookie).is(204)
	if c, err := http.ParseSetCookie(gone.header.Get("Set-Cookie")); err != nil || c.Name != "__Host-meterline" || c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("the browser is told %q", gone.header.Get("Set-Cookie"))
	}
	s.do("GET", "/v1/session", "", "Authorization: ", cookie).problem(401, "UNAUTHENTICATED")
	s.do("GET", "/v1/session", "", "Authorization: ").problem(401, "UNAUTHENTICATED")
}

func TestATokenSignsIn(t *testing.T) {
	s := newServer(t, nil)
	for _, c := range []struct {
		scopes []fleet.Scope
		role   fleet.Role
	}{
		{[]fleet.Scope{fleet.Admin}, fleet.Administrator},
		{append(fleet.Operator.Scopes(), fleet.FleetWrite), fleet.Operator},
		{fleet.Viewer.Scopes(), fleet.Viewer},
		{[]fleet.Scope{fleet.FleetRead}, ""},
	} {
		secret, id := s.token(c.scopes...)
		body, cookie := s.signIn(`{"token":"` + secret + `"}`)
		var who session
		if err := json.Unmarshal([]byte(body), &who); err != nil || who.Role != c.role || !slices.Equal(who.Scopes, c.scopes) {
			t.Errorf("%v: %s, %v", c.scopes, body, err)
		}
		s.do("DELETE", "/v1/tokens/"+id, "").is(204) // and its sessions with it
		s.do("GET", "/v1/session", "", "Authorization: ", cookie).problem(401, "UNAUTHENTICATED")
	}
	// A session ends with the token that it came from.
	soon := time.Now().UTC().Add(time.Hour).Truncate(time.Second)
	_, secret, err := s.fleet.GrantToken(t.Context(), by(tenant), fleet.NewToken{Name: "short", Scopes: []fleet.Scope{fleet.Admin}, ExpiresAt: &soon})
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := s.signIn(`{"token":"` + secret + `"}`); !strings.Contains(body, soon.Format(time.RFC3339)) {
		t.Errorf("the token ends at %s, the session %s", soon, body)
	}
	// A bearer token is somebody too, without a session.
	if a := s.do("GET", "/v1/session", "").is(200); !strings.Contains(a.body, `"expires_at":null`) {
		t.Error(a.body)
	}
	s.do("DELETE", "/v1/session", "").is(204)
	s.do("GET", "/v1/session", "").is(200)
}

func TestSignInsThatAreRefused(t *testing.T) {
	s := newServer(t, nil)
	s.user("anna", fleet.Viewer)
	for name, c := range map[string]struct {
		body, code string
		status     int
		pointers   []string
	}{
		"no such token": {`{"token":"mtl_no"}`, "UNAUTHENTICATED", 401, nil},
		"a session":     {`{"token":"mts_no"}`, "UNAUTHENTICATED", 401, nil},
		"no such user":  {`{"name":"bert","password":"correct horse"}`, "UNAUTHENTICATED", 401, nil},
		"nothing":       {`{}`, "INVALID", 422, []string{""}},
		"no password":   {`{"name":"anna"}`, "INVALID", 422, []string{"/password"}},
		"both":          {`{"name":"anna","password":"x","token":"mtl_x"}`, "INVALID", 422, []string{"/token"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			a := s.do("POST", "/v1/session", c.body, "Authorization: ")
			a.problem(c.status, c.code, c.pointers...)
			if a.header.Get("Set-Cookie") != "" {
				t.Error("there is a cookie")
			}
		})
	}
}

// Guessing is slowed down, by name and address; whoever knows the password begins anew.
func TestGuessingIsSlowedDown(t *testing.T) {
	s := newServer(t, nil)
	s.user("anna", fleet.Viewer)
	s.user("bert", fleet.Viewer)
	good, bad := `{"name":"anna","password":"correct horse"}`, `{"name":"anna","password":"wrong horses"}`
	for range nameTriesAtOnce - 1 {
		s.do("POST", "/v1/session", bad, "Authorization: ").problem(401, "UNAUTHENTICATED")
	}
	s.signIn(good)
	for range nameTriesAtOnce {
		s.do("POST", "/v1/session", bad, "Authorization: ").problem(401, "UNAUTHENTICATED")
	}
	a := s.do("POST", "/v1/session", good, "Authorization: ")
	a.problem(429, "RATE_LIMITED")
	if a.header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
	s.signIn(`{"name":"bert","password":"correct horse"}`)
	s.do("GET", "/v1/devices", "").is(200) // others are not held up
}

// askFrom makes a request as if it had come from there.
func (s *server) askFrom(remote, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = remote
	r.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	return w
}

func TestNothingSecretCrossesANetworkInTheClear(t *testing.T) {
	s := newServer(t, nil)
	body := `{"token":"` + s.admin + `"}`
	w := s.askFrom("192.0.2.1:4711", "POST", "http://meters.example/v1/session", body)
	if w.Code != 403 || !strings.Contains(w.Body.String(), "INSECURE_SIGN_IN") || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, c := range []struct{ remote, url string }{
		{"192.0.2.1:4711", "https://meters.example/v1/session"}, // httptest makes it a TLS request
		{"[::1]:4711", "http://localhost/v1/session"}, {"127.0.0.1:4711", "http://localhost/v1/session"}, {"[::ffff:127.0.0.1]:4711", "http://localhost/v1/session"},
	} {
		if w := s.askFrom(c.remote, "POST", c.url, body); w.Code != 200 {
			t.Errorf("%v: %d %s", c, w.Code, w.Body)
		}
	}
}

// Another site can make a browser send requests, but not in the name of who has signed in here, nor sign anybody in.
func TestOtherSitesAreRefused(t *testing.T) {
	s := newServer(t, nil)
	_, cookie := s.signIn(`{"token":"` + s.admin + `"}`)
	for _, from := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: https://evil.example"} {
		s.do("POST", "/v1/groups", `{"name":"north"}`, "Authorization: ", cookie, from).problem(403, "CROSS_SITE")
		s.do("POST", "/v1/session", `{"token":"`+s.admin+`"}`, "Authorization: ", from).problem(403, "CROSS_SITE")
	}
	s.do("POST", "/v1/groups", `{"name":"north"}`, "Authorization: ", cookie, "Sec-Fetch-Site: same-origin").is(201)
	s.do("POST", "/v1/groups", `{"name":"south"}`, "Origin: https://partner.example").is(201) // a bearer token is not sent by itself
}
