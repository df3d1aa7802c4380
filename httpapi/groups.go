package httpapi

import (
	"context"
	"net/http"

	"meterline/fleet"
)

func (a *API) addGroups() {
	add(a, route{method: http.MethodGet, path: "/v1/groups", id: "listGroups", tag: "fleet",
		summary: "List groups in order of their names", scopes: readFleet}, a.listGroups)
	add(a, route{method: http.MethodPost, path: "/v1/groups", id: "createGroup", tag: "fleet", status: http.StatusCreated,
		summary: "Add a group", scopes: writeFleet, body: newGroup{}, errors: []int{http.StatusConflict}}, a.createGroup)
	add(a, route{method: http.MethodGet, path: "/v1/groups/{name}", id: "getGroup", tag: "fleet",
		summary: "Show a group", text: "Its members: GET /v1/devices?group=…", scopes: readFleet}, a.getGroup)
	add(a, route{method: http.MethodPatch, path: "/v1/groups/{name}", id: "patchGroup", tag: "fleet",
		summary: "Change what a group says of itself",
		scopes:  writeFleet, body: groupPatch{}, types: []string{patchType, jsonType}}, a.patchGroup)
	add(a, route{method: http.MethodDelete, path: "/v1/groups/{name}", id: "deleteGroup", tag: "fleet", status: http.StatusNoContent,
		summary: "Remove a group; its devices stay", scopes: writeFleet}, a.deleteGroup)
	add(a, route{method: http.MethodPut, path: "/v1/groups/{name}/devices", id: "addMembers", tag: "fleet",
		summary: "Put devices into a group, beside those in it", scopes: writeFleet, body: members{}}, a.addMembers)
	add(a, route{method: http.MethodDelete, path: "/v1/groups/{name}/devices", id: "removeMembers", tag: "fleet",
		summary: "Take devices out of a group", scopes: writeFleet, body: members{}}, a.removeMembers)
}

// newGroup is the body of POST.
type newGroup struct {
	Name        string `json:"name" pattern:"^[A-Za-z0-9._-]{1,64}$"`
	Description string `json:"description,omitempty" maxLength:"1000"`
}

// groupPatch is the body of PATCH; null empties.
type groupPatch struct {
	Description *string `json:"description,omitempty" maxLength:"1000"`
}

// members is the body of PUT and DELETE of members.
type members struct {
	DeviceIDs []fleet.DeviceID `json:"device_ids" minItems:"1"`
}

// OfGroup is a part of the input of calls about one group.
type OfGroup struct {
	Name string `path:"name" doc:"of the group"`
}

type groupOut struct {
	Body fleet.Group
}

func (a *API) listGroups(ctx context.Context, by fleet.Token, in *Paged) (*listOut[fleet.Group], error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	found, err := a.fleet.Groups(ctx, by.Tenant, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return listedByName(found, in.Limit, func(g fleet.Group) string { return g.Name }), nil
}

// madeGroup is the answer to a group that was made.
type madeGroup struct {
	Location string `header:"Location"`
	Body     fleet.Group
}

func (a *API) createGroup(ctx context.Context, by fleet.Token, in *RawJSON) (*madeGroup, error) {
	n, _, err := decode[newGroup](in.RawBody)
	if err != nil {
		return nil, err
	}
	g, err := a.fleet.CreateGroup(ctx, actor(ctx, by), n.Name, n.Description)
	if err != nil {
		return nil, err
	}
	return &madeGroup{"/v1/groups/" + g.Name, g}, nil
}

func (a *API) getGroup(ctx context.Context, by fleet.Token, in *OfGroup) (*groupOut, error) {
	g, err := a.fleet.Group(ctx, by.Tenant, in.Name)
	if err != nil {
		return nil, err
	}
	return &groupOut{g}, nil
}

func (a *API) patchGroup(ctx context.Context, by fleet.Token, in *struct {
	OfGroup
	RawJSON
}) (*groupOut, error) {
	p, _, err := decode[map[string]*string](in.RawBody)
	if err != nil {
		return nil, err
	}
	if _, _, err := decode[groupPatch](in.RawBody); err != nil {
		return nil, err
	}
	description, given := p["description"]
	if !given {
		return a.getGroup(ctx, by, &in.OfGroup)
	}
	if description == nil {
		description = new("")
	}
	g, err := a.fleet.DescribeGroup(ctx, actor(ctx, by), in.Name, *description)
	if err != nil {
		return nil, err
	}
	return &groupOut{g}, nil
}

func (a *API) deleteGroup(ctx context.Context, by fleet.Token, in *OfGroup) (*struct{}, error) {
	return nil, a.fleet.DeleteGroup(ctx, actor(ctx, by), in.Name)
}

// membersIn is the input of calls that change the members of a group.
type membersIn struct {
	OfGroup
	RawJSON
}

func (a *API) addMembers(ctx context.Context, by fleet.Token, in *membersIn) (*groupOut, error) {
	return changeMembers(ctx, by, in, a.fleet.AddMembers)
}

func (a *API) removeMembers(ctx context.Context, by fleet.Token, in *membersIn) (*groupOut, error) {
	return changeMembers(ctx, by, in, a.fleet.RemoveMembers)
}

func changeMembers(ctx context.Context, by fleet.Token, in *membersIn,
	change func(context.Context, fleet.Actor, string, []fleet.DeviceID) (fleet.Group, error)) (*groupOut, error) {
	m, _, err := decode[members](in.RawBody)
	if err != nil {
		return nil, err
	}
	g, err := change(ctx, actor(ctx, by), in.Name, m.DeviceIDs)
	if err != nil {
		return nil, err
	}
	return &groupOut{g}, nil
}
