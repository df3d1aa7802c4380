package httpapi

import (
	"context"
	"net/http"

	"meterline/command"
	"meterline/fleet"
)

func (a *API) addOverview() {
	add(a, route{method: http.MethodGet, path: "/v1/overview", id: "getOverview", tag: "overview",
		summary: "How things stand",
		text: "Cheap enough to be asked every few seconds: the answer may be as old as that, and more where there is very much to count. " +
			"Gateways, backends and the backlog are the installation's, all else the tenant's.",
		scopes: readCommands}, a.getOverview)
}

type overviewOut struct {
	Body command.Overview
}

func (a *API) getOverview(ctx context.Context, by fleet.Token, _ *struct{}) (*overviewOut, error) {
	o, err := a.overview.Overview(ctx, by.Tenant)
	if err != nil {
		return nil, err
	}
	return &overviewOut{o}, nil
}
