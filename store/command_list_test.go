package store

import (
	"testing"

	"meterline/command"
	"meterline/fleet"
)

// commandPages reads a list to its end.
func (f fixture) commandPages(tenant fleet.Tenant, filter command.CommandFilter, limit int) []command.ID {
	f.Helper()
	var all []command.ID
	p := command.Page{Limit: limit}
	for {
		list, err := f.FindCommands(f.ctx, tenant, filter, p)
		check(f, err)
		for _, v := range list.Items {
			all = append(all, v.ID)
		}
		if p.Cursor = list.NextCursor; p.Cursor == "" {
			return all
		}
	}
}

// A command is in a list when it has an operation that is all of what is asked.
func TestFindCommandsByOperation(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.manyStates()
		f.direct(tenantA, "d1", "d2")
		odd, waiting := f.issue(tenantA, "d1").Command.ID, f.issue(tenantA, "m1").Command.ID
		f.change(f.own("w"), failWith("ODD"), key(odd, "d1"))
		check(t, second(db.CreateGroup(f.ctx, by(tenantA), fleet.Group{Name: "north"})))
		check(t, db.AddMembers(f.ctx, by(tenantA), "north", []fleet.DeviceID{"m6", "d1", "d2"}))
		first := f.commandPages(tenantA, command.CommandFilter{}, 100)[4]
		made := f.command(waiting).CreatedAt
		for name, test := range map[string]struct {
			f    command.CommandFilter
			want int
		}{
			"device":                        {command.CommandFilter{DeviceID: "m1"}, 4},
			"device never asked":            {command.CommandFilter{DeviceID: "d2"}, 0},
			"endpoint":                      {command.CommandFilter{EndpointID: "ipc1"}, 4},
			"endpoint of one":               {command.CommandFilter{EndpointID: "d1"}, 1},
			"code":                          {command.CommandFilter{Code: "BUSY"}, 3},
			"code of another device":        {command.CommandFilter{Code: "BUSY", DeviceID: "m5"}, 0},
			"code of this device":           {command.CommandFilter{Code: "BUSY", DeviceID: "m6"}, 3},
			"state":                         {command.CommandFilter{State: command.Dead}, 3},
			"open state":                    {command.CommandFilter{State: command.Sent}, 3},
			"waiting":                       {command.CommandFilter{State: command.Queued}, 4},
			"succeeded":                     {command.CommandFilter{State: command.Succeeded}, 3},
			"state of another device":       {command.CommandFilter{State: command.Dead, DeviceID: "m5"}, 0},
			"state of this device":          {command.CommandFilter{State: command.Succeeded, DeviceID: "m5"}, 3},
			"open state of this device":     {command.CommandFilter{State: command.Accepted, DeviceID: "m4"}, 3},
			"group":                         {command.CommandFilter{Group: "north"}, 4},
			"group and state":               {command.CommandFilter{Group: "north", State: command.Failed}, 4},
			"group and state of another":    {command.CommandFilter{Group: "north", State: command.Dead}, 0},
			"group and endpoint":            {command.CommandFilter{Group: "north", EndpointID: "ipc1"}, 3},
			"group and code":                {command.CommandFilter{Group: "north", Code: "ODD"}, 1},
			"no such group":                 {command.CommandFilter{Group: "south"}, 0},
			"command":                       {command.CommandFilter{ID: odd}, 1},
			"command and its device":        {command.CommandFilter{ID: odd, DeviceID: "d1"}, 1},
			"command and another device":    {command.CommandFilter{ID: odd, DeviceID: "m1"}, 0},
			"command and state":             {command.CommandFilter{ID: first, State: command.Dead}, 1},
			"command and group":             {command.CommandFilter{ID: first, Group: "north"}, 1},
			"command and another's state":   {command.CommandFilter{ID: odd, State: command.Dead}, 0},
			"no such command":               {command.CommandFilter{ID: "nobody"}, 0},
			"status too":                    {command.CommandFilter{DeviceID: "m1", Status: command.StatusRunning}, 4},
			"another status":                {command.CommandFilter{DeviceID: "d1", Status: command.StatusRunning}, 0},
			"kind too":                      {command.CommandFilter{DeviceID: "d1", Kind: command.MeterRead}, 1},
			"another kind":                  {command.CommandFilter{DeviceID: "d1", Kind: command.DevicePing}, 0},
			"from":                          {command.CommandFilter{From: made}, 1},
			"to":                            {command.CommandFilter{To: made}, 4},
			"from, by device":               {command.CommandFilter{From: made, DeviceID: "m1"}, 1},
			"to, by device":                 {command.CommandFilter{To: made, DeviceID: "m1"}, 3},
			"to, by group":                  {command.CommandFilter{To: made, Group: "north"}, 4},
			"nothing then":                  {command.CommandFilter{To: f.command(first).CreatedAt}, 0},
			"no such state":                 {command.CommandFilter{State: "dreaming"}, 0},
			"odd text":                      {command.CommandFilter{DeviceID: "m1\x00", Code: "'; DROP TABLE operations; --\xff"}, 0},
			"command that is somebody's":    {command.CommandFilter{ID: f.commandPages(tenantB, command.CommandFilter{}, 1)[0]}, 0},
			"device that is somebody's":     {command.CommandFilter{DeviceID: "b1"}, 0},
			"endpoint that is somebody's":   {command.CommandFilter{EndpointID: "b1"}, 0},
			"somebody's device, and states": {command.CommandFilter{DeviceID: "b1", State: command.Queued}, 0},
		} {
			got := f.commandPages(tenantA, test.f, 2)
			if len(got) != test.want {
				t.Errorf("%s: %d commands, want %d", name, len(got), test.want)
			}
		}
		f.overdue(waiting)
		for _, test := range []struct {
			f    command.CommandFilter
			want int
		}{
			{command.CommandFilter{State: command.Queued}, 3},
			{command.CommandFilter{State: command.Expired}, 4},
			{command.CommandFilter{State: command.Queued, DeviceID: "m1"}, 3},
			{command.CommandFilter{State: command.Expired, DeviceID: "m1"}, 1},
		} {
			if got := f.commandPages(tenantA, test.f, 2); len(got) != test.want {
				t.Errorf("after the deadline, %+v: %d commands, want %d", test.f, len(got), test.want)
			}
		}
	})
}
