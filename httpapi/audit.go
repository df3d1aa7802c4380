package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"meterline/fleet"
)

func (a *API) addAudit() {
	add(a, route{method: http.MethodGet, path: "/v1/audit", id: "listAudit", tag: "audit",
		summary: "List who did what, newest first",
		text: "Every call that changes something has its entry, written in the transaction of the change, and so has the command line. " +
			"Work on many things at once is one entry, with counts.",
		scopes: []fleet.Scope{fleet.AuditRead}}, a.listAudit)
}

type auditIn struct {
	Paged
	Period
	Actor  string `query:"actor" maxLength:"300" doc:"an id or a name"`
	Action string `query:"action" doc:"such as device.update; one that does not exist is refused"`
	Object string `query:"object" maxLength:"300" doc:"an id, or kind:id, or kind: for all of a kind, such as group:north"`
}

func (in auditIn) filter() (fleet.AuditFilter, error) {
	f := fleet.AuditFilter{Actor: in.Actor, Action: fleet.Action(in.Action), ObjectID: in.Object, From: in.From, To: in.To}
	if kind, id, named := strings.Cut(in.Object, ":"); named {
		f.ObjectKind, f.ObjectID = fleet.ObjectKind(kind), id
	}
	var bad []fieldError
	if f.Action != "" && !slices.Contains(fleet.Actions, f.Action) {
		bad = append(bad, complaint("?action", "must be one of "+joined(fleet.Actions)))
	}
	if f.ObjectKind != "" && !slices.Contains(fleet.ObjectKinds, f.ObjectKind) {
		bad = append(bad, complaint("?object", "must be an id, or begin with one of "+joined(fleet.ObjectKinds)+" and a colon"))
	}
	if len(bad) > 0 {
		return f, invalid(bad...)
	}
	return f, in.check()
}

func joined[T ~string](names []T) string {
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	return strings.Join(s, ", ")
}

func (a *API) listAudit(ctx context.Context, by fleet.Token, in *auditIn) (*listOut[fleet.Entry], error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	found, err := a.audit.Audit(ctx, by.Tenant, f, in.of())
	if err != nil {
		return nil, err
	}
	return listed(found.Items, found.NextCursor), nil
}
