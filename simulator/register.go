package simulator

import (
	"maps"
	"math"
	"slices"
	"strconv"

	"meterline/meterread"
)

// register is one value a meter can be asked for.
type register struct {
	unit     string
	decimals int
	counter  bool // cut, not rounded: a counter shows no energy that has not flown
	value    func(sample) float64
}

func (r register) format(v float64) string {
	if r.counter {
		scale := math.Pow10(r.decimals)
		v = math.Floor(v*scale) / scale
	}
	return strconv.FormatFloat(v, 'f', r.decimals, 64)
}

const (
	powerFactor = 0.95
	nightShare  = 0.35 // of the energy, on tariff 2
	reactive    = 0.33 // kvarh per kWh
)

// registers are those of a three-phase household meter (OBIS, IEC 62056-61).
var registers = map[meterread.Item]register{
	"1-0:1.8.0":   {"kWh", 3, true, func(s sample) float64 { return s.wh / 1000 }},
	"1-0:1.8.1":   {"kWh", 3, true, func(s sample) float64 { return s.wh / 1000 * (1 - nightShare) }},
	"1-0:1.8.2":   {"kWh", 3, true, func(s sample) float64 { return s.wh / 1000 * nightShare }},
	"1-0:2.8.0":   {"kWh", 3, true, func(s sample) float64 { return s.wh / 1000 * s.export }},
	"1-0:3.8.0":   {"kvarh", 3, true, func(s sample) float64 { return s.wh / 1000 * reactive }},
	"1-0:4.8.0":   {"kvarh", 3, true, func(s sample) float64 { return s.wh / 1000 * reactive / 10 }},
	"1-0:1.7.0":   {"kW", 3, false, func(s sample) float64 { return s.watts / 1000 }},
	"1-0:2.7.0":   {"kW", 3, false, func(s sample) float64 { return s.watts / 1000 * s.export }},
	"1-0:13.7.0":  {"", 3, false, func(sample) float64 { return powerFactor }},
	"1-0:14.7.0":  {"Hz", 2, false, func(s sample) float64 { return s.hertz }},
	"1-0:31.7.0":  {"A", 2, false, func(s sample) float64 { return s.watts / 3 / s.volts }},
	"1-0:51.7.0":  {"A", 2, false, func(s sample) float64 { return s.watts / 3 / (s.volts - 0.6) }},
	"1-0:71.7.0":  {"A", 2, false, func(s sample) float64 { return s.watts / 3 / (s.volts + 0.4) }},
	"1-0:32.7.0":  {"V", 1, false, func(s sample) float64 { return s.volts }},
	"1-0:52.7.0":  {"V", 1, false, func(s sample) float64 { return s.volts - 0.6 }},
	"1-0:72.7.0":  {"V", 1, false, func(s sample) float64 { return s.volts + 0.4 }},
	"0-0:96.3.10": {"", 0, false, func(s sample) float64 { return s.closed }}, // disconnector: 1 closed
}

// Items lists what a simulated meter can be asked for, sorted.
var Items = slices.Sorted(maps.Keys(registers))
