package simulator

import (
	"context"
	"slices"
)

// installChunk is how many devices go into one import: the server answers before its client loses patience.
const installChunk = 5000

// Install registers all devices of sites, with their secrets, in a group. What exists already is updated.
func (a *API) Install(ctx context.Context, sites []Site, group string) error {
	if err := a.CreateGroup(ctx, group, "simulated devices"); err != nil {
		return err
	}
	devices := Registrations(sites, []string{group}, map[string]string{"simulated": "yes"})
	// IPCs before all meters, so that no chunk names an endpoint of a later one.
	slices.SortStableFunc(devices, func(a, b Registration) int { return rank(a) - rank(b) })
	for chunk := range slices.Chunk(devices, installChunk) {
		if err := a.Import(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func rank(r Registration) int {
	if r.Kind == "meter" {
		return 1
	}
	return 0
}
