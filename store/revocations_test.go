package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"meterline/fleet"
	"meterline/testkit"
)

// follower collects what a reader is told.
type follower struct {
	*Revocations
	t testing.TB
}

func (f fixture) follow() follower {
	f.Helper()
	f.alone()
	r, err := f.Revocations(f.ctx)
	check(f, err)
	return follower{r, f}
}

// alone waits until no transaction of the server runs that began before what was taken back last. As long as one does, all that was
// taken back since is told again, and the server is that of other tests, too.
func (f fixture) alone() {
	f.Helper()
	if !f.postgres {
		return
	}
	testkit.Eventually(f, time.Minute, func() (over bool) {
		check(f, f.single(f.ctx, func(t *tx) error {
			return t.get(&over, `SELECT COALESCE(max(tx), 0) < pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM revocations`)
		}))
		return over
	}, "older transactions of other tests to end")
}

// news is what is told once other tests cannot have it told again.
func (r follower) news(f fixture) []string {
	f.Helper()
	f.alone()
	return r.next()
}

// next is what came since the last call: "d1", "d1 off" of a device that may not sign in, "token ID".
func (r follower) next() []string {
	r.t.Helper()
	found, err := r.Next(r.t.Context())
	check(r.t, err)
	said := []string{}
	for _, f := range found {
		switch {
		case f.Token != "":
			said = append(said, "token "+f.Token)
		case f.Now == nil:
			said = append(said, string(f.Device)+" gone")
		case !f.Now.Enabled:
			said = append(said, string(f.Device)+" off")
		default:
			said = append(said, fmt.Sprintf("%s %s", f.Device, f.Now.MAC))
		}
	}
	return said
}

func wantSaid(t testing.TB, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("told of %v, want %v", got, want)
	}
}

func TestWhatIsTakenBackIsTold(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2", "d3", "before")
		f.ipc(tenantA, "i1", "m1", "m2")
		token, err := db.CreateToken(f.ctx, by(tenantA), fleet.Token{Tenant: tenantA, Name: "ci"}, []byte("hash"))
		check(t, err)
		check(t, db.SetSecret(f.ctx, by(tenantA), "before", []byte("x")))
		r := f.follow()
		wantSaid(t, r.news(f))

		change := func(id fleet.DeviceID, how func(*fleet.Device)) {
			d, err := db.Device(f.ctx, tenantA, id)
			check(t, err)
			how(&d)
			_, _, err = db.UpdateDevice(f.ctx, by(d.Tenant), d)
			check(t, err)
		}
		change("d1", func(d *fleet.Device) { d.Name = "another" })
		change("m1", func(d *fleet.Device) { d.Enabled = false })
		_, err = db.DeleteDevice(f.ctx, by(tenantA), "m2")
		check(t, err)
		wantSaid(t, r.news(f)) // nobody signs in otherwise than before

		change("d1", func(d *fleet.Device) { d.Enabled = false })
		wantSaid(t, r.news(f), "d1 off")
		change("d1", func(d *fleet.Device) { d.Enabled = true })
		wantSaid(t, r.news(f))
		check(t, db.SetSecret(f.ctx, by(tenantA), "d2", []byte("new")))
		_, err = db.DeleteDevice(f.ctx, by(tenantA), "d3")
		check(t, err)
		check(t, db.DeleteToken(f.ctx, by(tenantA), token.ID))
		wantErr(t, db.DeleteToken(f.ctx, by(tenantA), token.ID), fleet.ErrNotFound)
		wantErr(t, db.SetSecret(f.ctx, by(tenantB), "d2", []byte("theirs")), fleet.ErrNotFound)
		wantSaid(t, r.news(f), "d2 new", "d3 gone", "token "+token.ID)
		wantSaid(t, r.news(f))
		wantSaid(t, f.follow().news(f)) // who begins now
	})
}

func TestAnImportTakesBackWhatItChanges(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "same", "keeps", "other", "off", "was-off")
		f.ipc(tenantA, "i1", "m1")
		d, err := db.Device(f.ctx, tenantA, "was-off")
		check(t, err)
		d.Enabled = false
		_, _, err = db.UpdateDevice(f.ctx, by(d.Tenant), d)
		check(t, err)
		r := f.follow()
		row := func(id string, kind fleet.Kind, enabled bool, mac string) fleet.ImportRow {
			d := fleet.Device{ID: fleet.DeviceID(id), Tenant: tenantA, Kind: kind, Enabled: enabled}
			if kind == fleet.Meter {
				d.EndpointID = "i1"
			}
			if mac == "" {
				return fleet.ImportRow{Device: d}
			}
			return fleet.ImportRow{Device: d, MAC: []byte(mac)}
		}
		rows := []fleet.ImportRow{
			row("same", fleet.Direct, true, "mac"), row("keeps", fleet.Direct, true, ""), row("other", fleet.Direct, true, "new"),
			row("off", fleet.Direct, false, ""), row("was-off", fleet.Direct, false, "new"), row("m1", fleet.Meter, false, ""),
			row("born", fleet.Direct, true, "mac"), row("born-off", fleet.Direct, false, "mac"),
		}
		_, err = db.Import(f.ctx, by(tenantA), func() ([]fleet.ImportRow, error) {
			batch := rows
			rows = nil
			return batch, nil
		})
		check(t, err)
		said := r.news(f)
		if len(said) == 2 && said[0] == "off off" { // one statement wrote both: in any order
			said[0], said[1] = said[1], said[0]
		}
		wantSaid(t, said, "other new", "off off")
	})
}

// A transaction that began before others and ends after them is not missed, however long it takes.
func TestATransactionThatEndsLateIsTold(t *testing.T) {
	t.Parallel()
	db := openPostgres(t)
	f := fix(t, db)
	f.direct(tenantA, "slow", "quick")
	r := f.follow()
	written, finish, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- db.write(f.ctx, urgent, func(t *tx) error {
			err := t.revokeDevice(time.Now(), "slow")
			close(written)
			<-finish
			return err
		})
	}()
	<-written
	check(t, db.SetSecret(f.ctx, by(tenantA), "quick", []byte("1")))
	wantSaid(t, r.next(), "quick 1")
	check(t, db.SetSecret(f.ctx, by(tenantA), "quick", []byte("2")))
	r.next()
	close(finish)
	check(t, <-done)
	told := false
	for _, said := range r.next() {
		told = told || said == "slow mac"
	}
	if !told {
		t.Error("the one that ended late was missed")
	}
	// All is told again for as long as any transaction of the server began before it, those of other tests included.
	for deadline := time.Now().Add(time.Minute); len(r.next()) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("it is told for ever")
		}
	}
}

func TestRevocationsInPagesAndPruned(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		r := f.follow()
		const n = 2*revocationsPage + 1
		check(t, db.write(f.ctx, bulk, func(t *tx) error {
			for i := range n {
				when := time.Now()
				if i%2 == 0 {
					when = when.Add(-2 * revocationsKept)
				}
				if err := t.revokeToken(when, fmt.Sprint(i)); err != nil {
					return err
				}
			}
			return nil
		}))
		r.pruned = time.Now().Add(-2 * revocationsPrune)
		if said := r.news(f); len(said) != n || said[n-1] != fmt.Sprint("token ", n-1) {
			t.Errorf("told of %d of %d", len(said), n)
		}
		wantSaid(t, r.news(f))
		var left int
		check(t, db.single(f.ctx, func(t *tx) error { return t.get(&left, `SELECT count(*) FROM revocations`) }))
		if left != n/2 {
			t.Errorf("%d are left of %d", left, n)
		}
	})
}

// What could not be read is read the next time.
func TestAReadingThatFailsIsRepeated(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		r := f.follow()
		check(t, db.SetSecret(f.ctx, by(tenantA), "d1", []byte("1")))
		gone, cancel := context.WithCancel(f.ctx)
		cancel()
		if _, err := r.Next(gone); err == nil {
			t.Fatal("no error")
		}
		wantSaid(t, r.news(f), "d1 1")
	})
}
