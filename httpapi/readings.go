package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

var readReadings = []fleet.Scope{fleet.ReadingsRead}

func (a *API) addReadings() {
	add(a, route{method: http.MethodGet, path: "/v1/devices/{id}/latest", id: "latestReadings", tag: "readings",
		summary: "The newest reading of each item of a device", scopes: readReadings}, a.latest)
	add(a, route{method: http.MethodGet, path: "/v1/readings", id: "listReadings", tag: "readings",
		summary: "List the readings of a device",
		text: "In order of item and time. With `Accept: text/csv` all of them, unless `limit` is given. Then the header " +
			"`Link` names the next page.",
		scopes: readReadings, streams: true, errors: []int{http.StatusNotFound}}, a.listReadings)
	add(a, route{method: http.MethodGet, path: "/v1/events", id: "listEvents", tag: "readings",
		summary: "List what devices reported, newest first",
		text:    "Events of the type `security` are shown to tokens with scope audit:read only.",
		scopes:  []fleet.Scope{fleet.FleetRead, fleet.ReadingsRead, fleet.AuditRead}}, a.listEvents)
}

func (a *API) latest(ctx context.Context, by fleet.Token, in *OfDevice) (*listOut[meterread.Reading], error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	found, err := a.commands.Latest(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return listed(found, ""), nil
}

type readingsIn struct {
	Paged
	Period
	DeviceID string         `query:"device_id" required:"true"`
	Item     meterread.Item `query:"item" doc:"an OBIS code such as 1-0:1.8.0"`
	Accept   string         `header:"Accept"`
}

func (a *API) listReadings(ctx context.Context, by fleet.Token, in *readingsIn) (*huma.StreamResponse, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	id, err := OfDevice{in.DeviceID}.parse()
	if err != nil {
		return nil, err
	}
	c := callOf(ctx)
	pages := func(ctx context.Context, p command.Page) (command.List[meterread.Reading], error) {
		return a.commands.Readings(ctx, by, command.ReadingFilter{DeviceID: id, Item: in.Item, From: in.From, To: in.To}, p)
	}
	first := in.of()
	if wantsCSV(in.Accept) && !c.r.URL.Query().Has("limit") {
		first.Limit = csvPage
	}
	looked, stop := context.WithTimeout(ctx, a.times.request)
	defer stop()
	found, err := pages(looked, first)
	if err == nil && len(found.Items) == 0 && in.Cursor == "" {
		// Readings outlive their device, so only where there are none it is asked whether there is a device.
		_, err = a.fleet.Device(looked, by.Tenant, id)
	}
	if err != nil {
		return nil, err
	}
	if !wantsCSV(in.Accept) {
		return a.jsonStream(c, listed(found.Items, found.NextCursor).Body), nil
	}
	return csvStream(a, c, readingColumns, csvPages[meterread.Reading]{first: found, limit: first.Limit, next: pages, rows: readingRows}), nil
}

// readingColumns are the columns of readings in CSV.
var readingColumns = []string{"device_id", "item", "value", "unit", "read_at", "received_at", "quality", "late", "command_id"}

func readingRows(r meterread.Reading) [][]string {
	return [][]string{{string(r.DeviceID), string(r.Item), number(r.Value), text(r.Unit), stamp(r.ReadAt), stamp(r.ReceivedAt),
		string(r.Quality), strconv.FormatBool(r.Late), string(r.CommandID)}}
}

func (a *API) listEvents(ctx context.Context, by fleet.Token, in *struct {
	Paged
	Period
	DeviceID meterread.DeviceID `query:"device_id"`
	Type     string             `query:"type"`
}) (*listOut[command.Event], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	audits := by.Can(fleet.AuditRead)
	if in.Type == command.EventSecurity && !audits {
		return nil, allowed(by, []fleet.Scope{fleet.AuditRead})
	}
	f := command.EventFilter{DeviceID: in.DeviceID, Type: in.Type, From: in.From, To: in.To}
	found, err := a.commands.Events(ctx, by, f, in.of())
	if err != nil {
		return nil, err
	}
	shown := make([]command.Event, 0, len(found.Items))
	for _, e := range found.Items {
		if e.Type == command.EventSecurity && !audits {
			continue
		}
		if len(e.Data) == 0 {
			e.Data = []byte("{}")
		}
		shown = append(shown, e)
	}
	return listed(shown, found.NextCursor), nil
}
