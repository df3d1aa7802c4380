package faults

import (
	"math/rand/v2"
	"time"
)

// Planned is a fault of a schedule.
type Planned struct {
	Fault string        // its name
	Seed  uint64        // what decides where it hits
	After time.Duration // how long after the one before it begins
	Hold  time.Duration // how long it is held
	// Programs is the directory of the programs that an upgrade goes to; "": the same source, built again.
	Programs string
}

// Options choose faults for schedules.
type Options struct {
	Long   bool   // also those that take long, and each held for longer
	Flush  bool   // those that may lose what was acknowledged, and no others
	Uplink string // which log gateways append to: redis or store
	Each   int    // how many faults a seed has; default 4
}

// Schedule is what a seed decides: several faults. Seeds that follow each other go through all faults in turn before one
// comes again.
func Schedule(seed uint64, o Options) []Planned {
	faults := choose(o)
	if o.Each == 0 {
		o.Each = 4
	}
	var plan []Planned
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range o.Each {
		at := seed*uint64(o.Each) + uint64(i)
		round := at / uint64(len(faults))
		f := faults[shuffled(round, len(faults))[at%uint64(len(faults))]]
		hold := f.Short
		if o.Long {
			hold = f.Long
		}
		plan = append(plan, Planned{
			Fault: f.Name, Seed: random.Uint64(), Hold: hold,
			After: time.Duration(500+random.IntN(1500)) * time.Millisecond,
		})
	}
	return plan
}

// shuffled is the order of a round.
func shuffled(round uint64, n int) []int { return rand.New(rand.NewPCG(round, 1)).Perm(n) }

func choose(o Options) []Fault {
	var some []Fault
	for _, f := range Table {
		if f.Flushes == o.Flush && (!f.OnlyLong || o.Long) && (f.Uplink == "" || o.Uplink == "" || f.Uplink == o.Uplink) {
			some = append(some, f)
		}
	}
	return some
}

// Find gives the fault of that name.
func Find(name string) (Fault, bool) {
	for _, f := range Table {
		if f.Name == name {
			return f, true
		}
	}
	return Fault{}, false
}
