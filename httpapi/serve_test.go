package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"meterline/command"
	"meterline/testkit"
)

func TestHealth(t *testing.T) {
	broken := errors.New("dial tcp 10.0.0.7:5432: connection refused")
	var err error
	s := newServer(t, func(o *Options, _ *API) {
		o.Checks = map[string]func(context.Context) error{"redis": func(context.Context) error { return nil }, "postgres": func(context.Context) error { return err }}
	})
	s.do("GET", "/livez", "", "Authorization: ").is(200)
	if a := s.do("GET", "/readyz", "", "Authorization: ").is(200); strings.TrimSpace(a.body) != `{"status":"ok","checks":{"postgres":"ok","redis":"ok"}}` {
		t.Errorf("got %s", a.body)
	}
	err = broken
	a := s.do("GET", "/readyz", "", "Authorization: ").is(503)
	if strings.TrimSpace(a.body) != `{"status":"unavailable","checks":{"postgres":"unavailable","redis":"ok"}}` {
		t.Errorf("got %s", a.body)
	}
	if !strings.Contains(s.logs.String(), broken.Error()) {
		t.Errorf("logged %s", s.logs)
	}
}

// TestServeDrains: what waits is answered at once, what works may end, and then the server has stopped.
func TestServeDrains(t *testing.T) {
	s := newServer(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, nil, s.api, slog.New(slog.DiscardHandler)) }()

	events, _ := s.follow()
	later := s.later("GET", commandURL+"?wait=60", "")
	until(t, "the request to wait", func() bool {
		s.commands.mu.Lock()
		defer s.commands.mu.Unlock()
		return len(s.commands.waited) == 1
	})
	pulse, began := testkit.StartPulse(t), time.Now()
	stop()
	var v command.View
	if later().is(200).json(&v); v.Status != command.StatusRunning {
		t.Errorf("got %+v", v)
	}
	for e := range events {
		if e.comment == "" { // it may have taken long enough for a sign of life
			t.Errorf("got %+v", e)
		}
	}
	if err := <-served; err != nil || time.Since(began) > pulse.Limit(5*time.Second) {
		t.Errorf("got %v after %v", err, time.Since(began))
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) { // at its address a stranger might answer who has the port now
		t.Errorf("it still listened: %v", err)
	}
}

func TestServeSaysThatItCannot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, nil, http.NotFoundHandler(), slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestWireSchemas checks the examples of messages, those that are right and those that are not, against what is served.
func TestWireSchemas(t *testing.T) {
	s := newServer(t, nil)
	for _, name := range schemaFiles {
		a := s.do("GET", "/schemas/"+name, "", "Authorization: ").is(200)
		if got := a.header.Get("Content-Type"); got != "application/schema+json" {
			t.Errorf("%s: %s", name, got)
		}
		schema, err := compile(a.body)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(name, ".json")
		for kind, right := range map[string]bool{"good": true, "bad": false} {
			lines, err := os.ReadFile(filepath.Join("testdata", "wire", base+"."+kind+".ndjson"))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(lines)) {
				v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
				if err != nil {
					t.Fatalf("%s %s: %v in %s", name, kind, err, line)
				}
				if err := schema.Validate(v); (err == nil) != right {
					t.Errorf("%s should be %s: %s%v", name, kind, line, err)
				}
			}
		}
	}
}

// TestOurCommandsFitTheirSchema: what the backend sends is what the schema says.
func TestOurCommandsFitTheirSchema(t *testing.T) {
	text, err := schemas.ReadFile("schemas/down-command.json")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := compile(string(text))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for name, m := range map[string]command.Message{
		"full": {V: 1, MessageID: "x", MessageType: "unicast", CommandID: theCommand, Kind: command.MeterRead, IssuedAt: at, ExpiresAt: at, Priority: 5,
			Attempt: 1, TraceParent: "00-a-b-01", Items: nil, Params: []byte(`{}`), Targets: []command.Target{{DeviceID: "m-001", Route: []byte(`[{"bus":"com1"}]`)}}},
		"bare": {V: 1, MessageType: "unicast", Kind: command.DevicePing, Attempt: 1, Targets: []command.Target{{DeviceID: "m-001"}}},
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(marshal(t, m)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func compile(text string) (*jsonschema.Schema, error) {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("http://meterline.invalid/schema.json", v); err != nil {
		return nil, err
	}
	return c.Compile("http://meterline.invalid/schema.json")
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
