package fleet_test

import (
	"context"
	"slices"
	"testing"

	"meterline/fleet"
	"meterline/fleet/fleettest"
)

// losing is a registry whose group is deleted just before a device is written: the first times of so many.
type losing struct {
	*fleettest.Memory
	group string
	times int
}

func (l *losing) gone(d fleet.Device) error {
	if l.times == 0 || !slices.Contains(d.Groups, l.group) {
		return nil
	}
	l.times--
	return &fleet.UnknownGroup{Name: l.group}
}

func (l *losing) CreateDevice(ctx context.Context, by fleet.Actor, d fleet.Device, mac []byte) (fleet.Device, error) {
	if err := l.gone(d); err != nil {
		return fleet.Device{}, err
	}
	return l.Memory.CreateDevice(ctx, by, d, mac)
}

func (l *losing) UpdateDevice(ctx context.Context, by fleet.Actor, d fleet.Device) (fleet.Device, []string, error) {
	if err := l.gone(d); err != nil {
		return fleet.Device{}, nil, err
	}
	return l.Memory.UpdateDevice(ctx, by, d)
}

// A group may be deleted after it was looked up: who asked for it hears of it as if it had never been there, and who did
// not ask for it hears nothing.
func TestGroupsThatAreDeletedInBetween(t *testing.T) {
	memory := fleettest.NewMemory()
	registry := &losing{Memory: memory, group: "north"}
	s := fleet.NewService(fleet.Options{Registry: registry, Tokens: memory, Pepper: pepper})
	for _, name := range []string{"south", "north"} {
		if _, err := s.CreateGroup(t.Context(), by(tenant), name, ""); err != nil {
			t.Fatal(err)
		}
	}
	both := []string{"south", "north"}
	wanted := fleet.NewDevice{ID: "d", Kind: fleet.Direct, Groups: both}
	registry.times = 1
	_, _, err := s.CreateDevice(t.Context(), by(tenant), wanted)
	if got := pointers(t, err); !slices.Equal(got, []string{"/groups/1"}) {
		t.Errorf("create: got %v", got)
	}
	if _, _, err := s.CreateDevice(t.Context(), by(tenant), wanted); err != nil {
		t.Fatal(err)
	}
	registry.times = 1
	_, err = s.PatchDevice(t.Context(), by(tenant), "d", fleet.DevicePatch{Groups: &both})
	if got := pointers(t, err); !slices.Equal(got, []string{"/groups/1"}) {
		t.Errorf("patch of groups: got %v", got)
	}
	registry.times = 1
	name := "named"
	if d, err := s.PatchDevice(t.Context(), by(tenant), "d", fleet.DevicePatch{Name: &name}); err != nil || d.Name != name || registry.times != 0 {
		t.Errorf("patch of the name: got %+v, %v, %d left", d, err, registry.times)
	}
}
