package state

import (
	"context"
	"maps"
	"slices"
	"time"

	"meterline/meterread"
)

// latest is the newest readings of one device: filled in, or, without complete, about to be.
type latest struct {
	building string
	complete bool
	readings map[meterread.Item]meterread.Reading
	written  time.Time
}

// Latest is the newest reading of each item of a device, in order of the items; false when that is not known here.
func (m *Memory) Latest(_ context.Context, d meterread.DeviceID) ([]meterread.Reading, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.newest(d)
	if l == nil || !l.complete {
		return nil, false, nil
	}
	rs := slices.AppendSeq([]meterread.Reading{}, maps.Values(l.readings))
	sortByItem(rs)
	return rs, true, nil
}

// PrepareLatest begins to fill in a device's newest readings; see Prepare.
func (m *Memory) PrepareLatest(_ context.Context, d meterread.DeviceID) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.newest(d)
	if l != nil && l.complete {
		return newToken(), nil
	}
	if l == nil || l.building == "" {
		l = &latest{building: newToken(), written: m.now()}
		m.latest[d] = l
	}
	return l.building, nil
}

// FillLatest puts in the newest reading of each item, unless a reading of the device came in since PrepareLatest.
func (m *Memory) FillLatest(_ context.Context, d meterread.DeviceID, token string, rs []meterread.Reading) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.newest(d)
	if l == nil || l.complete || token == "" || l.building != token {
		return nil
	}
	l = &latest{complete: true, readings: map[meterread.Item]meterread.Reading{}, written: m.now()}
	for _, r := range rs {
		l.readings[r.Item] = r
	}
	m.latest[d] = l
	return nil
}

// PutReadings brings the newest readings up to date where they are cached; see Redis.PutReadings.
func (m *Memory) PutReadings(_ context.Context, rs []meterread.Reading) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range rs {
		l := m.newest(r.DeviceID)
		switch {
		case l == nil:
		case !l.complete:
			l.building = ""
		default:
			if old, ok := l.readings[r.Item]; !ok || age(r) >= age(old) {
				l.readings[r.Item] = r
			}
			l.written = m.now()
		}
	}
	return nil
}

// ForgetReadings drops the newest readings of devices: they are read from the record again.
func (m *Memory) ForgetReadings(_ context.Context, devices []meterread.DeviceID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range devices {
		delete(m.latest, d)
	}
	return nil
}

// newest finds a device's readings whose time is not over. The caller holds the mutex.
func (m *Memory) newest(d meterread.DeviceID) *latest {
	l := m.latest[d]
	if l != nil && m.now().Sub(l.written) > lifetime {
		delete(m.latest, d)
		return nil
	}
	return l
}
