package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// inBatches brings rows n at a time; each row gets the number of its line.
func inBatches(n int, devices ...fleet.Device) func() ([]fleet.ImportRow, error) {
	line := 0
	return func() ([]fleet.ImportRow, error) {
		var batch []fleet.ImportRow
		for len(batch) < n && line < len(devices) {
			d := devices[line]
			line++
			d.Tenant = tenantA
			var mac []byte
			if d.Kind != fleet.Meter {
				mac = []byte("imported mac of " + d.ID)
			}
			batch = append(batch, fleet.ImportRow{Line: line, Device: d, MAC: mac})
		}
		return batch, nil
	}
}

func ipc(id fleet.DeviceID) fleet.Device {
	return fleet.Device{ID: id, Kind: fleet.IPC, Enabled: true}
}

func meter(id, ipc fleet.DeviceID, groups ...string) fleet.Device {
	return fleet.Device{ID: id, Kind: fleet.Meter, EndpointID: ipc, Enabled: true, Groups: groups, Route: []byte(`[{"meter":"` + string(id) + `"}]`)}
}

func TestAnImportCreatesAndUpdates(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		_, err := db.CreateGroup(ctx, by(tenantA), fleet.Group{Name: "old", Description: "stays"})
		check(t, err)
		create(t, db, ipc("ipc-old"))
		was := create(t, db, meter("m-old", "ipc-old", "old"))

		moved := meter("m-old", "ipc-new", "new")
		moved.Name, moved.Tags = "moved", map[string]string{"k": "v"}
		done, err := db.Import(ctx, by(tenantA), inBatches(2,
			meter("m-new", "ipc-new", "new", "old"), // its IPC comes later
			moved, ipc("ipc-new"), ipc("ipc-old")))
		check(t, err)
		if done.Created != 2 || done.Updated != 2 {
			t.Errorf("created %d, updated %d, want 2 and 2", done.Created, done.Updated)
		}
		ds, err := db.Devices(ctx, tenantA, fleet.DeviceFilter{}, "", 10)
		check(t, err)
		if !slices.Equal(idsOf(ds), []string{"ipc-new", "ipc-old", "m-new", "m-old"}) {
			t.Fatalf("got %v", idsOf(ds))
		}
		if d := ds[2]; !slices.Equal(d.Groups, []string{"new", "old"}) || d.EndpointID != "ipc-new" || string(d.Route) != `[{"meter":"m-new"}]` {
			t.Errorf("got %+v", d)
		}
		d := ds[3]
		if d.Name != "moved" || d.EndpointID != "ipc-new" || d.Tags["k"] != "v" || !slices.Equal(d.Groups, []string{"new", "old"}) ||
			!d.CreatedAt.Equal(was.CreatedAt) || !d.UpdatedAt.After(was.UpdatedAt) {
			t.Errorf("got %+v", d)
		}
		if got, want := partitionIn(t, db, "m-old"), fleet.Partition("ipc-new", db.partitions); got != want {
			t.Errorf("in partition %d, want %d", got, want)
		}
		if g, err := db.Group(ctx, tenantA, "old"); err != nil || g.Description != "stays" || g.Devices != 2 {
			t.Errorf("got %+v, %v", g, err)
		}
		if g, err := db.Group(ctx, tenantA, "new"); err != nil || g.Devices != 2 {
			t.Errorf("got %+v, %v", g, err)
		}
	})
}

func TestAnImportKeepsSecretsUnlessItBringsOthers(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		create(t, db, ipc("keeps"))
		create(t, db, ipc("changes"))
		rows := []fleet.ImportRow{{Line: 1, Device: ipc("keeps")}, {Line: 2, Device: ipc("changes"), MAC: []byte("new")}, {Line: 3, Device: ipc("none")}}
		_, err := db.Import(ctx, by(tenantA), func() ([]fleet.ImportRow, error) { r := rows; rows = nil; return r, nil })
		check(t, err)
		cs, err := db.Credentials(ctx, []fleet.DeviceID{"keeps", "changes", "none"})
		check(t, err)
		macs := map[fleet.DeviceID]string{}
		for _, c := range cs {
			macs[c.DeviceID] = string(c.MAC)
		}
		if len(macs) != 2 || macs["keeps"] != "mac of keeps" || macs["changes"] != "new" {
			t.Errorf("got %v", macs)
		}
	})
}

func TestAnImportIsRefusedAsAWhole(t *testing.T) {
	broken := errors.New("line 3 is not JSON")
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		create(t, db, ipc("ipc-1"))
		create(t, db, fleet.Device{ID: "foreign", Tenant: tenantB, Kind: fleet.IPC})
		before, err := db.Device(ctx, tenantA, "ipc-1")
		check(t, err)
		renamed := ipc("ipc-1")
		renamed.Name = "renamed"
		good := []fleet.Device{renamed, meter("m-1", "ipc-1", "made"), meter("m-2", "ipc-1")}
		for name, c := range map[string]struct {
			bad  fleet.Device
			want fleet.RowError
		}{
			"another tenant's id":     {ipc("foreign"), fleet.RowError{Line: 4, Field: "id", Detail: "is taken"}},
			"another tenant's IPC":    {meter("m-3", "foreign"), fleet.RowError{Line: 4, Field: "endpoint_id"}},
			"an IPC that never comes": {meter("m-3", "nobody"), fleet.RowError{Line: 4, Field: "endpoint_id"}},
			"an IPC that is a meter":  {meter("m-3", "m-1"), fleet.RowError{Line: 4, Field: "endpoint_id"}},
			"another kind":            {fleet.Device{ID: "ipc-1", Kind: fleet.Direct}, fleet.RowError{Line: 4, Field: "kind"}},
			"another kind of its own": {fleet.Device{ID: "m-2", Kind: fleet.Direct}, fleet.RowError{Line: 4, Field: "kind"}},
		} {
			for _, size := range []int{1, 100} { // in a batch of its own, and among the others
				_, err := db.Import(ctx, by(tenantA), inBatches(size, append(slices.Clone(good), c.bad, meter("m-9", "ipc-1"))...))
				row, ok := errors.AsType[*fleet.RowError](err)
				if !ok || row.Line != c.want.Line || row.Field != c.want.Field || row.Detail == "" || (c.want.Detail != "" && row.Detail != c.want.Detail) {
					t.Errorf("%s, %d at a time: got %#v", name, size, err)
				}
			}
		}
		batches := inBatches(1, good...)
		calls := 0
		_, err = db.Import(ctx, by(tenantA), func() ([]fleet.ImportRow, error) {
			if calls++; calls == 3 {
				return nil, broken
			}
			return batches()
		})
		wantErr(t, err, broken)

		ds, err := db.Devices(ctx, tenantA, fleet.DeviceFilter{}, "", 10)
		check(t, err)
		if len(ds) != 1 || ds[0].Name != before.Name || !ds[0].UpdatedAt.Equal(before.UpdatedAt) {
			t.Errorf("refused imports left %+v", ds)
		}
		_, err = db.Group(ctx, tenantA, "made")
		wantErr(t, err, fleet.ErrNotFound)
	})
}

func TestADeviceThatAnImportNamesTwiceIsUpdated(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		again := ipc("ipc")
		again.Name = "second"
		done, err := db.Import(t.Context(), by(tenantA), inBatches(10, ipc("ipc"), meter("m", "ipc"), again))
		check(t, err)
		if d, err := db.Device(t.Context(), tenantA, "ipc"); err != nil || d.Name != "second" || done.Created != 2 || done.Updated != 1 {
			t.Errorf("created %d, updated %d: %+v, %v", done.Created, done.Updated, d, err)
		}
	})
}

func TestAnImportTakesOperationsAlong(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc-1", "stays", "moves", "ends", "is-out")
		c := f.issue(tenantA, "stays", "moves", "ends", "is-out").Command.ID
		fence := f.own("w")
		f.change(fence, claim, key(c, "is-out"))
		ends := meter("ends", "ipc-1")
		ends.Enabled = false
		stays := meter("stays", "ipc-1")
		stays.Route = []byte(`[{"bus":"com1"},{"meter":"stays"}]`)
		done, err := db.Import(t.Context(), by(tenantA), inBatches(2, stays, meter("moves", "ipc-2"), ends, meter("is-out", "ipc-2"), ipc("ipc-2")))
		check(t, err)
		if len(done.Touched) == 0 || done.Touched[0] != string(c) {
			t.Errorf("touched %v, want %s", done.Touched, c)
		}
		for device, want := range map[string]struct {
			state    command.State
			endpoint fleet.DeviceID
		}{
			"stays": {command.Queued, "ipc-1"}, "moves": {command.Queued, "ipc-2"},
			"ends": {command.Cancelled, "ipc-1"}, "is-out": {command.Sent, "ipc-1"},
		} {
			o := f.operation(key(c, device))
			if o.State != want.state || o.EndpointID != want.endpoint || o.Partition != fleet.Partition(want.endpoint, db.partitions) {
				t.Errorf("%s is %s at %s in partition %d, want %+v", device, o.State, o.EndpointID, o.Partition, want)
			}
		}
		if got := f.command(c); got.Counts.Cancelled != 1 {
			t.Errorf("counts %+v", got.Counts)
		}
	})
}

func TestALargeImport(t *testing.T) {
	ipcs, metersEach := 1000, 99
	if raceDetector {
		ipcs = 105 // still more than a spool holds in memory
	}
	devices := make([]fleet.Device, 0, ipcs*(metersEach+1))
	for i := range ipcs {
		id := fleet.DeviceID(fmt.Sprintf("ipc-%04d", i))
		for n := range metersEach {
			m := meter(fleet.DeviceID(fmt.Sprintf("m-%04d-%02d", i, n)), id, fmt.Sprintf("street-%03d", i/10))
			m.Name, m.Tags = "Meter", map[string]string{"city": "Bern", "floor": fmt.Sprint(n % 5)}
			devices = append(devices, m)
		}
		devices = append(devices, ipc(id)) // after its meters
	}
	for name, open := range map[string]func(testing.TB) *DB{"postgres": openPostgres, "sqlite": openSQLite} { // one at a time
		t.Run(name, func(t *testing.T) {
			db := open(t)
			t.Setenv("TMPDIR", t.TempDir())
			bad := append(slices.Clone(devices), meter("m-last", "nobody"))
			_, err := db.Import(t.Context(), by(tenantA), inBatches(500, bad...))
			if row, ok := errors.AsType[*fleet.RowError](err); !ok || row.Line != len(bad) {
				t.Fatalf("got %v", err)
			}
			if ds, err := db.Devices(t.Context(), tenantA, fleet.DeviceFilter{}, "", 1); err != nil || len(ds) > 0 {
				t.Fatalf("a refused import left %v, %v", idsOf(ds), err)
			}
			for _, want := range []struct{ created, updated int }{{len(devices), 0}, {0, len(devices)}} {
				start := time.Now()
				done, err := db.Import(t.Context(), by(tenantA), inBatches(500, devices...))
				check(t, err)
				t.Logf("created %d, updated %d in %s", done.Created, done.Updated, time.Since(start).Round(time.Millisecond))
				if done.Created != want.created || done.Updated != want.updated {
					t.Errorf("created %d, updated %d, want %+v", done.Created, done.Updated, want)
				}
			}
			g, err := db.Group(t.Context(), tenantA, "street-009")
			check(t, err)
			if g.Devices != 10*metersEach {
				t.Errorf("group of %d devices", g.Devices)
			}
			d, err := db.Device(t.Context(), tenantA, "m-0099-98")
			check(t, err)
			if d.EndpointID != "ipc-0099" || d.Tags["floor"] != "3" || !slices.Equal(d.Groups, []string{"street-009"}) {
				t.Errorf("got %+v", d)
			}
			if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
				t.Errorf("files left behind: %v, %v", left, err)
			}
		})
	}
}
