package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// Meter is one simulated meter. Its registers are functions of time, so that a meter costs nothing between two reads;
// energy never runs backwards. Not safe for concurrent use: its endpoint owns it.
type Meter struct {
	id     meterread.DeviceID
	load   load
	dice   dice
	open   bool          // the relay is open: no current flows, energy stands still
	gap    float64       // Wh that would have flown while the relay was open
	since  time.Time     // when the relay was opened
	ahead  time.Duration // by how much its clock is fast, until it is synchronised
	lastAt time.Time     // the last read_at given: the next one is later
	lastWh float64       // total energy given with it
}

// NewMeter makes a meter whose registers and faults depend on the seed and its id alone.
func NewMeter(id meterread.DeviceID, b *Behaviour) *Meter {
	d := newDice(b, hashOf(string(id)))
	m := &Meter{id: id, load: newLoad(d.rng), dice: d}
	m.ahead = time.Duration((2*d.rng.Float64() - 1) * float64(b.ClockOff))
	return m
}

// ID is the device the meter is registered as: what is on its name plate.
func (m *Meter) ID() meterread.DeviceID { return m.id }

var (
	errNoSuchItem = errors.New("no such item")
	errRefused    = errors.New("refused by the meter")
)

// carryOut does what a command asks, at now. A read of no items reads all there are; a read with an unknown item is
// errNoSuchItem and reads nothing.
func (m *Meter) carryOut(kind command.Kind, items []meterread.Item, params json.RawMessage, now time.Time) ([]reading, error) {
	switch kind {
	case command.MeterTimeSync:
		m.ahead = 0
		return nil, nil
	case command.MeterRelay:
		return nil, m.relay(params, now)
	case command.DevicePing:
		return nil, nil
	}
	return m.read(items, now)
}

func (m *Meter) read(items []meterread.Item, now time.Time) ([]reading, error) {
	if len(items) == 0 {
		items = Items
	}
	for _, item := range items {
		if _, ok := registers[item]; !ok {
			return nil, fmt.Errorf("%w: %s", errNoSuchItem, item)
		}
	}
	at := now.Add(m.ahead).UTC().Truncate(time.Microsecond)
	if !at.After(m.lastAt) {
		at = m.lastAt.Add(time.Microsecond)
	}
	m.lastAt = at
	s := m.sample(now)
	readings := make([]reading, len(items))
	for i, item := range items {
		r := registers[item]
		readings[i] = reading{Item: item, Value: r.format(r.value(s)), Unit: r.unit, ReadAt: at, Quality: meterread.Valid}
	}
	return readings, nil
}

// relay opens or closes the disconnector: params name the wanted position as {"state":"open"} or {"state":"closed"};
// "action", "position" and "relay" are taken for "state", "off", "disconnect", "on", "connect" and "close" as values.
func (m *Meter) relay(params json.RawMessage, now time.Time) error {
	var p struct{ State, Action, Position, Relay string }
	if err := json.Unmarshal(params, &p); err != nil {
		return fmt.Errorf("%w: params: %w", errRefused, err)
	}
	switch strings.ToLower(p.State + p.Action + p.Position + p.Relay) {
	case "open", "off", "disconnect":
		if !m.open {
			m.open, m.since = true, now
		}
	case "closed", "close", "on", "connect":
		if m.open {
			m.open, m.gap = false, m.gap+m.load.energy(now)-m.load.energy(m.since)
		}
	default:
		return fmt.Errorf("%w: params.state must be open or closed", errRefused)
	}
	return nil
}

// sample is the state of the meter's inputs at one moment; energy and power in W and Wh.
type sample struct {
	wh, watts, export, volts, hertz float64
	closed                          float64
}

func (m *Meter) sample(now time.Time) sample {
	s := sample{volts: m.load.volts(now), hertz: m.load.hertz(now), export: m.load.export}
	if m.open {
		s.wh = m.load.energy(m.since) - m.gap
	} else {
		s.wh, s.watts, s.closed = m.load.energy(now)-m.gap, m.load.watts(now), 1
	}
	s.wh = max(s.wh, m.lastWh) // a clock that was set back does not turn the counter back
	m.lastWh = s.wh
	return s
}

// load is a household: a mean with a daily and an hourly swing that together stay below the mean, so the integral rises.
type load struct {
	began        time.Time
	start        float64 // Wh on the counter at began
	mean         float64 // W
	daily, hours float64 // phases, rad
	grid         float64 // V
	export       float64 // exported per imported energy, of meters with a roof
}

const (
	dailySwing, hourlySwing = 0.6, 0.25
	day, hour               = 86400.0, 3600.0
)

var installed = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func newLoad(rng interface{ Float64() float64 }) load {
	l := load{
		began: installed, start: 1e6 * rng.Float64(), mean: 150 + 850*rng.Float64(),
		daily: 2 * math.Pi * rng.Float64(), hours: 2 * math.Pi * rng.Float64(), grid: 228 + 4*rng.Float64(),
	}
	if roof := rng.Float64(); roof < 0.3 {
		l.export = roof
	}
	return l
}

func (l load) watts(at time.Time) float64 {
	t := at.Sub(l.began).Seconds()
	return l.mean * (1 + dailySwing*math.Sin(2*math.Pi*t/day+l.daily) + hourlySwing*math.Sin(2*math.Pi*t/hour+l.hours))
}

// energy is the integral of watts since began, in Wh, on top of what the counter started with.
func (l load) energy(at time.Time) float64 {
	t := at.Sub(l.began).Seconds()
	swing := func(share, period, phase float64) float64 {
		return share * period / (2 * math.Pi) * (math.Cos(phase) - math.Cos(2*math.Pi*t/period+phase))
	}
	return l.start + l.mean/hour*(t+swing(dailySwing, day, l.daily)+swing(hourlySwing, hour, l.hours))
}

func (l load) volts(at time.Time) float64 {
	t := at.Sub(l.began).Seconds()
	return l.grid + 2*math.Sin(2*math.Pi*t/900+l.daily) + 0.7*math.Sin(2*math.Pi*t/7+l.hours)
}

func (l load) hertz(at time.Time) float64 {
	return 50 + 0.03*math.Sin(2*math.Pi*at.Sub(l.began).Seconds()/60+l.hours)
}
