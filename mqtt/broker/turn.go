package broker

import (
	"cmp"
	"slices"

	"meterline/fleet"
)

// fair orders what waits so that each endpoint has its turn: first what every endpoint sent first, then what each sent
// second, and so on; a large entry counts as several. What one endpoint sent stays in order, and a barrier stays behind
// all that was before it. So an endpoint that floods fills what others leave of a batch, and nobody waits for all of it;
// nobody starves either, for whoever is left over is first among equals the next time.
func fair(entries []entry) {
	type ranked struct {
		entry
		rank int
	}
	sent := map[fleet.DeviceID]int{}
	order := make([]ranked, len(entries))
	last := 0
	for i := range entries {
		e := &entries[i]
		rank := last
		if e.barrier == nil {
			rank = sent[e.uplink.Endpoint]
			sent[e.uplink.Endpoint] = rank + 1 + len(e.uplink.Payload)/unitBytes
		}
		order[i] = ranked{*e, rank}
		last = max(last, rank)
	}
	slices.SortStableFunc(order, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	for i := range order {
		entries[i] = order[i].entry
	}
}
