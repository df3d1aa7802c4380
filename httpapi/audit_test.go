package httpapi

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// fakeAudit has two entries, and notes what was asked for.
type fakeAudit struct{ asked fleet.AuditFilter }

func (f *fakeAudit) Audit(_ context.Context, tenant fleet.Tenant, filter fleet.AuditFilter, _ command.Page) (command.List[fleet.Entry], error) {
	f.asked = filter
	e := fleet.Entry{ID: "e2", At: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Tenant: tenant, Actor: fleet.EntryActor{Kind: fleet.ByUser, ID: "user:anna", Name: "anna"},
		Action: fleet.DeviceUpdate, Object: fleet.EntryObject{Kind: fleet.OnDevice, ID: "m-001"}, Before: json.RawMessage(`{"name":"a"}`), After: json.RawMessage(`{"name":"b"}`)}
	credentials := e
	credentials.ID, credentials.Action, credentials.Before, credentials.After = "e1", fleet.DeviceCredentials, nil, nil
	return command.List[fleet.Entry]{Items: []fleet.Entry{e, credentials}, NextCursor: "more"}, nil
}

func TestAuditIsListed(t *testing.T) {
	s := newServer(t, nil)
	a := s.do("GET", "/v1/audit?actor=anna&action=device.update&object=device:m-001&from=2026-01-01T00:00:00Z", "").is(200)
	want := fleet.AuditFilter{Actor: "anna", Action: fleet.DeviceUpdate, ObjectKind: fleet.OnDevice, ObjectID: "m-001", From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if s.audit.asked != want {
		t.Errorf("asked for %+v", s.audit.asked)
	}
	for _, part := range []string{`"actor":{"kind":"user","id":"user:anna","name":"anna"}`, `"object":{"kind":"device","id":"m-001"}`,
		`"before":{"name":"a"},"after":{"name":"b"}`, `"before":null,"after":null`, `"next_cursor":"more"`} {
		if !strings.Contains(a.body, part) {
			t.Errorf("%s is not in %s", part, a.body)
		}
	}
	s.do("GET", "/v1/audit?object=m-001", "").is(200)
	if s.audit.asked != (fleet.AuditFilter{ObjectID: "m-001"}) {
		t.Errorf("asked for %+v", s.audit.asked)
	}
	s.do("GET", "/v1/audit?action=fly&object=moon:1", "").problem(422, "INVALID", "?action", "?object")
	s.do("GET", "/v1/audit?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "").problem(422, "INVALID", "?to")
}
