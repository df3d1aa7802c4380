package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

func (a *API) addOperations() {
	add(a, route{method: http.MethodGet, path: "/v1/operations", id: "listOperations", tag: "operations",
		summary: "The operations centre: list operations, newest first", scopes: readCommands}, a.listOperations)
	add(a, route{method: http.MethodGet, path: "/v1/commands/{id}/operations", id: "listOperationsOfCommand", tag: "operations",
		summary: "List the operations of a command",
		text: "With `Accept: text/csv` a line for each reading: all of them, unless `limit` is given. Then the header " +
			"`Link` names the next page.",
		scopes: readCommands, streams: true}, a.operationsOf)
	add(a, route{method: http.MethodGet, path: "/v1/commands/{id}/events", id: "watchCommand", tag: "commands",
		summary: "Follow a command by server-sent events",
		text: "Each message is an operation as it is now. With `Last-Event-ID` everything that has changed since is told " +
			"first, without it everything. The stream ends with `event: end` when the command has ended.",
		scopes: readCommands, streams: true}, a.watch)
}

func (a *API) listOperations(ctx context.Context, by fleet.Token, in *struct {
	Paged
	Period
	OperationFilter
	CommandID string        `query:"command_id" doc:"in order of devices then"`
	Kind      command.Kind  `query:"kind" enum:"meter.read,meter.time_sync,meter.relay,device.ping"`
	State     command.State `query:"state" enum:"queued,sent,delivered,accepted,succeeded,failed,expired,cancelled,dead"`
}) (*listOut[command.OperationView], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	id, err := commandInQuery(in.CommandID)
	if err != nil {
		return nil, err
	}
	f := command.OperationFilter{DeviceID: in.DeviceID, EndpointID: in.EndpointID, Group: in.Group, State: in.State,
		Kind: in.Kind, CommandID: id, Code: in.Code, From: in.From, To: in.To}
	found, err := a.commands.Operations(ctx, by, f, in.of())
	if err != nil {
		return nil, err
	}
	return listed(found.Items, found.NextCursor), nil
}

type operationsIn struct {
	OfCommand
	Paged
	State  command.State `query:"state" enum:"queued,sent,delivered,accepted,succeeded,failed,expired,cancelled,dead"`
	Accept string        `header:"Accept"`
}

func (a *API) operationsOf(ctx context.Context, by fleet.Token, in *operationsIn) (*huma.StreamResponse, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	c := callOf(ctx)
	pages := func(ctx context.Context, p command.Page) (command.List[command.OperationView], error) {
		return a.commands.Operations(ctx, by, command.OperationFilter{CommandID: id, State: in.State}, p)
	}
	first := in.of()
	if wantsCSV(in.Accept) && !c.r.URL.Query().Has("limit") {
		first.Limit = csvPage
	}
	found, err := a.firstPage(ctx, by, id, first, pages)
	if err != nil {
		return nil, err
	}
	if !wantsCSV(in.Accept) {
		return a.jsonStream(c, listed(found.Items, found.NextCursor).Body), nil
	}
	return csvStream(a, c, operationColumns, csvPages[command.OperationView]{first: found, limit: first.Limit, next: pages,
		rows: operationRows}), nil
}

// firstPage is the first page of a command's operations. An empty one of somebody else's command is not found.
func (a *API) firstPage(ctx context.Context, by fleet.Token, id command.ID, p command.Page,
	pages func(context.Context, command.Page) (command.List[command.OperationView], error)) (command.List[command.OperationView], error) {
	ctx, stop := context.WithTimeout(ctx, a.times.request)
	defer stop()
	found, err := pages(ctx, p)
	if err == nil && len(found.Items) == 0 && p.Cursor == "" {
		_, err = a.commands.Get(ctx, by, id)
	}
	return found, err
}

// operationColumns are the columns of operations in CSV.
var operationColumns = []string{"device", "route", "item", "value", "unit", "read_at", "state", "code"}

// operationRows is a line for each reading of an operation, or one that says why there is none.
func operationRows(o command.OperationView) [][]string {
	code := ""
	if o.Error != nil {
		code = text(o.Error.Code)
	}
	row := func(r meterread.Reading) []string {
		return []string{string(o.DeviceID), string(o.Device.Route), string(r.Item), number(r.Value), text(r.Unit), stamp(r.ReadAt), string(o.State), code}
	}
	if len(o.Readings) == 0 {
		return [][]string{row(meterread.Reading{})}
	}
	rows := make([][]string, len(o.Readings))
	for i, r := range o.Readings {
		rows[i] = row(r)
	}
	return rows
}
