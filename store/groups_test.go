package store

import (
	"context"
	"errors"
	"slices"
	"testing"

	"meterline/fleet"
)

func TestGroupsBelongToTheirTenant(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		g, err := db.CreateGroup(ctx, by(tenantA), fleet.Group{Name: "north", Description: "of the river"})
		check(t, err)
		if g.Name != "north" || g.Description != "of the river" || g.Devices != 0 || g.CreatedAt.IsZero() {
			t.Errorf("got %+v", g)
		}
		_, err = db.CreateGroup(ctx, by(tenantA), fleet.Group{Name: "north"})
		wantErr(t, err, fleet.ErrTaken)
		_, err = db.CreateGroup(ctx, by(tenantB), fleet.Group{Name: "north", Description: "other's"}) // names are the tenant's own
		check(t, err)
		_, err = db.CreateGroup(ctx, by(tenantB), fleet.Group{Name: "secret"})
		check(t, err)

		create(t, db, fleet.Device{ID: "d", Groups: []string{"north"}})
		create(t, db, fleet.Device{ID: "o", Tenant: tenantB, Groups: []string{"north", "secret"}})

		g, err = db.UpdateGroup(ctx, by(tenantA), "north", "of the hill")
		check(t, err)
		if g.Description != "of the hill" || g.Devices != 1 {
			t.Errorf("got %+v", g)
		}
		if g, err := db.Group(ctx, tenantB, "north"); err != nil || g.Description != "other's" {
			t.Errorf("got %+v, %v", g, err)
		}
		_, err = db.Group(ctx, tenantA, "secret")
		wantErr(t, err, fleet.ErrNotFound)
		_, err = db.UpdateGroup(ctx, by(tenantA), "secret", "mine")
		wantErr(t, err, fleet.ErrNotFound)
		wantErr(t, db.DeleteGroup(ctx, by(tenantA), "secret"), fleet.ErrNotFound)

		check(t, db.DeleteGroup(ctx, by(tenantA), "north"))
		d, err := db.Device(ctx, tenantA, "d")
		check(t, err)
		o, err := db.Device(ctx, tenantB, "o")
		check(t, err)
		if len(d.Groups) != 0 || !slices.Equal(o.Groups, []string{"north", "secret"}) {
			t.Errorf("in groups %v and %v", d.Groups, o.Groups)
		}
	})
}

func TestGroupsAreListedInPages(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		for _, name := range []string{"c", "a", "b", "Z"} {
			_, err := db.CreateGroup(ctx, by(tenantA), fleet.Group{Name: name})
			check(t, err)
		}
		_, err := db.CreateGroup(ctx, by(tenantB), fleet.Group{Name: "aa"})
		check(t, err)
		create(t, db, fleet.Device{ID: "d", Groups: []string{"b"}})
		first, err := db.Groups(ctx, tenantA, "", 3)
		check(t, err)
		rest, err := db.Groups(ctx, tenantA, first[len(first)-1].Name, 3)
		check(t, err)
		var names []string
		for _, g := range append(first, rest...) {
			names = append(names, g.Name)
			if want := map[string]int{"b": 1}[g.Name]; g.Devices != want {
				t.Errorf("%s has %d devices, want %d", g.Name, g.Devices, want)
			}
		}
		if !slices.Equal(names, []string{"Z", "a", "b", "c"}) {
			t.Errorf("got %v", names)
		}
	})
}

func TestMembersChangeAllOrNone(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		_, err := db.CreateGroup(ctx, by(tenantA), fleet.Group{Name: "g"})
		check(t, err)
		for _, id := range []fleet.DeviceID{"a", "b", "c"} {
			create(t, db, fleet.Device{ID: id})
		}
		create(t, db, fleet.Device{ID: "foreign", Tenant: tenantB})
		members := func() []string {
			ds, err := db.Devices(ctx, tenantA, fleet.DeviceFilter{Group: "g"}, "", 10)
			check(t, err)
			return idsOf(ds)
		}
		check(t, db.AddMembers(ctx, by(tenantA), "g", []fleet.DeviceID{"b", "a", "b"}))
		check(t, db.AddMembers(ctx, by(tenantA), "g", []fleet.DeviceID{"b"}))
		if got := members(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("got %v", got)
		}
		for name, change := range map[string]func(context.Context, fleet.Actor, string, []fleet.DeviceID) error{
			"add": db.AddMembers, "remove": db.RemoveMembers,
		} {
			err := change(ctx, by(tenantA), "g", []fleet.DeviceID{"nobody", "c", "a", "foreign"})
			if unknown, ok := errors.AsType[*fleet.UnknownDevices](err); !ok || !slices.Equal(unknown.Indexes, []int{0, 3}) {
				t.Errorf("%s: got %v", name, err)
			}
			wantErr(t, change(ctx, by(tenantA), "nowhere", []fleet.DeviceID{"a"}), fleet.ErrNotFound)
			wantErr(t, change(ctx, by(tenantB), "g", []fleet.DeviceID{"foreign"}), fleet.ErrNotFound)
		}
		if got := members(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("a refused change left %v", got)
		}
		check(t, db.RemoveMembers(ctx, by(tenantA), "g", []fleet.DeviceID{"c", "a"}))
		if got := members(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("got %v", got)
		}
	})
}
