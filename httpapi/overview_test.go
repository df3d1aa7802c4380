package httpapi

import (
	"context"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// fakeOverviews has one gateway that is dead and knows nothing else.
type fakeOverviews struct{ asked []fleet.Tenant }

func (f *fakeOverviews) Overview(_ context.Context, tenant fleet.Tenant) (command.Overview, error) {
	f.asked = append(f.asked, tenant)
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	return command.Overview{At: at, Minutes: []command.Minute{{Tenant: tenant, At: at, Readings: 7}}, Failures: []command.FailureCount{},
		Gateways: []command.GatewayHealth{{ID: "g1", Address: "host:1883"}}, Backends: []command.BackendHealth{}}, nil
}

func TestOverviewIsShown(t *testing.T) {
	s := newServer(t, nil)
	want := `{"at":"2026-01-31T12:00:00Z","endpoints":{"total":0,"online":null},"operations":{"open":0,"waiting":0,"oldest_waiting_at":null},` +
		`"minutes":[{"at":"2026-01-31T12:00:00Z","readings":7,"succeeded":0,"failed":0,"expired":0,"dead":0}],"failures":[],"dead_letters":{"open":0},` +
		`"backlog":null,"gateways":[{"id":"g1","address":"host:1883","alive":false,"connections":null}],"backends":[]}` + "\n"
	if got := s.do("GET", "/v1/overview", "").is(200).body; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(s.overviews.asked) != 1 || s.overviews.asked[0] != tenant {
		t.Errorf("asked for %v", s.overviews.asked)
	}
}
