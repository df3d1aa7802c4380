package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"meterline/fleet"
	"meterline/fleet/fleettest"
)

const tenant = fleet.Tenant("acme")

// by is somebody of the tenant who does something.
func by(t fleet.Tenant) fleet.Actor { return fleet.Actor{Token: fleet.Token{Tenant: t}} }

var pepper = fleet.Pepper("0123456789abcdef")

func newFleet(t *testing.T) (*fleet.Service, *fleettest.Memory, *[]string) {
	t.Helper()
	memory := fleettest.NewMemory()
	touched := &[]string{}
	s := fleet.NewService(fleet.Options{Registry: memory, Tokens: memory, Pepper: pepper,
		Touched: func(_ context.Context, commands []string) { *touched = append(*touched, commands...) }})
	return s, memory, touched
}

func pointers(t *testing.T, err error) []string {
	t.Helper()
	wrong, ok := errors.AsType[*fleet.Invalid](err)
	if !ok {
		t.Fatalf("got %v, want *fleet.Invalid", err)
	}
	var ps []string
	for _, f := range wrong.Fields {
		ps = append(ps, f.Pointer)
	}
	return ps
}

func TestDevicesThatEndpointsAreGetASecretOnce(t *testing.T) {
	s, memory, _ := newFleet(t)
	for _, kind := range []fleet.Kind{fleet.Direct, fleet.IPC} {
		id := fleet.DeviceID("d-" + string(kind))
		d, c, err := s.CreateDevice(t.Context(), by(tenant), fleet.NewDevice{ID: id, Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		if d.EndpointID != id || !d.Enabled || string(d.Route) != "[]" || d.Tags == nil || d.Groups == nil {
			t.Errorf("%s: got %+v", kind, d)
		}
		if c == nil || c.ClientID != string(id) || c.Username != string(id) || len(c.Password) != 43 {
			t.Fatalf("%s: credentials %+v", kind, c)
		}
		if !(fleet.Credential{MAC: memory.MAC(id)}).Matches(pepper, c.Password) {
			t.Errorf("%s: what is stored does not match the password", kind)
		}
		_, again, err := s.RotateCredentials(t.Context(), by(tenant), id)
		if err != nil || again.Password == c.Password {
			t.Fatalf("%s: rotated to %+v, %v", kind, again, err)
		}
		if (fleet.Credential{MAC: memory.MAC(id)}).Matches(pepper, c.Password) {
			t.Errorf("%s: the old password still matches", kind)
		}
	}
	m, c, err := s.CreateDevice(t.Context(), by(tenant), fleet.NewDevice{ID: "m", Kind: fleet.Meter, EndpointID: "d-ipc",
		Route: json.RawMessage(`[{"bus":"com1"}]`)})
	if err != nil || c != nil || m.EndpointID != "d-ipc" {
		t.Fatalf("got %+v %+v %v", m, c, err)
	}
	if _, _, err := s.RotateCredentials(t.Context(), by(tenant), "m"); pointers(t, err)[0] != "" {
		t.Errorf("got %v", err)
	}
	if _, _, err := s.RotateCredentials(t.Context(), by("other"), "d-ipc"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, _, err := s.CreateDevice(t.Context(), by("other"), fleet.NewDevice{ID: "m", Kind: fleet.Direct}); !errors.Is(err, fleet.ErrTaken) {
		t.Errorf("got %v", err)
	}
}

func TestCreateDeviceNamesWhatIsWrong(t *testing.T) {
	s, _, _ := newFleet(t)
	if _, _, err := s.CreateDevice(t.Context(), by(tenant), fleet.NewDevice{ID: "ipc", Kind: fleet.IPC}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.CreateDevice(t.Context(), by(tenant), fleet.NewDevice{ID: "direct", Kind: fleet.Direct}); err != nil {
		t.Fatal(err)
	}
	hop := json.RawMessage(`[{"bus":"com1"}]`)
	for name, c := range map[string]struct {
		n    fleet.NewDevice
		want []string
	}{
		"nothing at all":        {fleet.NewDevice{}, []string{"/id", "/kind"}},
		"id with a space":       {fleet.NewDevice{ID: "a b", Kind: fleet.Direct}, []string{"/id"}},
		"unknown kind":          {fleet.NewDevice{ID: "x", Kind: "robot"}, []string{"/kind"}},
		"meter of nobody":       {fleet.NewDevice{ID: "x", Kind: fleet.Meter}, []string{"/endpoint_id", "/route"}},
		"meter without a route": {fleet.NewDevice{ID: "x", Kind: fleet.Meter, EndpointID: "ipc"}, []string{"/route"}},
		"meter of itself":       {fleet.NewDevice{ID: "x", Kind: fleet.Meter, EndpointID: "x", Route: hop}, []string{"/endpoint_id"}},
		"meter of a stranger":   {fleet.NewDevice{ID: "x", Kind: fleet.Meter, EndpointID: "nobody", Route: hop}, []string{"/endpoint_id"}},
		"meter of a direct":     {fleet.NewDevice{ID: "x", Kind: fleet.Meter, EndpointID: "direct", Route: hop}, []string{"/endpoint_id"}},
		"direct with another":   {fleet.NewDevice{ID: "x", Kind: fleet.Direct, EndpointID: "ipc"}, []string{"/endpoint_id"}},
		"route no array":        {fleet.NewDevice{ID: "x", Kind: fleet.Meter, EndpointID: "ipc", Route: json.RawMessage(`{"a":1}`)}, []string{"/route"}},
		"hop no object":         {fleet.NewDevice{ID: "x", Kind: fleet.Meter, EndpointID: "ipc", Route: json.RawMessage(`[{"a":1},7]`)}, []string{"/route/1"}},
		"route too long": {fleet.NewDevice{ID: "x", Kind: fleet.Direct,
			Route: json.RawMessage(`[{"a":"` + strings.Repeat("x", 5000) + `"}]`)}, []string{"/route"}},
		"NUL in the name": {fleet.NewDevice{ID: "x", Kind: fleet.Direct, Name: "a\x00b"}, []string{"/name"}},
		"long name":       {fleet.NewDevice{ID: "x", Kind: fleet.Direct, Name: strings.Repeat("é", 201)}, []string{"/name"}},
		"tag with slash": {fleet.NewDevice{ID: "x", Kind: fleet.Direct,
			Tags: map[string]string{"a/b~c": "x\ny"}}, []string{"/tags/a~1b~0c"}},
		"group name":    {fleet.NewDevice{ID: "x", Kind: fleet.Direct, Groups: []string{"a/b"}}, []string{"/groups/0"}},
		"unknown group": {fleet.NewDevice{ID: "x", Kind: fleet.Direct, Groups: []string{"north"}}, []string{"/groups/0"}},
		"group twice":   {fleet.NewDevice{ID: "x", Kind: fleet.Direct, Groups: []string{"n", "n"}}, []string{"/groups/1"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := s.CreateDevice(t.Context(), by(tenant), c.n)
			if got := pointers(t, err); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v (%v)", got, c.want, err)
			}
		})
	}
}

func TestPatchDevice(t *testing.T) {
	s, _, touched := newFleet(t)
	for _, n := range []fleet.NewDevice{
		{ID: "ipc1", Kind: fleet.IPC}, {ID: "ipc2", Kind: fleet.IPC}, {ID: "m", Kind: fleet.Meter, EndpointID: "ipc1",
			Route: json.RawMessage(`[{"bus":"1"}]`), Tags: map[string]string{"city": "Graz", "floor": "2"}},
	} {
		if _, _, err := s.CreateDevice(t.Context(), by(tenant), n); err != nil {
			t.Fatal(err)
		}
	}
	name, moved, off, vienna := "Meter", fleet.DeviceID("ipc2"), false, "Wien"
	d, err := s.PatchDevice(t.Context(), by(tenant), "m", fleet.DevicePatch{Name: &name, EndpointID: &moved,
		Tags: map[string]*string{"city": &vienna, "floor": nil}})
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != name || d.EndpointID != moved || len(d.Tags) != 1 || d.Tags["city"] != vienna || string(d.Route) != `[{"bus":"1"}]` {
		t.Errorf("got %+v", d)
	}
	if d, err = s.PatchDevice(t.Context(), by(tenant), "m", fleet.DevicePatch{NoTags: true, Enabled: &off}); err != nil || len(d.Tags) != 0 || d.Enabled {
		t.Errorf("got %+v, %v", d, err)
	}
	if !slices.Equal(*touched, []string{"cancelled-by-m"}) {
		t.Errorf("touched %v", *touched)
	}
	stranger := fleet.DeviceID("nobody")
	if _, err = s.PatchDevice(t.Context(), by(tenant), "m", fleet.DevicePatch{EndpointID: &stranger}); pointers(t, err)[0] != "/endpoint_id" {
		t.Errorf("got %v", err)
	}
	if _, err = s.PatchDevice(t.Context(), by(tenant), "m", fleet.DevicePatch{Route: json.RawMessage(`[]`)}); pointers(t, err)[0] != "/route" {
		t.Errorf("got %v", err)
	}
	if _, err = s.PatchDevice(t.Context(), by("other"), "m", fleet.DevicePatch{Name: &name}); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := s.DeleteDevice(t.Context(), by(tenant), "ipc2"); !errors.Is(err, fleet.ErrInUse) {
		t.Errorf("got %v", err)
	}
	if err := s.DeleteDevice(t.Context(), by(tenant), "m"); err != nil || len(*touched) != 2 {
		t.Errorf("got %v, touched %v", err, *touched)
	}
}

func TestGroups(t *testing.T) {
	s, _, _ := newFleet(t)
	if _, _, err := s.CreateDevice(t.Context(), by(tenant), fleet.NewDevice{ID: "a", Kind: fleet.Direct}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateGroup(t.Context(), by(tenant), "north/south", ""); pointers(t, err)[0] != "/name" {
		t.Errorf("got %v", err)
	}
	if _, err := s.CreateGroup(t.Context(), by(tenant), "north", "up there"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateGroup(t.Context(), by(tenant), "north", ""); !errors.Is(err, fleet.ErrTaken) {
		t.Errorf("got %v", err)
	}
	if g, err := s.AddMembers(t.Context(), by(tenant), "north", []fleet.DeviceID{"a"}); err != nil || g.Devices != 1 {
		t.Errorf("got %+v, %v", g, err)
	}
	_, err := s.AddMembers(t.Context(), by(tenant), "north", []fleet.DeviceID{"a", "b"})
	if got := pointers(t, err); !slices.Equal(got, []string{"/device_ids/1"}) {
		t.Errorf("got %v", got)
	}
	if _, err := s.AddMembers(t.Context(), by(tenant), "north", nil); pointers(t, err)[0] != "/device_ids" {
		t.Errorf("got %v", err)
	}
	if g, err := s.RemoveMembers(t.Context(), by(tenant), "north", []fleet.DeviceID{"a"}); err != nil || g.Devices != 0 {
		t.Errorf("got %+v, %v", g, err)
	}
	if _, err := s.Group(t.Context(), tenant, "no\x00rth"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if g, err := s.DescribeGroup(t.Context(), by(tenant), "north", "down"); err != nil || g.Description != "down" {
		t.Errorf("got %+v, %v", g, err)
	}
	if err := s.DeleteGroup(t.Context(), by("other"), "north"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestTokensGiveNoMoreThanTheyHave(t *testing.T) {
	s, _, _ := newFleet(t)
	past, soon := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	root, secret, err := s.GrantToken(t.Context(), by(tenant), fleet.NewToken{Name: "root", Scopes: []fleet.Scope{fleet.TokensAdmin, fleet.FleetRead}})
	if err != nil || !strings.HasPrefix(secret, fleet.TokenPrefix) {
		t.Fatal(secret, err)
	}
	if _, _, err := s.CreateToken(t.Context(), fleet.Actor{Token: root}, fleet.NewToken{Name: "x", Scopes: []fleet.Scope{fleet.FleetWrite}}); !errors.Is(err, fleet.ErrScope) {
		t.Errorf("got %v", err)
	}
	if _, _, err := s.CreateToken(t.Context(), fleet.Actor{Token: root}, fleet.NewToken{Name: "x", Scopes: []fleet.Scope{fleet.Admin}}); !errors.Is(err, fleet.ErrScope) {
		t.Errorf("got %v", err)
	}
	_, _, err = s.CreateToken(t.Context(), fleet.Actor{Token: root}, fleet.NewToken{Name: " ", Scopes: []fleet.Scope{"fly", fleet.FleetRead, fleet.FleetRead}, ExpiresAt: &past})
	if got, want := pointers(t, err), []string{"/name", "/scopes/0", "/scopes/2", "/expires_at"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	made, secret, err := s.CreateToken(t.Context(), fleet.Actor{Token: root}, fleet.NewToken{Name: "reader", Scopes: []fleet.Scope{fleet.FleetRead}, ExpiresAt: &soon})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Authenticate(t.Context(), secret); err != nil || got.ID != made.ID || got.Tenant != tenant {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := s.DeleteToken(t.Context(), by("other"), made.ID); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := s.DeleteToken(t.Context(), by(tenant), made.ID); err != nil {
		t.Fatal(err)
	}
	for _, s2 := range []string{secret, "", "Bearer", fleet.TokenPrefix} {
		if _, err := s.Authenticate(t.Context(), s2); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("%q: got %v", s2, err)
		}
	}
}
