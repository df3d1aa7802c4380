package simulator

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"meterline/meterread"
)

func TestInstallRegistersEverythingWithItsSecret(t *testing.T) {
	var calls []string
	var lines []Registration
	busy := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if busy {
			busy = false
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		calls = append(calls, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type")+" "+r.Header.Get("Authorization"))
		if r.URL.Path == "/v1/groups" {
			w.WriteHeader(http.StatusConflict) // it is there already
			return
		}
		for s := bufio.NewScanner(r.Body); s.Scan(); {
			var line Registration
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				t.Errorf("line %q: %v", s.Text(), err)
			}
			lines = append(lines, line)
		}
	}))
	defer server.Close()
	api := NewAPI(server.URL, "mtl_x")
	defer api.Close()
	layout := Layout{Prefix: "p", IPCs: 2, MetersPerIPC: 3, BusesPerIPC: 2, Direct: 2, Key: "k"}
	sites := layout.Sites()
	if err := api.Install(context.Background(), sites, "p"); err != nil { // the 429 is obeyed, the 409 is no error
		t.Fatal(err)
	}
	want := []string{"POST /v1/groups application/json Bearer mtl_x", "POST /v1/devices/import application/x-ndjson Bearer mtl_x"}
	if !slices.Equal(calls, want) || len(lines) != 10 {
		t.Fatalf("calls %q with %d lines", calls, len(lines))
	}
	for i, l := range lines {
		secret, err := base64.RawURLEncoding.DecodeString(l.Secret)
		if i < 4 && (l.Kind == "meter" || err != nil || len(secret) != 32) {
			t.Errorf("endpoint %+v", l)
		}
		if i >= 4 && (l.Kind != "meter" || l.Secret != "" || !strings.HasPrefix(string(l.ID), string(l.EndpointID)+"-m")) {
			t.Errorf("meter %+v", l)
		}
		if !l.Enabled || !slices.Equal(l.Groups, []string{"p"}) {
			t.Errorf("%+v", l)
		}
	}
}

func TestLayout(t *testing.T) {
	l := Layout{Prefix: "p", IPCs: 2, MetersPerIPC: 3, BusesPerIPC: 2, Direct: 2, Key: "k"}
	sites, again := l.Sites(), l.Sites()
	if len(sites) != 4 || sites[0].Kind != KindIPC || sites[3].ID != "p-direct-00002" {
		t.Fatalf("%+v", sites)
	}
	routes, secrets := map[string]bool{}, map[string]bool{}
	var ids []meterread.DeviceID
	for i, s := range sites {
		if s.Credentials != again[i].Credentials {
			t.Error("the same key gives other secrets")
		}
		secrets[s.Credentials.Password] = true
		ids = append(ids, s.Targets()...)
		for _, m := range s.Meters {
			routes[string(m.Route)] = true
		}
	}
	if len(routes) != 6 || len(secrets) != 4 || len(ids) != 8 {
		t.Errorf("%d routes, %d secrets, %d targets; want 6, 4, 8", len(routes), len(secrets), len(ids))
	}
	if want := `[{"bus":"com2","baud":2400},{"meter":"000001000002","protocol":"dlt645-2007"}]`; string(sites[0].Meters[1].Route) != want {
		t.Errorf("route %s, want %s", sites[0].Meters[1].Route, want)
	}
	l.Key = "other"
	if l.Sites()[0].Credentials.Password == sites[0].Credentials.Password {
		t.Error("another key gives the same secrets")
	}
}
