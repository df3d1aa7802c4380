package store

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// fact is an operation as plain as can be.
type fact struct {
	Seq      int64              `db:"seq"`
	Command  command.ID         `db:"command_id"`
	Device   meterread.DeviceID `db:"device_id"`
	Endpoint meterread.DeviceID `db:"endpoint_id"`
	Kind     command.Kind       `db:"kind"`
	State    command.State      `db:"state"` // expired when it is overdue
	Code     string             `db:"code"`
	At       time.Time          `db:"created_at"`
}

// facts are all operations of acme, newest first, and the members of its groups.
type facts struct {
	list    []fact
	members map[string]map[meterread.DeviceID]bool
}

func (f fixture) facts() facts {
	f.Helper()
	fs := facts{members: map[string]map[meterread.DeviceID]bool{}}
	check(f, f.writes.pool.Select(&fs.list, `
		SELECT seq, command_id, device_id, endpoint_id, kind, CASE WHEN open AND expires_at <= now() THEN 'expired' ELSE state END AS state,
			COALESCE(error_code, '') AS code, created_at
		FROM operations
		WHERE tenant = 'acme'
		ORDER BY created_at DESC, seq DESC, device_id DESC`))
	var rows []struct {
		Group  string             `db:"group_name"`
		Device meterread.DeviceID `db:"device_id"`
	}
	check(f, f.writes.pool.Select(&rows, `SELECT group_name, device_id FROM group_members`))
	for _, r := range rows {
		if fs.members[r.Group] == nil {
			fs.members[r.Group] = map[meterread.DeviceID]bool{}
		}
		fs.members[r.Group][r.Device] = true
	}
	return fs
}

func (fs facts) is(o fact, f command.OperationFilter) bool {
	return (f.DeviceID == "" || f.DeviceID == o.Device) && (f.EndpointID == "" || f.EndpointID == o.Endpoint) &&
		(f.Group == "" || fs.members[f.Group][o.Device]) && (f.State == "" || f.State == o.State) && (f.Kind == "" || f.Kind == o.Kind) &&
		(f.CommandID == "" || f.CommandID == o.Command) && (f.Code == "" || f.Code == o.Code) && between(o.At, f.From, f.To)
}

func between(at, from, to time.Time) bool {
	return (from.IsZero() || !at.Before(from)) && (to.IsZero() || at.Before(to))
}

// operations are those of a filter in the order of a list.
func (fs facts) operations(f command.OperationFilter) []fact {
	var found []fact
	for _, o := range fs.list {
		if fs.is(o, f) {
			found = append(found, o)
		}
	}
	if f.CommandID != "" {
		slices.SortFunc(found, func(a, b fact) int { return cmp.Compare(a.Device, b.Device) })
	}
	return found
}

// commands are those of a filter in the order of a list.
func (fs facts) commands(f command.CommandFilter) []fact {
	found, wanted := map[command.ID]fact{}, map[command.ID]bool{}
	counts := map[command.ID]*command.Counts{}
	for _, o := range fs.list {
		found[o.Command] = o
		if counts[o.Command] == nil {
			counts[o.Command] = &command.Counts{}
		}
		*counts[o.Command].Of(o.State)++
		counts[o.Command].Total++
		if fs.is(o, command.OperationFilter{DeviceID: f.DeviceID, EndpointID: f.EndpointID, Group: f.Group, State: f.State, Code: f.Code}) {
			wanted[o.Command] = true
		}
	}
	var list []fact
	for id, o := range found {
		if wanted[id] && (f.ID == "" || f.ID == id) && (f.Kind == "" || f.Kind == o.Kind) && between(o.At, f.From, f.To) &&
			(f.Status == "" || f.Status == counts[id].Status()) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b fact) int { return cmp.Compare(b.Seq, a.Seq) })
	return list
}

// How many pages of 8 KiB a list may look at, of the 12,000 and more that the history has: an index that is looked up for each
// member of a group is looked at as often.
const (
	mostPages        = 2500
	mostPagesOfGroup = 20_000
)

// Every list that a person asks for holds what it should, in order, from the beginning and from the middle on, and is read
// from indexes that have it in order.
func TestOperationsCentre(t *testing.T) {
	t.Parallel()
	f := fix(t, openPostgres(t))
	f.remember(history{commands: 12_000, devices: 5_000})
	fs := f.facts()
	now, err := f.Now(f.ctx)
	check(t, err)
	for _, q := range questions(f, now) {
		want := fs.operations(q.f)
		name := "operations, " + q.name
		listed(t, name, want, func(o fact) cursor { return cursor{At: o.At, Seq: o.Seq, ID: string(o.Device)} },
			func(p command.Page) ([]command.Key, string) {
				list, err := f.FindOperations(f.ctx, tenantA, q.f, p)
				check(t, err)
				var keys []command.Key
				for _, v := range list.Items {
					keys = append(keys, command.Key{CommandID: v.CommandID, DeviceID: v.DeviceID})
					if q.f.State != "" && v.State != q.f.State {
						t.Errorf("%s: one is %s", name, v.State)
					}
				}
				return keys, list.NextCursor
			}, func(o fact) command.Key { return command.Key{CommandID: o.Command, DeviceID: o.Device} })
		pages, plans := f.explained(func(x *tx) error {
			_, err := x.findOperations(operationQuery{tenantA, q.f, now, nil, pageLength + 1})
			return err
		})
		within(t, name, pages, q.f.Group, plans)
	}
	for _, q := range commandQuestions(now) {
		want := fs.commands(q.f)
		name := "commands, " + q.name
		listed(t, name, want, func(o fact) cursor { return cursor{Seq: o.Seq} },
			func(p command.Page) ([]command.ID, string) {
				list, err := f.FindCommands(f.ctx, tenantA, q.f, p)
				check(t, err)
				var ids []command.ID
				for _, v := range list.Items {
					ids = append(ids, v.ID)
				}
				return ids, list.NextCursor
			}, func(o fact) command.ID { return o.Command })
		pages, plans := f.explained(func(x *tx) error {
			_, err := x.findCommands(commandQuery{tenant: tenantA, filter: q.f, now: now, limit: pageLength + 1})
			return err
		})
		within(t, name, pages, q.f.Group, plans)
	}
}

// listed compares two pages of a list with what it should be: the first, and one from the middle on.
func listed[K comparable](t *testing.T, name string, want []fact, after func(fact) cursor, ask func(command.Page) ([]K, string), key func(fact) K) {
	t.Helper()
	for _, from := range []int{0, len(want) / 2} {
		p := command.Page{Limit: pageLength}
		if from > 0 {
			p.Cursor = after(want[from-1]).String()
		}
		got, next := ask(p)
		expect := want[from:min(from+pageLength, len(want))]
		if !slices.EqualFunc(got, expect, func(k K, o fact) bool { return k == key(o) }) {
			t.Errorf("%s, from %d: %d of %d items, or not those", name, from, len(got), len(expect))
		}
		if more := from+pageLength < len(want); more != (next != "") {
			t.Errorf("%s, from %d: next cursor %q", name, from, next)
		}
	}
}

func within(t *testing.T, name string, pages int, group string, plans []string) {
	t.Helper()
	most := mostPages
	if group != "" {
		most = mostPagesOfGroup
	}
	if pages > most {
		t.Errorf("%s: looks at %d pages:\n%s", name, pages, strings.Join(plans, "\n\n"))
	}
}
