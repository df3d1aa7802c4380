package fleet_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"meterline/fleet"
	"meterline/fleet/fleettest"
)

func TestUsersAreChecked(t *testing.T) {
	memory := fleettest.NewMemory()
	s := fleet.NewService(fleet.Options{Users: memory, Sessions: memory, PasswordCost: 4})
	for _, c := range []struct {
		name     string
		role     fleet.Role
		password string
		want     []string
	}{
		{"", "god", "short", []string{"/name", "/role", "/password"}},
		{"a b", fleet.Viewer, strings.Repeat("x", 73), []string{"/name", "/password"}},
		{strings.Repeat("n", 65), fleet.Viewer, "long enough", []string{"/name"}},
	} {
		_, err := s.CreateUser(t.Context(), by(tenant), c.name, c.role, c.password)
		if got := pointers(t, err); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.name, got, c.want)
		}
	}
	u, err := s.CreateUser(t.Context(), by(tenant), "anna@example.org", fleet.Operator, "correct horse")
	if err != nil || u.Tenant != tenant || u.Role != fleet.Operator {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := s.CreateUser(t.Context(), by("other"), "anna@example.org", fleet.Viewer, "correct horse"); !errors.Is(err, fleet.ErrTaken) {
		t.Errorf("got %v", err)
	}
	if _, hash, _ := memory.UserByName(t.Context(), u.Name); strings.Contains(string(hash), "horse") || len(hash) < 50 {
		t.Errorf("the password is kept as %q", hash)
	}
	if _, _, err := s.SignIn(t.Context(), fleet.Actor{}, u.Name, "correct horsf"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, _, err := s.SignIn(t.Context(), fleet.Actor{}, "nobody", "nobody"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	who, secret, err := s.SignIn(t.Context(), fleet.Actor{}, u.Name, "correct horse")
	if err != nil || who.ID != "user:anna@example.org" || fleet.KindOfActor(who.ID) != fleet.ByUser || !strings.HasPrefix(secret, fleet.SessionPrefix) {
		t.Fatalf("%+v, %v", who, err)
	}
	if known, err := s.Known(t.Context(), secret); err != nil || known.ID != who.ID || !known.Can(fleet.CommandsControl) || known.Can(fleet.FleetWrite) {
		t.Errorf("%+v, %v", known, err)
	}
	if err := s.DeleteUser(t.Context(), by(tenant), u.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Known(t.Context(), secret); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// Each role can do what the one before can.
func TestRolesContainEachOther(t *testing.T) {
	for i, r := range fleet.Roles {
		all := fleet.Token{Scopes: r.Scopes()}
		if all.Role() != r {
			t.Errorf("%s is %s", r, all.Role())
		}
		for _, less := range fleet.Roles[:i] {
			for _, scope := range less.Scopes() {
				if !all.Can(scope) {
					t.Errorf("%s cannot %s, %s can", r, scope, less)
				}
			}
		}
	}
	if fleet.Role("god").Scopes() != nil {
		t.Error("a role that there is not has scopes")
	}
}
