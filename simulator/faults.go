package simulator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Faults says how likely each fault is, 0 to 1.
type Faults struct {
	Late      float64 `json:"late"`      // of results: held back by Behaviour.LateBy
	Lost      float64 `json:"lost"`      // of results: the device acted, but its answer never leaves; a repeat brings it
	Duplicate float64 `json:"duplicate"` // of results, and of readings nobody asked for: their message is published twice
	Error     float64 `json:"error"`     // of results: a fault of the bus or the meter instead of readings
	Offline   float64 `json:"offline"`   // of commands received: the connection drops, for Behaviour.OfflineFor
	Garbage   float64 `json:"garbage"`   // of results: something that is no result goes out before them
}

// field finds the rate by its name on the command line.
func (f *Faults) field(name string) *float64 {
	switch name {
	case "late":
		return &f.Late
	case "lost":
		return &f.Lost
	case "duplicate":
		return &f.Duplicate
	case "error":
		return &f.Error
	case "offline":
		return &f.Offline
	case "garbage":
		return &f.Garbage
	}
	return nil
}

// FaultNames lists the faults there are.
var FaultNames = []string{"late", "lost", "duplicate", "error", "offline", "garbage"}

// ParseFaults reads orders such as "late=0.01"; each names a fault and its rate, 0 to 1. All complaints are joined.
func ParseFaults(orders []string) (Faults, error) {
	var (
		f    Faults
		errs []error
	)
	for _, order := range orders {
		name, rate, ok := strings.Cut(order, "=")
		field := f.field(strings.TrimSpace(name))
		if !ok || field == nil {
			errs = append(errs, fmt.Errorf("%q: want name=rate with a name of %s", order, strings.Join(FaultNames, ", ")))
			continue
		}
		r, err := strconv.ParseFloat(strings.TrimSpace(rate), 64)
		if err != nil || !isRate(r) {
			errs = append(errs, fmt.Errorf("%q: the rate must be 0 to 1", order))
			continue
		}
		*field = r
	}
	return f, errors.Join(errs...)
}

func isRate(r float64) bool { return r >= 0 && r <= 1 }

func (f Faults) String() string {
	var parts []string
	for _, name := range FaultNames {
		if rate := *f.field(name); rate > 0 {
			parts = append(parts, name+" "+percent(rate))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func percent(rate float64) string { return strconv.FormatFloat(rate*100, 'g', 4, 64) + " %" }

// dice decide what befalls one device. The nth decision depends on the seed, the device and n alone: not on the order in
// which devices are asked, nor on the rates of other faults.
type dice struct {
	rng *rand.Rand
	b   *Behaviour
}

func newDice(b *Behaviour, device uint64) dice {
	return dice{rng: rand.New(rand.NewPCG(b.Seed, device)), b: b}
}

// fate is what befalls one answer.
type fate struct {
	takes                          time.Duration // from the question to the answer
	timeout                        bool          // the bus stays silent instead, for Behaviour.BusTimeout
	code                           string        // of an error; empty: none
	late, lost, duplicate, garbage bool
	which                          int // which garbage
}

var errorCodes = []string{codeBusError, codeCRCError, codeMeterRefused}

func (d dice) answer() fate {
	// Always the same draws in the same order, whatever comes of them.
	span := d.b.AnswerMax - d.b.AnswerMin
	f := fate{takes: d.b.AnswerMin + time.Duration(d.rng.Float64()*float64(span))}
	f.timeout = d.rng.Float64() < d.b.BusTimeoutRate
	failed, code := d.rng.Float64() < d.b.Faults.Error, d.rng.IntN(len(errorCodes))
	if failed {
		f.code = errorCodes[code]
	}
	f.late = d.rng.Float64() < d.b.Faults.Late
	f.lost = d.rng.Float64() < d.b.Faults.Lost
	f.duplicate = d.rng.Float64() < d.b.Faults.Duplicate
	f.garbage = d.rng.Float64() < d.b.Faults.Garbage
	f.which = d.rng.IntN(len(garbage))
	return f
}

// outage says whether the endpoint goes offline now, and if so whether before it acknowledges the command.
func (d dice) outage() (offline, before bool) {
	offline, before = d.rng.Float64() < d.b.Faults.Offline, d.rng.IntN(2) == 0
	return offline, before && offline
}

// garbage is what a broken device sends as a result: each kind of nonsense once.
var garbage = [][]byte{
	[]byte(`{"v":1,"message_id":"broken","results":[{"command_id":`),
	[]byte(`[1,2,3]`),
	[]byte(`{"v":99,"message_id":"from-the-future","results":[]}`),
	slices.Concat([]byte(`{"v":1,"message_id":"`), []byte{0xff, 0xfe, 0xc0}, []byte(`","results":[]}`)),
	[]byte(`{"v":1,"message_id":7,"results":"none"}`),
	{},
}
