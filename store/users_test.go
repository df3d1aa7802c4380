package store

import (
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
)

func TestUsersAndTheirSessions(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		made, err := db.CreateUser(f.ctx, by(tenantA), fleet.User{Name: "anna", Tenant: tenantA, Role: fleet.Operator}, []byte("hash-of-anna"))
		check(t, err)
		if made.CreatedAt.IsZero() || made.Tenant != tenantA || made.Role != fleet.Operator {
			t.Fatalf("%+v", made)
		}
		_, err = db.CreateUser(f.ctx, by(tenantB), fleet.User{Name: "anna", Tenant: tenantB, Role: fleet.Viewer}, []byte("other"))
		wantErr(t, err, fleet.ErrTaken) // names are the installation's
		_, err = db.CreateUser(f.ctx, by(tenantB), fleet.User{Name: "bert", Tenant: tenantB, Role: fleet.Viewer}, []byte("hash-of-bert"))
		check(t, err)
		u, hash, err := db.UserByName(f.ctx, "anna")
		if check(t, err); u != made || string(hash) != "hash-of-anna" {
			t.Fatalf("%+v %q", u, hash)
		}
		us, err := db.Users(f.ctx, "anna", 10)
		if check(t, err); len(us) != 1 || us[0].Name != "bert" {
			t.Fatalf("after anna: %+v", us)
		}

		soon := time.Now().UTC().Add(time.Hour).Truncate(time.Second)
		check(t, db.CreateSession(f.ctx, by(tenantA), fleet.Session{ID: "s1", User: "anna", ExpiresAt: soon}, []byte("1")))
		check(t, db.CreateSession(f.ctx, by(tenantA), fleet.Session{ID: "s2", User: "anna", ExpiresAt: soon}, []byte("2")))
		wantErr(t, db.CreateSession(f.ctx, by(tenantA), fleet.Session{ID: "s3", User: "nobody", ExpiresAt: soon}, []byte("3")), fleet.ErrNotFound)
		tok, err := db.SessionToken(f.ctx, []byte("1"))
		if check(t, err); tok.ID != "user:anna" || tok.Tenant != tenantA || tok.Name != "anna" || tok.Role() != fleet.Operator || !tok.ExpiresAt.Equal(soon) {
			t.Fatalf("%+v", tok)
		}
		check(t, db.DeleteSession(f.ctx, by(tenantA), []byte("1")))
		wantErr(t, db.DeleteSession(f.ctx, by(tenantA), []byte("1")), fleet.ErrNotFound)
		_, err = db.SessionToken(f.ctx, []byte("1"))
		wantErr(t, err, fleet.ErrNotFound)

		wantErr(t, db.DeleteUser(f.ctx, by(tenantB), "anna"), fleet.ErrNotFound)
		check(t, db.DeleteUser(f.ctx, by(tenantA), "anna"))
		_, err = db.SessionToken(f.ctx, []byte("2"))
		wantErr(t, err, fleet.ErrNotFound)
		_, _, err = db.UserByName(f.ctx, "anna")
		wantErr(t, err, fleet.ErrNotFound)
		equal(t, "audit", f.audited(tenantA, fleet.AuditFilter{}), []string{"user.create user:anna", "session.create session:s1",
			"session.create session:s2", "session.delete session:s1", "user.delete user:anna"})
		list, err := db.Audit(f.ctx, tenantA, fleet.AuditFilter{ObjectKind: fleet.OnUser}, command.Page{Limit: 10})
		check(t, err)
		for _, e := range list.Items {
			if s := string(e.Before) + string(e.After); s == "" || strings.Contains(s, "hash") {
				t.Errorf("%s", s)
			}
		}
	})
}

func TestSessionsOfTokensEndWithThem(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		tok, err := db.CreateToken(f.ctx, by(tenantA), fleet.Token{Tenant: tenantA, Name: "ci", Scopes: []fleet.Scope{fleet.FleetRead}}, []byte("hash"))
		check(t, err)
		soon := time.Now().UTC().Add(time.Hour).Truncate(time.Second)
		check(t, db.CreateSession(f.ctx, by(tenantA), fleet.Session{ID: "s1", TokenID: tok.ID, ExpiresAt: soon}, []byte("1")))
		got, err := db.SessionToken(f.ctx, []byte("1"))
		if check(t, err); got.ID != tok.ID || got.Name != "ci" || got.Tenant != tenantA || !got.Can(fleet.FleetRead) || !got.ExpiresAt.Equal(soon) {
			t.Fatalf("%+v", got)
		}
		check(t, db.CreateSession(f.ctx, by(tenantA), fleet.Session{ID: "old", TokenID: tok.ID, ExpiresAt: time.Now().Add(-time.Second)}, []byte("old")))
		_, err = db.SessionToken(f.ctx, []byte("old"))
		wantErr(t, err, fleet.ErrNotFound)
		check(t, db.CreateSession(f.ctx, by(tenantA), fleet.Session{ID: "s2", TokenID: tok.ID, ExpiresAt: soon}, []byte("2"))) // and forgets it
		var kept int
		check(t, db.reads.pool.GetContext(f.ctx, &kept, `SELECT count(*) FROM sessions`))
		if kept != 2 {
			t.Errorf("%d sessions are kept", kept)
		}
		check(t, db.DeleteToken(f.ctx, by(tenantA), tok.ID))
		_, err = db.SessionToken(f.ctx, []byte("1"))
		wantErr(t, err, fleet.ErrNotFound)
	})
}
