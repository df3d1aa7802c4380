package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

var (
	readFleet  = []fleet.Scope{fleet.FleetRead}
	writeFleet = []fleet.Scope{fleet.FleetWrite}
)

func (a *API) addDevices() {
	add(a, route{method: http.MethodGet, path: "/v1/devices", id: "listDevices", tag: "fleet",
		summary: "List devices in order of their ids",
		text:    "With `online` a page may hold less than `limit`, even nothing, and still have a next.",
		scopes:  readFleet}, a.listDevices)
	add(a, route{method: http.MethodPost, path: "/v1/devices", id: "createDevice", tag: "fleet", status: http.StatusCreated,
		summary: "Add a device",
		text:    "A direct device or an IPC is answered with its credentials, this once.",
		scopes:  writeFleet, body: fleet.NewDevice{}, errors: []int{http.StatusConflict}}, a.createDevice)
	add(a, route{method: http.MethodPost, path: "/v1/devices/import", id: "importDevices", tag: "fleet",
		summary: "Add or replace many devices, all or nothing",
		text: "CSV with a header line (id, name, kind, endpoint_id, route, tags, groups, enabled, secret; route and tags " +
			"in JSON, groups separated by semicolons) or NDJSON with fields of these names; up to 256 MiB. Groups that " +
			"are named and missing are made. What is wrong is told by line: the pointer of an error is /line/column.",
		scopes: writeFleet, types: []string{csvType, ndjsonType}, streams: true,
		errors: []int{http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}}, a.importDevices)
	add(a, route{method: http.MethodGet, path: "/v1/devices/{id}", id: "getDevice", tag: "fleet",
		summary: "Show a device", scopes: readFleet}, a.getDevice)
	add(a, route{method: http.MethodPatch, path: "/v1/devices/{id}", id: "patchDevice", tag: "fleet",
		summary: "Change a device by a JSON merge patch (RFC 7396)",
		text:    "Disabling a device cancels its open operations. What has not been sent follows a device that moves.",
		scopes:  writeFleet, body: devicePatch{}, types: []string{patchType, jsonType}, errors: []int{http.StatusConflict}}, a.patchDevice)
	add(a, route{method: http.MethodDelete, path: "/v1/devices/{id}", id: "deleteDevice", tag: "fleet", status: http.StatusNoContent,
		summary: "Remove a device", text: "Its open operations are cancelled. An IPC with meters is in use.",
		scopes: writeFleet, errors: []int{http.StatusConflict}}, a.deleteDevice)
	add(a, route{method: http.MethodPost, path: "/v1/devices/{id}/credentials", id: "rotateCredentials", tag: "fleet",
		summary: "Give a direct device or an IPC new credentials", text: "They are answered this once; the old ones are void.",
		scopes: writeFleet}, a.rotateCredentials)
}

// device is a device as it is shown.
type device struct {
	fleet.Device
	Presence    *presence          `json:"presence" doc:"of its endpoint; null when it is not known for the moment"`
	Credentials *fleet.Credentials `json:"credentials,omitempty" doc:"once, when they are new"`
}

// presence says whether commands can reach a device now.
type presence struct {
	Online  bool       `json:"online"`
	Gateway string     `json:"gateway" doc:"that holds the session"`
	Since   *time.Time `json:"since"`
}

type deviceOut struct {
	Body device
}

// OfDevice is a part of the input of calls about one device.
type OfDevice struct {
	ID string `path:"id" doc:"of the device"`
}

// parse spares the record what cannot be the id of a device.
func (d OfDevice) parse() (fleet.DeviceID, error) {
	id, err := meterread.ParseDeviceID(d.ID)
	if err != nil {
		return "", fleet.ErrNotFound
	}
	return id, nil
}

// present shows devices with their presence. When that cannot be had it is left out: the fleet is known without it.
func (a *API) present(ctx context.Context, ds []fleet.Device) []device {
	shown := make([]device, len(ds))
	endpoints := make([]fleet.DeviceID, 0, len(ds))
	for _, d := range ds {
		endpoints = append(endpoints, d.EndpointID)
	}
	slices.Sort(endpoints)
	sessions, err := a.sessions.Sessions(ctx, slices.Compact(endpoints))
	if err != nil {
		a.logger.Warn("presence is not known", "request_id", callOf(ctx).id, "error", err)
	}
	for i, d := range ds {
		shown[i].Device = withLists(d)
		if err != nil {
			continue
		}
		s, online := sessions[d.EndpointID]
		shown[i].Presence = &presence{Online: online, Gateway: s.Gateway}
		if online {
			since := s.Since.UTC()
			shown[i].Presence.Since = &since
		}
	}
	return shown
}

func withLists(d fleet.Device) fleet.Device {
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	if d.Groups == nil {
		d.Groups = []string{}
	}
	if len(d.Route) == 0 {
		d.Route = json.RawMessage("[]")
	}
	return d
}

func (a *API) showDevice(ctx context.Context, d fleet.Device, c *fleet.Credentials) *deviceOut {
	out := &deviceOut{Body: a.present(ctx, []fleet.Device{d})[0]}
	out.Body.Credentials = c
	return out
}

type devicesIn struct {
	Paged
	Q            string         `query:"q" doc:"part of the id or the name, whatever its case"`
	Tag          []string       `query:"tag,explode" doc:"name:value; with several, all must match"`
	Group        string         `query:"group"`
	Kind         fleet.Kind     `query:"kind" enum:"direct,ipc,meter"`
	EndpointID   fleet.DeviceID `query:"endpoint_id"`
	Online       string         `query:"online" enum:"true,false"`
	NotReadSince time.Time      `query:"not_read_since" doc:"RFC 3339; devices without a reading since then"`
}

func (in devicesIn) filter() (fleet.DeviceFilter, error) {
	f := fleet.DeviceFilter{Q: in.Q, Group: in.Group, Kind: in.Kind, EndpointID: in.EndpointID, NotReadSince: in.NotReadSince}
	for _, tag := range in.Tag {
		at := strings.IndexAny(tag, ":=")
		if at < 1 {
			return f, invalid(complaint("?tag", "must be name:value"))
		}
		if f.Tags == nil {
			f.Tags = map[string]string{}
		}
		name, value := tag[:at], tag[at+1:]
		if before, twice := f.Tags[name]; twice && before != value {
			return f, invalid(complaint("?tag", "no device has two values of one tag"))
		}
		f.Tags[name] = value
	}
	return f, nil
}

func (a *API) listDevices(ctx context.Context, by fleet.Token, in *devicesIn) (*listOut[device], error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	if in.Online != "" {
		return a.listByPresence(ctx, by, f, fleet.DeviceID(after), in.Limit, in.Online == "true")
	}
	found, err := a.fleet.Devices(ctx, by.Tenant, f, fleet.DeviceID(after), in.Limit+1)
	if err != nil {
		return nil, err
	}
	return listedByName(a.present(ctx, found), in.Limit, func(d device) string { return string(d.ID) }), nil
}

// Looking for devices by presence reads the fleet page after page, so many pages for one answer at most.
const (
	presencePage  = 1000
	presencePages = 50
)

// listByPresence keeps of the fleet what is, or is not, online. Presence lives beside the record, so the record cannot
// filter by it; a list that ends early has a cursor to go on from.
func (a *API) listByPresence(ctx context.Context, by fleet.Token, f fleet.DeviceFilter, after fleet.DeviceID, limit int, online bool) (*listOut[device], error) {
	kept := []device{}
	for range presencePages {
		found, err := a.fleet.Devices(ctx, by.Tenant, f, after, presencePage)
		if err != nil {
			return nil, err
		}
		for _, d := range a.present(ctx, found) {
			if d.Presence == nil {
				return nil, command.ErrUnavailable
			}
			if d.Presence.Online == online {
				kept = append(kept, d)
			}
			if after = d.ID; len(kept) == limit {
				return listed(kept, cursor(string(after))), nil
			}
		}
		if len(found) < presencePage {
			return listed(kept, ""), nil
		}
	}
	return listed(kept, cursor(string(after))), nil
}

func (a *API) getDevice(ctx context.Context, by fleet.Token, in *OfDevice) (*deviceOut, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	d, err := a.fleet.Device(ctx, by.Tenant, id)
	if err != nil {
		return nil, err
	}
	return a.showDevice(ctx, d, nil), nil
}

// madeDevice is the answer to a device that was made.
type madeDevice struct {
	Location string `header:"Location"`
	Body     device
}

func (a *API) createDevice(ctx context.Context, by fleet.Token, in *RawJSON) (*madeDevice, error) {
	n, _, err := decode[fleet.NewDevice](in.RawBody)
	if err != nil {
		return nil, err
	}
	d, credentials, err := a.fleet.CreateDevice(ctx, actor(ctx, by), n)
	if err != nil {
		return nil, err
	}
	return &madeDevice{Location: "/v1/devices/" + string(d.ID), Body: a.showDevice(ctx, d, credentials).Body}, nil
}

// devicePatch is the body of PATCH; null empties a field.
type devicePatch struct {
	Name       *string            `json:"name,omitempty" maxLength:"200"`
	EndpointID *fleet.DeviceID    `json:"endpoint_id,omitempty" doc:"of a meter: another IPC of the tenant"`
	Route      json.RawMessage    `json:"route,omitempty"`
	Tags       map[string]*string `json:"tags,omitempty" doc:"merged: null drops a tag"`
	Groups     *[]string          `json:"groups,omitempty" doc:"replaced as a whole"`
	Enabled    *bool              `json:"enabled,omitempty"`
}

// merge is the patch as the fleet takes it. What was null in the body is emptied.
func (p devicePatch) merge(raw []byte) (fleet.DevicePatch, error) {
	out := fleet.DevicePatch{Name: p.Name, EndpointID: p.EndpointID, Route: p.Route, Tags: p.Tags, Groups: p.Groups, Enabled: p.Enabled}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return out, invalid(complaint("", "must be an object"))
	}
	for name, value := range fields {
		if string(value) != "null" {
			continue
		}
		switch name {
		case "name":
			out.Name = new("")
		case "endpoint_id":
			out.EndpointID = new(fleet.DeviceID(""))
		case "route":
			out.Route = json.RawMessage("[]")
		case "tags":
			out.NoTags = true
		case "groups":
			out.Groups = &[]string{}
		case "enabled":
			return out, invalid(complaint("/enabled", "must be true or false"))
		}
	}
	return out, nil
}

func (a *API) patchDevice(ctx context.Context, by fleet.Token, in *struct {
	OfDevice
	RawJSON
}) (*deviceOut, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	p, _, err := decode[devicePatch](in.RawBody)
	if err != nil {
		return nil, err
	}
	merged, err := p.merge(in.RawBody)
	if err != nil {
		return nil, err
	}
	d, err := a.fleet.PatchDevice(ctx, actor(ctx, by), id, merged)
	if err != nil {
		return nil, err
	}
	return a.showDevice(ctx, d, nil), nil
}

func (a *API) deleteDevice(ctx context.Context, by fleet.Token, in *OfDevice) (*struct{}, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	return nil, a.fleet.DeleteDevice(ctx, actor(ctx, by), id)
}

func (a *API) rotateCredentials(ctx context.Context, by fleet.Token, in *OfDevice) (*deviceOut, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	d, credentials, err := a.fleet.RotateCredentials(ctx, actor(ctx, by), id)
	if err != nil {
		return nil, err
	}
	return a.showDevice(ctx, d, credentials), nil
}
