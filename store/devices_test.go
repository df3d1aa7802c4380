package store

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
)

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

// create adds a device of kind direct unless said otherwise.
func create(t *testing.T, db *DB, d fleet.Device) fleet.Device {
	t.Helper()
	if d.Tenant == "" {
		d.Tenant = tenantA
	}
	if d.Kind == "" {
		d.Kind = fleet.Direct
	}
	d.Enabled = true
	var mac []byte
	if d.Kind != fleet.Meter {
		mac = []byte("mac of " + d.ID)
	}
	made, err := db.CreateDevice(t.Context(), by(d.Tenant), d, mac)
	check(t, err)
	return made
}

func exec(t *testing.T, db *DB, text string, args ...any) {
	t.Helper()
	check(t, db.write(t.Context(), urgent, func(x *tx) error {
		_, err := x.exec(text, args...)
		return err
	}))
}

func idsOf(ds []fleet.Device) (ids []string) {
	for _, d := range ds {
		ids = append(ids, string(d.ID))
	}
	return ids
}

func TestADeviceIsKeptAsItWasGiven(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		for _, g := range []string{"north", "east", "unused"} {
			_, err := db.CreateGroup(ctx, by(tenantA), fleet.Group{Name: g})
			check(t, err)
		}
		ipc := create(t, db, fleet.Device{ID: "ipc-1", Kind: fleet.IPC, Name: "Cellar"})
		if ipc.EndpointID != "ipc-1" || string(ipc.Route) != "[]" || ipc.Tags == nil || ipc.Groups == nil || ipc.LastReadAt != nil {
			t.Errorf("got %+v", ipc)
		}
		route := json.RawMessage(`[{"bus":"com1","baud":2400},{"meter":"000012345678"}]`)
		m := create(t, db, fleet.Device{ID: "m-1", Kind: fleet.Meter, EndpointID: "ipc-1", Name: "Zähler \"1\"", Route: route,
			Tags: map[string]string{"floor": "1", `od"d`: `va\lue`}, Groups: []string{"north", "east"}})
		got, err := db.Device(ctx, tenantA, "m-1")
		check(t, err)
		for _, d := range []fleet.Device{m, got} {
			if d.Tenant != tenantA || d.EndpointID != "ipc-1" || d.Name != "Zähler \"1\"" || string(d.Route) != string(route) || !d.Enabled ||
				d.Tags["floor"] != "1" || d.Tags[`od"d`] != `va\lue` || !slices.Equal(d.Groups, []string{"east", "north"}) {
				t.Errorf("got %+v", d)
			}
			if age := time.Since(d.CreatedAt); age < -time.Minute || age > time.Minute || !d.CreatedAt.Equal(d.UpdatedAt) {
				t.Errorf("made at %s, changed at %s", d.CreatedAt, d.UpdatedAt)
			}
		}
		if want := fleet.Partition("ipc-1", db.partitions); partitionIn(t, db, "m-1") != want {
			t.Errorf("in partition %d, want its IPC's %d", partitionIn(t, db, "m-1"), want)
		}
	})
}

func partitionIn(t *testing.T, db *DB, id string) (n int) {
	t.Helper()
	check(t, db.single(t.Context(), func(x *tx) error {
		return x.get(&n, `SELECT partition FROM devices WHERE id = $1`, id)
	}))
	return n
}

func TestIdsAreUniqueInTheInstallationAndTenantsDoNotSeeEachOther(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		create(t, db, fleet.Device{ID: "ipc", Kind: fleet.IPC})
		create(t, db, fleet.Device{ID: "direct"})
		for _, tenant := range []fleet.Tenant{tenantA, tenantB} {
			_, err := db.CreateDevice(ctx, by(tenant), fleet.Device{ID: "direct", Tenant: tenant, Kind: fleet.Direct}, nil)
			wantErr(t, err, fleet.ErrTaken)
		}
		for _, endpoint := range []fleet.DeviceID{"ipc", "nobody"} { // another tenant's is as good as none
			_, err := db.CreateDevice(ctx, by(tenantB), fleet.Device{ID: "m", Tenant: tenantB, Kind: fleet.Meter, EndpointID: endpoint}, nil)
			wantErr(t, err, fleet.ErrNotFound)
		}
		_, err := db.CreateDevice(ctx, by(tenantA), fleet.Device{ID: "m", Tenant: tenantA, Kind: fleet.Meter, EndpointID: "direct"}, nil)
		wantErr(t, err, fleet.ErrNotFound)

		_, err = db.Device(ctx, tenantB, "direct")
		wantErr(t, err, fleet.ErrNotFound)
		_, _, err = db.UpdateDevice(ctx, by(tenantB), fleet.Device{ID: "direct", Tenant: tenantB, Kind: fleet.Direct})
		wantErr(t, err, fleet.ErrNotFound)
		_, err = db.DeleteDevice(ctx, by(tenantB), "direct")
		wantErr(t, err, fleet.ErrNotFound)
		wantErr(t, db.SetSecret(ctx, by(tenantB), "direct", []byte("x")), fleet.ErrNotFound)
		ds, err := db.Devices(ctx, tenantB, fleet.DeviceFilter{EndpointID: "direct"}, "", 10)
		check(t, err)
		if len(ds) != 0 {
			t.Errorf("other sees %v", idsOf(ds))
		}
		if d, err := db.Device(ctx, tenantA, "direct"); err != nil || !d.Enabled {
			t.Errorf("got %+v, %v", d, err)
		}
	})
}

func TestUpdateReplacesWhatADeviceSaysAndItsGroups(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		for _, g := range []string{"a", "b", "c"} {
			_, err := db.CreateGroup(ctx, by(tenantA), fleet.Group{Name: g})
			check(t, err)
		}
		create(t, db, fleet.Device{ID: "ipc-1", Kind: fleet.IPC})
		create(t, db, fleet.Device{ID: "ipc-2", Kind: fleet.IPC})
		d := create(t, db, fleet.Device{ID: "m", Kind: fleet.Meter, EndpointID: "ipc-1", Groups: []string{"a", "b"}, Tags: map[string]string{"x": "1"}})
		d.Name, d.EndpointID, d.Groups, d.Tags = "moved", "ipc-2", []string{"b", "c"}, map[string]string{"y": "2"}
		got, touched, err := db.UpdateDevice(ctx, by(d.Tenant), d)
		check(t, err)
		if got.Name != "moved" || got.EndpointID != "ipc-2" || !slices.Equal(got.Groups, []string{"b", "c"}) || len(got.Tags) != 1 || got.Tags["y"] != "2" {
			t.Errorf("got %+v", got)
		}
		if len(touched) != 0 || got.UpdatedAt.Before(d.UpdatedAt) || !got.CreatedAt.Equal(d.CreatedAt) {
			t.Errorf("touched %v, got %+v", touched, got)
		}
		if want := fleet.Partition("ipc-2", db.partitions); partitionIn(t, db, "m") != want {
			t.Errorf("in partition %d, want %d", partitionIn(t, db, "m"), want)
		}

		d = got
		d.Groups = []string{"nowhere"}
		_, _, err = db.UpdateDevice(ctx, by(d.Tenant), d)
		if unknown, ok := errors.AsType[*fleet.UnknownGroup](err); !ok || unknown.Name != "nowhere" {
			t.Errorf("got %v, want *fleet.UnknownGroup", err)
		}
		_, err = db.CreateDevice(ctx, by(tenantA), fleet.Device{ID: "new", Tenant: tenantA, Kind: fleet.Direct, Groups: []string{"nowhere"}}, nil)
		if _, ok := errors.AsType[*fleet.UnknownGroup](err); !ok {
			t.Errorf("got %v, want *fleet.UnknownGroup", err)
		}
		if _, err := db.Device(ctx, tenantA, "new"); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("half a device is left: %v", err)
		}
		d = got
		d.EndpointID = "nobody"
		_, _, err = db.UpdateDevice(ctx, by(d.Tenant), d)
		wantErr(t, err, fleet.ErrNotFound)
		d = got
		d.Kind = fleet.Direct
		if _, _, err = db.UpdateDevice(ctx, by(d.Tenant), d); err == nil {
			t.Error("a meter became a direct device")
		}
		if d, err := db.Device(ctx, tenantA, "m"); err != nil || !slices.Equal(d.Groups, []string{"b", "c"}) || d.EndpointID != "ipc-2" {
			t.Errorf("a refused update left %+v, %v", d, err)
		}
	})
}

func TestOperationsFollowTheirDeviceOrEndWithIt(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc-1", "m")
		f.ipc(tenantA, "ipc-2")
		id := f.issue(tenantA, "m").Command.ID
		d, err := db.Device(t.Context(), tenantA, "m")
		check(t, err)

		d.Name = "renamed"
		if _, touched, err := db.UpdateDevice(t.Context(), by(d.Tenant), d); err != nil || len(touched) != 0 {
			t.Errorf("a name touched %v, %v", touched, err)
		}
		d.EndpointID = "ipc-2"
		if _, touched, err := db.UpdateDevice(t.Context(), by(d.Tenant), d); err != nil || !slices.Equal(touched, []string{string(id)}) {
			t.Errorf("moving touched %v, %v", touched, err)
		}
		if o := f.operation(key(id, "m")); o.State != command.Queued || o.EndpointID != "ipc-2" || o.Device.EndpointID != "ipc-2" {
			t.Errorf("it is %s at %s (%s)", o.State, o.EndpointID, o.Device.EndpointID)
		}
		d.Enabled = false
		if _, touched, err := db.UpdateDevice(t.Context(), by(d.Tenant), d); err != nil || !slices.Equal(touched, []string{string(id)}) {
			t.Errorf("disabling touched %v, %v", touched, err)
		}
		if o := f.operation(key(id, "m")); o.State != command.Cancelled {
			t.Errorf("it is %s", o.State)
		}

		d.Enabled = true
		_, _, err = db.UpdateDevice(t.Context(), by(d.Tenant), d)
		check(t, err)
		id = f.issue(tenantA, "m").Command.ID
		if touched, err := db.DeleteDevice(t.Context(), by(tenantA), "m"); err != nil || !slices.Equal(touched, []string{string(id)}) {
			t.Errorf("deleting touched %v, %v", touched, err)
		}
		if o := f.operation(key(id, "m")); o.State != command.Cancelled {
			t.Errorf("it is %s", o.State)
		}
	})
}

// What was on its way when its device moved follows it when it is queued again.
func TestWhatIsQueuedAgainFollowsItsDevice(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc-1", "m")
		f.ipc(tenantA, "ipc-2")
		id := f.issue(tenantA, "m").Command.ID
		fence := f.own("w")
		f.change(fence, claim, key(id, "m"))
		d, err := db.Device(t.Context(), tenantA, "m")
		check(t, err)
		d.EndpointID, d.Route = "ipc-2", []byte(`[{"meter":"7"}]`)
		_, _, err = db.UpdateDevice(t.Context(), by(d.Tenant), d)
		check(t, err)
		if o := f.operation(key(id, "m")); o.EndpointID != "ipc-1" {
			t.Fatalf("what is on its way went to %s", o.EndpointID)
		}
		f.change(fence, func(x *command.Tx, o *command.Operation) error {
			o.EndpointID, o.Partition, o.Device = "ipc-2", db.partitionOf("ipc-2"), d.Info()
			return o.Requeue(x.Now, x.Now, false, "endpoint gone")
		}, key(id, "m"))
		o := f.operation(key(id, "m"))
		if o.EndpointID != "ipc-2" || o.Partition != db.partitionOf("ipc-2") || o.Device.EndpointID != "ipc-2" || string(o.Device.Route) != string(d.Route) {
			t.Errorf("it is queued for %s in partition %d, by %s", o.EndpointID, o.Partition, o.Device.Route)
		}
		heads := []command.Head{{Endpoint: "ipc-1", Partition: db.partitionOf("ipc-1"), Limit: 9}, {Endpoint: "ipc-2", Partition: db.partitionOf("ipc-2"), Limit: 9}}
		if ready := f.ready(heads...); len(ready["ipc-1"]) != 0 || len(ready["ipc-2"]) != 1 {
			t.Errorf("ready are %v", ready)
		}
	})
}

func TestDeletingADeviceLeavesNothingThatItsIdCouldFindAgain(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		_, err := db.CreateGroup(ctx, by(tenantA), fleet.Group{Name: "g"})
		check(t, err)
		create(t, db, fleet.Device{ID: "ipc", Kind: fleet.IPC, Groups: []string{"g"}})
		create(t, db, fleet.Device{ID: "m", Kind: fleet.Meter, EndpointID: "ipc"})
		_, err = db.DeleteDevice(ctx, by(tenantA), "ipc")
		wantErr(t, err, fleet.ErrInUse)
		exec(t, db, `INSERT INTO device_reads (device_id, last_read_at) VALUES ('ipc', $1)`, at(time.Now()))
		for _, id := range []fleet.DeviceID{"m", "ipc"} {
			touched, err := db.DeleteDevice(ctx, by(tenantA), id)
			check(t, err)
			if len(touched) != 0 {
				t.Errorf("touched %v", touched)
			}
		}
		_, err = db.DeleteDevice(ctx, by(tenantA), "ipc")
		wantErr(t, err, fleet.ErrNotFound)
		if g, err := db.Group(ctx, tenantA, "g"); err != nil || g.Devices != 0 {
			t.Errorf("got %+v, %v", g, err)
		}
		if d := create(t, db, fleet.Device{ID: "ipc", Tenant: tenantB}); d.LastReadAt != nil || len(d.Groups) != 0 {
			t.Errorf("a new device of that id is %+v", d)
		}
	})
}

func TestCredentialsAreThoseOfDevicesThatSignIn(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		create(t, db, fleet.Device{ID: "ipc", Kind: fleet.IPC})
		create(t, db, fleet.Device{ID: "m", Kind: fleet.Meter, EndpointID: "ipc"})
		d := create(t, db, fleet.Device{ID: "direct", Tenant: tenantB})
		_, err := db.CreateDevice(ctx, by(tenantA), fleet.Device{ID: "silent", Tenant: tenantA, Kind: fleet.Direct}, nil)
		check(t, err)
		d.Enabled = false
		_, _, err = db.UpdateDevice(ctx, by(d.Tenant), d)
		check(t, err)
		check(t, db.SetSecret(ctx, by(tenantA), "ipc", []byte{0, 1, 2, 255}))
		wantErr(t, db.SetSecret(ctx, by(tenantA), "m", []byte{1}), fleet.ErrNotFound)

		cs, err := db.Credentials(ctx, []fleet.DeviceID{"direct", "ipc", "m", "silent", "nobody"})
		check(t, err)
		slices.SortFunc(cs, func(a, b fleet.Credential) int { return compare(a.DeviceID, b.DeviceID) })
		if len(cs) != 2 || cs[0].DeviceID != "direct" || cs[0].Tenant != tenantB || cs[0].Enabled || string(cs[0].MAC) != "mac of direct" ||
			cs[1].DeviceID != "ipc" || cs[1].Kind != fleet.IPC || !cs[1].Enabled || !slices.Equal(cs[1].MAC, []byte{0, 1, 2, 255}) {
			t.Errorf("got %+v", cs)
		}
	})
}

func TestDevicesAreListedByWhatIsAskedFor(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		_, err := db.CreateGroup(ctx, by(tenantA), fleet.Group{Name: "g"})
		check(t, err)
		create(t, db, fleet.Device{ID: "IPC-1", Kind: fleet.IPC, Name: "Main Street"})
		create(t, db, fleet.Device{ID: "a_1", Name: "100% green", Tags: map[string]string{"city": "Bern", "floor": "2"}, Groups: []string{"g"}})
		create(t, db, fleet.Device{ID: "a-2", Name: `back\slash`, Tags: map[string]string{"city": "Bern"}})
		create(t, db, fleet.Device{ID: "m-1", Kind: fleet.Meter, EndpointID: "IPC-1", Tags: map[string]string{"city": "Basel", "$.city": "Bern"}, Groups: []string{"g"}})
		create(t, db, fleet.Device{ID: "m-2", Kind: fleet.Meter, EndpointID: "IPC-1"})
		create(t, db, fleet.Device{ID: "foreign", Tenant: tenantB, Name: "Main", Tags: map[string]string{"city": "Bern"}})
		read := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		exec(t, db, `INSERT INTO device_reads (device_id, last_read_at) VALUES ('m-1', $1), ('a-2', $2)`, at(read), at(read.Add(time.Hour)))

		for name, c := range map[string]struct {
			f    fleet.DeviceFilter
			want []string
		}{
			"all":                        {fleet.DeviceFilter{}, []string{"IPC-1", "a-2", "a_1", "m-1", "m-2"}},
			"part of an id, other case":  {fleet.DeviceFilter{Q: "ipc"}, []string{"IPC-1"}},
			"part of a name, other case": {fleet.DeviceFilter{Q: "N STREET"}, []string{"IPC-1"}},
			"an underscore is itself":    {fleet.DeviceFilter{Q: "A_"}, []string{"a_1"}},
			"a percent sign is itself":   {fleet.DeviceFilter{Q: "0% "}, []string{"a_1"}},
			"a backslash is itself":      {fleet.DeviceFilter{Q: `K\s`}, []string{"a-2"}},
			"quotes do nothing":          {fleet.DeviceFilter{Q: `' OR 1=1 --`}, nil},
			"a tag":                      {fleet.DeviceFilter{Tags: map[string]string{"city": "Bern"}}, []string{"a-2", "a_1"}},
			"all tags":                   {fleet.DeviceFilter{Tags: map[string]string{"city": "Bern", "floor": "2"}}, []string{"a_1"}},
			"an odd tag":                 {fleet.DeviceFilter{Tags: map[string]string{"$.city": "Bern"}}, []string{"m-1"}},
			"a group":                    {fleet.DeviceFilter{Group: "g"}, []string{"a_1", "m-1"}},
			"no such group":              {fleet.DeviceFilter{Group: "h"}, nil},
			"a kind":                     {fleet.DeviceFilter{Kind: fleet.Meter}, []string{"m-1", "m-2"}},
			"an endpoint":                {fleet.DeviceFilter{EndpointID: "IPC-1"}, []string{"IPC-1", "m-1", "m-2"}},
			"not read since":             {fleet.DeviceFilter{NotReadSince: read.Add(time.Minute)}, []string{"IPC-1", "a_1", "m-1", "m-2"}},
			"online":                     {fleet.DeviceFilter{OnlyEndpoints: []fleet.DeviceID{"IPC-1", "foreign"}, Online: true}, []string{"IPC-1", "m-1", "m-2"}},
			"offline":                    {fleet.DeviceFilter{OnlyEndpoints: []fleet.DeviceID{"IPC-1"}}, []string{"a-2", "a_1"}},
			"nobody is online":           {fleet.DeviceFilter{OnlyEndpoints: []fleet.DeviceID{}, Online: true}, nil},
			"everybody is offline":       {fleet.DeviceFilter{OnlyEndpoints: []fleet.DeviceID{}, Kind: fleet.Meter}, []string{"m-1", "m-2"}},
			"several": {fleet.DeviceFilter{Q: "m", Kind: fleet.Meter, Group: "g", Tags: map[string]string{"city": "Basel"},
				NotReadSince: read.Add(time.Second), EndpointID: "IPC-1"}, []string{"m-1"}},
		} {
			t.Run(name, func(t *testing.T) {
				ds, err := db.Devices(ctx, tenantA, c.f, "", 10)
				check(t, err)
				if !slices.Equal(idsOf(ds), c.want) {
					t.Errorf("got %v, want %v", idsOf(ds), c.want)
				}
			})
		}

		var pages []string
		for after := fleet.DeviceID(""); ; {
			ds, err := db.Devices(ctx, tenantA, fleet.DeviceFilter{}, after, 2)
			check(t, err)
			if len(ds) == 0 {
				break
			}
			if len(ds) > 2 {
				t.Fatalf("a page of %d", len(ds))
			}
			pages, after = append(pages, idsOf(ds)...), ds[len(ds)-1].ID
		}
		if !slices.Equal(pages, []string{"IPC-1", "a-2", "a_1", "m-1", "m-2"}) {
			t.Errorf("pages: %v", pages)
		}
		ds, err := db.Devices(ctx, tenantA, fleet.DeviceFilter{Group: "g"}, "", 10)
		check(t, err)
		if !slices.Equal(ds[1].Groups, []string{"g"}) || ds[1].LastReadAt == nil || !ds[1].LastReadAt.Equal(read) || ds[0].LastReadAt != nil {
			t.Errorf("got %+v", ds)
		}
	})
}
