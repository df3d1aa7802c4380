package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"meterline/command"
	"meterline/fleet"
	"meterline/fleet/fleettest"
	"meterline/meterread"
	"meterline/testkit"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) { testkit.NoGoroutineLeft(m) }

const tenant = fleet.Tenant("acme")

// by is somebody of the tenant who does something.
func by(t fleet.Tenant) fleet.Actor { return fleet.Actor{Token: fleet.Token{Tenant: t}} }

// server is an API on a real socket, over fakes.
type server struct {
	t         *testing.T
	api       *API
	schemas   *jsonschema.Compiler // knows the description
	url       string
	commands  *fakeCommands
	registry  *fleettest.Memory
	fleet     *fleet.Service
	sessions  fakeSessions
	audit     *fakeAudit
	overviews *fakeOverviews
	logs      *lockedBuffer
	gatherer  *prometheus.Registry
	admin     string // a token that may do everything
	adminID   string
}

type fakeSessions struct {
	mu  *sync.Mutex
	m   map[meterread.DeviceID]command.Session
	err *error
}

func (f fakeSessions) Sessions(_ context.Context, endpoints []meterread.DeviceID) (map[meterread.DeviceID]command.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := map[meterread.DeviceID]command.Session{}
	for _, e := range endpoints {
		if s, ok := f.m[e]; ok {
			found[e] = s
		}
	}
	return found, *f.err
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newServer starts an API; change, when not nil, changes it before it answers.
func newServer(t *testing.T, change func(*Options, *API)) *server {
	t.Helper()
	s := &server{t: t, commands: newFakeCommands(), audit: &fakeAudit{}, overviews: &fakeOverviews{}, registry: fleettest.NewMemory(), logs: &lockedBuffer{}, gatherer: prometheus.NewRegistry(),
		sessions: fakeSessions{mu: &sync.Mutex{}, m: map[meterread.DeviceID]command.Session{}, err: new(error)}}
	s.fleet = fleet.NewService(fleet.Options{Registry: s.registry, Tokens: s.registry, Users: s.registry, Sessions: s.registry, PasswordCost: 4, Pepper: fleet.Pepper("pepper")})
	s.admin, s.adminID = s.token(fleet.Admin)
	o := Options{Commands: s.commands, Fleet: s.fleet, Sessions: s.sessions, Audit: s.audit, Overview: s.overviews, Logger: slog.New(slog.NewTextHandler(s.logs, nil)),
		Metrics: s.gatherer, Gatherer: s.gatherer}
	if change != nil {
		change(&o, nil)
	}
	api, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&o, api)
	}
	s.api = api
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(api.spec))
	if err != nil {
		t.Fatal(err)
	}
	s.schemas = jsonschema.NewCompiler()
	if err := s.schemas.AddResource("http://meterline.invalid/openapi.json", document); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(api)
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

// token makes a token of the tenant with these scopes.
func (s *server) token(scopes ...fleet.Scope) (secret, id string) {
	s.t.Helper()
	return s.tokenOf(tenant, scopes...)
}

func (s *server) tokenOf(t fleet.Tenant, scopes ...fleet.Scope) (secret, id string) {
	s.t.Helper()
	token, secret, err := s.fleet.GrantToken(s.t.Context(), by(t), fleet.NewToken{Name: "test", Scopes: scopes})
	if err != nil {
		s.t.Fatal(err)
	}
	return secret, token.ID
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

// do makes a request; headers are "Name: value". Without an Authorization the admin's token is sent.
func (s *server) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	return s.send(s.request(method, path, r, headers...))
}

// later makes a request meanwhile; what it returns waits for the answer.
func (s *server) later(method, path, body string, headers ...string) func() answer {
	answers := make(chan answer, 1)
	go func() {
		defer close(answers)
		answers <- s.do(method, path, body, headers...)
	}()
	return func() answer {
		s.t.Helper()
		a, ok := <-answers
		if !ok {
			s.t.Fatal("no answer came")
		}
		return a
	}
}

func (s *server) request(method, path string, body io.Reader, headers ...string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.admin)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Del(name)
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return r
}

func (s *server) send(r *http.Request) answer {
	s.t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v after %q", r.Method, r.URL.Path, err, body)
	}
	s.described(r, resp, body)
	return answer{s.t, resp.StatusCode, resp.Header, string(body)}
}

// described checks that an answer is one that the description tells of: the status is listed, the body fits its schema.
func (s *server) described(r *http.Request, resp *http.Response, body []byte) {
	s.t.Helper()
	_, pattern := s.api.mux.Handler(r)
	method, path, _ := strings.Cut(pattern, " ")
	if _, ours := s.api.routes[pattern]; !ours {
		return
	}
	op := s.api.huma.OpenAPI().Paths[path]
	responses := map[string]*huma.Operation{"GET": op.Get, "POST": op.Post, "PUT": op.Put, "PATCH": op.Patch, "DELETE": op.Delete}[method].Responses
	status := strconv.Itoa(resp.StatusCode)
	if responses[status] == nil {
		s.t.Errorf("%s answers %s, which is not described", pattern, status)
		return
	}
	mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if mediaType != jsonType && mediaType != problemType {
		return
	}
	token := strings.NewReplacer("~", "~0", "/", "~1")
	schema, err := s.schemas.Compile("http://meterline.invalid/openapi.json#/paths/" + token.Replace(path) + "/" + strings.ToLower(method) + "/responses/" +
		status + "/content/" + token.Replace(mediaType) + "/schema")
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		s.t.Errorf("%s %s: %v", pattern, status, err)
	}
}

// is checks the status.
func (a answer) is(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("got %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

func (a answer) json(into any) answer {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
	return a
}

// problem checks that the answer is one, with a code, and complaints at the pointers.
func (a answer) problem(status int, code string, pointers ...string) answer {
	a.t.Helper()
	a.is(status)
	if got := a.header.Get("Content-Type"); got != problemType {
		a.t.Errorf("content type %q", got)
	}
	var p Problem
	a.json(&p)
	if p.Status != status || p.Code != code || p.Title == "" || p.Detail == "" || p.Type != "about:blank" {
		a.t.Errorf("got %s", a.body)
	}
	if p.RequestID == "" || p.RequestID != a.header.Get("X-Request-ID") {
		a.t.Errorf("request id %q, header %q", p.RequestID, a.header.Get("X-Request-ID"))
	}
	var got []string
	for _, f := range p.Errors {
		got = append(got, f.Pointer)
	}
	if !slices.Equal(got, pointers) {
		a.t.Errorf("pointers %q, want %q: %s", got, pointers, a.body)
	}
	return a
}

// until polls for something that another goroutine does.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	over := time.After(time.Minute)
	for !done() {
		select {
		case <-over:
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestTheDescriptionIsTheOneThatIsCommitted(t *testing.T) {
	s := newServer(t, nil)
	got, err := s.api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "../docs/openapi.yaml"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/openapi.yaml is not what the code says; look at the difference, then: go test ./httpapi -run Description -update")
	}
	if served := s.do("GET", "/openapi.yaml", "", "Authorization: "); served.status != 200 || served.body != string(got) {
		t.Errorf("got %d", served.status)
	}
	var document struct {
		OpenAPI string
		Paths   map[string]map[string]any
	}
	s.do("GET", "/openapi.json", "", "Authorization: ").is(200).json(&document)
	if document.OpenAPI != "3.1.0" {
		t.Errorf("version %s", document.OpenAPI)
	}
	for pattern := range s.api.routes {
		method, path, _ := strings.Cut(pattern, " ")
		if document.Paths[path][strings.ToLower(method)] == nil {
			t.Errorf("%s is not described", pattern)
		}
	}
	if strings.Contains(string(got), "$schema") {
		t.Error("there is a $schema in the description")
	}
}
