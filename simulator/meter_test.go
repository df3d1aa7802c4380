package simulator

import (
	"encoding/json"
	"math"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meterline/command"
	"meterline/meterread"
)

func readOne(t interface{ Fatalf(string, ...any) }, m *Meter, item meterread.Item, at time.Time) float64 {
	readings, err := m.read([]meterread.Item{item}, at)
	if err != nil {
		t.Fatalf("read %s: %v", item, err)
	}
	value, err := strconv.ParseFloat(readings[0].Value, 64)
	if err != nil {
		t.Fatalf("%s: %v", item, err)
	}
	return value
}

func TestRegistersAdvanceBelievably(t *testing.T) {
	counters := []meterread.Item{"1-0:1.8.0", "1-0:1.8.1", "1-0:1.8.2", "1-0:2.8.0", "1-0:3.8.0", "1-0:4.8.0"}
	bands := map[meterread.Item][2]float64{"1-0:32.7.0": {220, 240}, "1-0:52.7.0": {220, 240}, "1-0:72.7.0": {220, 240},
		"1-0:14.7.0": {49.9, 50.1}, "1-0:31.7.0": {0, 20}, "1-0:1.7.0": {0, 5}}
	b := DefaultBehaviour()
	rapid.Check(t, func(t *rapid.T) {
		m := NewMeter(meterread.DeviceID(rapid.StringMatching(`[a-z0-9]{1,12}`).Draw(t, "id")), &b)
		at := noon
		last := map[meterread.Item]float64{}
		var lastAt time.Time
		for range 30 {
			// Also backwards: a clock that is set back turns no counter back.
			at = at.Add(time.Duration(rapid.Int64Range(-int64(time.Minute), int64(24*time.Hour)).Draw(t, "step")))
			readings, err := m.read(counters, at)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range readings {
				v, err := strconv.ParseFloat(r.Value, 64)
				if err != nil || v < last[r.Item] {
					t.Fatalf("%s fell from %v to %s (%v)", r.Item, last[r.Item], r.Value, err)
				}
				last[r.Item] = v
				if !r.ReadAt.After(lastAt) {
					t.Fatalf("read_at %s after %s", r.ReadAt, lastAt)
				}
			}
			for item, band := range bands {
				if v := readOne(t, m, item, at); v < band[0] || v > band[1] {
					t.Fatalf("%s is %v, want %v", item, v, band)
				}
			}
			lastAt = m.lastAt
		}
	})
}

// The counter is the integral of the power that the meter shows.
func TestEnergyIsTheIntegralOfPower(t *testing.T) {
	b := DefaultBehaviour()
	m := NewMeter("m-1", &b)
	var sum float64
	const step = 10 * time.Second
	for at := noon; at.Before(noon.Add(24 * time.Hour)); at = at.Add(step) {
		sum += m.load.watts(at.Add(step/2)) * step.Hours()
	}
	if got := m.load.energy(noon.Add(24*time.Hour)) - m.load.energy(noon); math.Abs(got-sum) > sum/1e4 {
		t.Errorf("a day's energy is %.1f Wh, power says %.1f Wh", got, sum)
	}
}

func TestSameSeedSameMeter(t *testing.T) {
	one, other := DefaultBehaviour(), DefaultBehaviour()
	other.Seed = 2
	a, _ := NewMeter("m-1", &one).read(Items, noon)
	b, _ := NewMeter("m-1", &one).read(Items, noon)
	c, _ := NewMeter("m-1", &other).read(Items, noon)
	d, _ := NewMeter("m-2", &one).read(Items, noon)
	for i := range a {
		if a[i] != b[i] {
			t.Errorf("%+v, then %+v", a[i], b[i])
		}
	}
	if a[0] == c[0] || a[0] == d[0] {
		t.Error("seed or id make no difference")
	}
}

func TestRelayStopsTheCounterAndTimeSyncTheClock(t *testing.T) {
	b := DefaultBehaviour()
	b.ClockOff = time.Hour
	m := NewMeter("m-1", &b)
	do := func(kind command.Kind, params string, at time.Time) {
		t.Helper()
		if _, err := m.carryOut(kind, nil, json.RawMessage(params), at); err != nil {
			t.Fatal(err)
		}
	}
	before := readOne(t, m, "1-0:1.8.0", noon)
	do(command.MeterRelay, `{"state":"open"}`, noon)
	if v := readOne(t, m, "1-0:1.8.0", noon.Add(time.Hour)); v != before {
		t.Errorf("counted from %v to %v with an open relay", before, v)
	}
	if v := readOne(t, m, "1-0:31.7.0", noon.Add(time.Hour)); v != 0 {
		t.Errorf("a current of %v A flows through an open relay", v)
	}
	do(command.MeterRelay, `{"action":"CLOSE"}`, noon.Add(time.Hour))
	after := readOne(t, m, "1-0:1.8.0", noon.Add(2*time.Hour))
	if flown := (m.load.energy(noon.Add(2*time.Hour)) - m.load.energy(noon.Add(time.Hour))) / 1000; math.Abs(after-before-flown) > 0.002 {
		t.Errorf("counted %v kWh after closing, %v flowed", after-before, flown)
	}
	if m.ahead == 0 {
		t.Fatal("the clock is right to begin with")
	}
	do(command.MeterTimeSync, "", noon)
	later := noon.Add(5 * time.Hour)
	if r, _ := m.read(Items, later); !r[0].ReadAt.Equal(later) {
		t.Errorf("read_at %s after synchronising at %s", r[0].ReadAt, later)
	}
}
