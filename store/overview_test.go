package store

import (
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

func TestStanding(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2", "d3")
		f.ipc(tenantA, "ipc", "m1")
		f.direct(tenantB, "theirs")
		look := func() command.Standing {
			t.Helper()
			now, err := db.Now(f.ctx)
			check(t, err)
			s, err := db.Standing(f.ctx, tenantA, now.Add(-time.Hour))
			check(t, err)
			return s
		}
		if s := look(); s.Operations != (command.OpenCount{}) || s.DeadLetters.Open != 0 || s.Minutes != nil || s.Backlog != nil || len(s.Backends) != 0 {
			t.Fatalf("at first %+v", s)
		}
		first := f.issue(tenantA, "d1", "d2").Command
		f.issue(tenantA, "d3")
		f.issue(tenantB, "theirs")
		fence := f.own("w")
		f.change(fence, failWith("BUSY"), key(first.ID, "d2"))
		f.bury(uplinkLetter(tenantA, "d1", "k1"), uplinkLetter(tenantB, "d1", "k2"))
		s := look()
		if s.Operations.Open != 2 || s.Operations.Waiting != 2 || !s.Operations.OldestWaitingAt.Equal(first.CreatedAt) || s.DeadLetters.Open != 1 {
			t.Errorf("%+v", s)
		}
		if len(s.Backends) != 1 || s.Backends[0] != (command.BackendHealth{ID: "w", Alive: true, Partitions: Partitions}) {
			t.Errorf("backends %+v", s.Backends)
		}
		f.overdue(first.ID)
		if s := look(); s.Operations.Open != 1 {
			t.Errorf("past a deadline %+v", s.Operations)
		}
		ids, err := db.EndpointIDs(f.ctx, tenantA, "d1", 2)
		check(t, err)
		equal(t, "endpoints", ids, []meterread.DeviceID{"d2", "d3"})
		ids, err = db.EndpointIDs(f.ctx, tenantA, "d3", 2)
		check(t, err)
		equal(t, "the rest", ids, []meterread.DeviceID{"ipc"})
	})
}

func TestMinutesAreAddedUp(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		now, err := db.Now(f.ctx)
		check(t, err)
		at := now.Truncate(time.Minute)
		minute := func(ago time.Duration, readings int, codes map[string]int) command.Minute {
			return command.Minute{Tenant: tenantA, At: at.Add(-ago), Readings: readings, Succeeded: 1, Failed: 2, Expired: 3, Dead: 4, Codes: codes}
		}
		theirs := minute(0, 99, map[string]int{"THEIRS": 1})
		theirs.Tenant = tenantB
		check(t, db.AddMinutes(f.ctx, "w1", []command.Minute{minute(0, 5, map[string]int{"BUSY": 1}), theirs, minute(49*time.Hour, 1, map[string]int{"OLD": 1})},
			&command.Holding{Backlog: command.Backlog{Entries: 10, Oldest: 2 * time.Second}, Bound: 100}))
		check(t, db.AddMinutes(f.ctx, "w2", []command.Minute{minute(0, 6, map[string]int{"BUSY": 2, "CRC_ERROR": 1}), minute(time.Minute, 1, nil)},
			&command.Holding{Backlog: command.Backlog{Entries: 7, Oldest: time.Second}, Bound: 100}))
		check(t, db.AddMinutes(f.ctx, "w1", nil, nil))
		s, err := db.Standing(f.ctx, tenantA, now.Add(-50*time.Hour)) // what is old is forgotten
		check(t, err)
		if len(s.Minutes) != 2 || !s.Minutes[1].At.Equal(at) || s.Minutes[1].Readings != 11 || s.Minutes[1].Succeeded != 2 || s.Minutes[1].Failed != 4 ||
			s.Minutes[1].Expired != 6 || s.Minutes[1].Dead != 8 || s.Minutes[0].Readings != 1 {
			t.Errorf("minutes %+v", s.Minutes)
		}
		if len(s.Codes) != 2 || s.Codes["BUSY"] != 3 || s.Codes["CRC_ERROR"] != 1 {
			t.Errorf("codes %v", s.Codes)
		}
		if s.Backlog == nil || *s.Backlog != (command.BacklogCount{Entries: 17, OldestS: 2, Bound: 100 * Partitions}) {
			t.Errorf("backlog %+v", s.Backlog)
		}
	})
}
