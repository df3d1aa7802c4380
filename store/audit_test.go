package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"meterline/command"
	"meterline/fleet"
)

// audited lists what is in the audit log, oldest first: action, object, and of which device before and after tell.
func (f fixture) audited(tenant fleet.Tenant, filter fleet.AuditFilter) (said []string) {
	f.Helper()
	for cursor := ""; ; {
		list, err := f.Audit(f.ctx, tenant, filter, command.Page{Limit: 2, Cursor: cursor})
		check(f, err)
		for _, e := range list.Items {
			said = append(said, fmt.Sprint(e.Action, " ", e.Object.Kind, ":", e.Object.ID))
		}
		if cursor = list.NextCursor; cursor == "" {
			slices.Reverse(said)
			return said
		}
	}
}

func TestAuditTellsWhoDidWhat(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		who := by(tenantA)
		d, err := db.CreateDevice(f.ctx, who, fleet.Device{ID: "d1", Tenant: tenantA, Kind: fleet.Direct, Name: "old", Enabled: true}, []byte("mac-of-d1"))
		check(t, err)
		d.Name = "new"
		_, _, err = db.UpdateDevice(f.ctx, who, d)
		check(t, err)
		check(t, db.SetSecret(f.ctx, who, "d1", []byte("second-mac")))
		check(t, second(db.CreateGroup(f.ctx, who, fleet.Group{Name: "north"})))
		check(t, second(db.UpdateGroup(f.ctx, who, "north", "up there")))
		check(t, db.AddMembers(f.ctx, who, "north", []fleet.DeviceID{"d1"}))
		id := f.issue(tenantA, "d1").Command.ID
		check(t, db.Cancel(f.ctx, who, id))
		check(t, db.RemoveMembers(f.ctx, who, "north", []fleet.DeviceID{"d1"}))
		check(t, db.DeleteGroup(f.ctx, who, "north"))
		tok, err := db.CreateToken(f.ctx, who, fleet.Token{Tenant: tenantA, Name: "ci"}, []byte("hash-of-ci"))
		check(t, err)
		check(t, db.DeleteToken(f.ctx, who, tok.ID))
		rows := []fleet.ImportRow{{Line: 1, Device: fleet.Device{ID: "d2", Tenant: tenantA, Kind: fleet.Direct}, MAC: []byte("mac-of-d2")}}
		check(t, second(db.Import(f.ctx, who, func() ([]fleet.ImportRow, error) { r := rows; rows = nil; return r, nil })))
		check(t, second(db.DeleteDevice(f.ctx, who, "d2")))
		f.direct(tenantB, "theirs")

		want := []string{
			"device.create device:d1", "device.update device:d1", "device.credentials device:d1", "group.create group:north", "group.update group:north",
			"group.add group:north", "command.issue command:" + string(id), "command.cancel command:" + string(id), "group.remove group:north",
			"group.delete group:north", "token.create token:" + tok.ID, "token.delete token:" + tok.ID, "device.import device:", "device.delete device:d2",
		}
		equal(t, "entries", f.audited(tenantA, fleet.AuditFilter{}), want)
		equal(t, "the other's", f.audited(tenantB, fleet.AuditFilter{}), []string{"device.create device:theirs"})

		for name, c := range map[string]struct {
			filter fleet.AuditFilter
			want   []string
		}{
			"object":      {fleet.AuditFilter{ObjectID: "d1"}, want[:3]},
			"kind":        {fleet.AuditFilter{ObjectKind: fleet.OnToken}, want[10:12]},
			"action":      {fleet.AuditFilter{Action: fleet.GroupAdd}, want[5:6]},
			"issue":       {fleet.AuditFilter{Action: fleet.CommandIssue}, want[6:7]},
			"retry":       {fleet.AuditFilter{Action: fleet.CommandRetry}, nil},
			"command":     {fleet.AuditFilter{ObjectKind: fleet.OnCommand, ObjectID: string(id)}, want[6:8]},
			"actor":       {fleet.AuditFilter{Actor: "ci", Action: fleet.DeviceUpdate}, want[1:2]},
			"actor's id":  {fleet.AuditFilter{Actor: "t-1", ObjectID: "d2"}, want[13:]},
			"other actor": {fleet.AuditFilter{Actor: "nobody"}, nil},
			"period":      {fleet.AuditFilter{To: d.CreatedAt}, nil},
			"from":        {fleet.AuditFilter{From: d.CreatedAt, ObjectID: "d1"}, want[:3]},
		} {
			equal(t, name, f.audited(tenantA, c.filter), c.want)
		}

		list, err := db.Audit(f.ctx, tenantA, fleet.AuditFilter{}, command.Page{Limit: 100})
		check(t, err)
		all, err := json.Marshal(list.Items)
		check(t, err)
		for _, secret := range []string{"mac", "hash"} {
			if strings.Contains(string(all), secret) {
				t.Errorf("the log tells a secret: %s", all)
			}
		}
		update := list.Items[len(list.Items)-2]
		if update.Actor != (fleet.EntryActor{Kind: fleet.ByToken, ID: "t-1", Name: "ci"}) || update.RequestID != "r-1" || update.Remote != "192.0.2.1:5000" ||
			!strings.Contains(string(update.Before), `"name":"old"`) || !strings.Contains(string(update.After), `"name":"new"`) {
			t.Errorf("%+v: %s → %s", update, update.Before, update.After)
		}
		if after := string(list.Items[1].After); after != `{"created":1,"updated":0}` {
			t.Errorf("an import is %s", after)
		}
	})
}

// Entries are in one order with the commands of the same moment, whatever the page.
func TestAuditPagesThroughCommands(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		want := []string{"device.create device:d1"}
		for range 5 {
			c := f.issue(tenantA, "d1").Command
			want = append(want, "command.issue command:"+string(c.ID))
			check(t, db.write(f.ctx, urgent, func(t *tx) error {
				for _, id := range []string{"a", "b", "c"} {
					if err := t.record(c.CreatedAt, by(tenantA), fleet.Change{Action: fleet.GroupCreate, Kind: fleet.OnGroup, ID: id}); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		got := f.audited(tenantA, fleet.AuditFilter{})
		seen := map[string]int{}
		for _, s := range got {
			seen[s]++
		}
		for _, s := range want {
			if seen[s] != 1 {
				t.Errorf("%s is there %d times", s, seen[s])
			}
		}
		if len(got) != 1+5*4 || seen["group.create group:b"] != 5 {
			t.Errorf("%d entries: %v", len(got), got)
		}
	})
}

func TestAuditIsNeverChanged(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		if err := f.exec1(`UPDATE audit SET actor_id = 'somebody else'`); err == nil || !strings.Contains(err.Error(), "never changed") {
			t.Errorf("got %v", err)
		}
	})
}

// What was refused has no entry: it is written in the transaction of what it tells of.
func TestAuditTellsOnlyWhatWasDone(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		_, err := db.CreateDevice(f.ctx, by(tenantA), fleet.Device{ID: "d1", Tenant: tenantA, Kind: fleet.Direct}, nil)
		wantErr(t, err, fleet.ErrTaken)
		wantErr(t, db.DeleteGroup(f.ctx, by(tenantA), "nowhere"), fleet.ErrNotFound)
		wantErr(t, db.Cancel(f.ctx, by(tenantA), "nothing"), command.ErrNotFound)
		equal(t, "entries", f.audited(tenantA, fleet.AuditFilter{}), []string{"device.create device:d1"})
	})
}
