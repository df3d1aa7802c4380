package store

import (
	"slices"
	"testing"
	"time"

	"meterline/fleet"
)

func TestATokenIsFoundByItsSecretUntilItEnds(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		secret := fleet.NewTokenSecret()
		made, err := db.CreateToken(ctx, by(tenantA), fleet.Token{Tenant: tenantA, Name: "ci", Scopes: []fleet.Scope{fleet.FleetRead, fleet.MQTT}}, fleet.TokenHash(secret))
		check(t, err)
		if made.ID == "" || made.Tenant != tenantA || made.Name != "ci" || made.CreatedAt.IsZero() || made.ExpiresAt != nil {
			t.Errorf("got %+v", made)
		}
		got, err := db.TokenBySecret(ctx, secret)
		check(t, err)
		if got.ID != made.ID || !slices.Equal(got.Scopes, []fleet.Scope{fleet.FleetRead, fleet.MQTT}) {
			t.Errorf("got %+v", got)
		}
		_, err = db.TokenBySecret(ctx, fleet.NewTokenSecret())
		wantErr(t, err, fleet.ErrNotFound)
		_, err = db.CreateToken(ctx, by(tenantB), fleet.Token{Tenant: tenantB, Name: "copy"}, fleet.TokenHash(secret))
		wantErr(t, err, fleet.ErrTaken)

		wantErr(t, db.DeleteToken(ctx, by(tenantB), made.ID), fleet.ErrNotFound)
		check(t, db.DeleteToken(ctx, by(tenantA), made.ID))
		_, err = db.TokenBySecret(ctx, secret)
		wantErr(t, err, fleet.ErrNotFound)
		wantErr(t, db.DeleteToken(ctx, by(tenantA), made.ID), fleet.ErrNotFound)
	})
}

func TestTokensExpireByTheDatabasesClock(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		now, err := db.Now(ctx)
		check(t, err)
		for name, c := range map[string]struct {
			expires time.Time
			want    error
		}{
			"in a minute":  {now.Add(time.Minute), nil},
			"a second ago": {now.Add(-time.Second), fleet.ErrNotFound},
			"a minute ago": {now.Add(-time.Minute), fleet.ErrNotFound},
		} {
			secret := fleet.NewTokenSecret()
			made, err := db.CreateToken(ctx, by(tenantA), fleet.Token{Tenant: tenantA, Name: name, ExpiresAt: &c.expires}, fleet.TokenHash(secret))
			check(t, err)
			if made.ExpiresAt == nil || !made.ExpiresAt.Equal(c.expires) {
				t.Errorf("%s: made %+v, want it to expire at %s", name, made, c.expires)
			}
			_, err = db.TokenBySecret(ctx, secret)
			wantErr(t, err, c.want)
		}
	})
}

func TestTokensAreListedInPages(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		for _, id := range []string{"3", "1", "2"} {
			_, err := db.CreateToken(ctx, by(tenantA), fleet.Token{ID: id, Tenant: tenantA, Name: "n" + id}, []byte("hash "+id))
			check(t, err)
		}
		_, err := db.CreateToken(ctx, by(tenantB), fleet.Token{ID: "0", Tenant: tenantB}, []byte("hash of other"))
		check(t, err)
		first, err := db.Tokens(ctx, tenantA, "", 2)
		check(t, err)
		rest, err := db.Tokens(ctx, tenantA, "2", 2)
		check(t, err)
		if len(first) != 2 || first[0].ID != "1" || first[1].Name != "n2" || len(rest) != 1 || rest[0].ID != "3" {
			t.Errorf("got %+v, then %+v", first, rest)
		}
	})
}
