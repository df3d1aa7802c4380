// Package fleettest keeps a fleet in memory, for tests of what stands on fleet.Registry and fleet.TokenBook.
package fleettest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"meterline/fleet"
)

// Memory is a fleet.Registry and a fleet.TokenBook. Fail, when set, is what every call answers.
type Memory struct {
	mu       sync.Mutex
	Fail     error
	devices  map[fleet.DeviceID]fleet.Device
	macs     map[fleet.DeviceID][]byte
	groups   map[string]fleet.Group // tenant + "/" + name
	tokens   []heldToken
	users    map[string]heldUser
	sessions []heldSession
	Asked    int // how often TokenByHash was called
}

type heldToken struct {
	fleet.Token
	hash []byte
}

// NewMemory is an empty fleet.
func NewMemory() *Memory {
	return &Memory{devices: map[fleet.DeviceID]fleet.Device{}, macs: map[fleet.DeviceID][]byte{}, groups: map[string]fleet.Group{}, users: map[string]heldUser{}}
}

// MAC is what is stored of a device's secret.
func (m *Memory) MAC(id fleet.DeviceID) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.macs[id]
}

// SetFail sets Fail while others may be calling.
func (m *Memory) SetFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Fail = err
}

// TimesAsked is how often a token was looked up.
func (m *Memory) TimesAsked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Asked
}

func (m *Memory) lock() (func(), error) {
	m.mu.Lock()
	return m.mu.Unlock, m.Fail
}

func (m *Memory) ipc(d fleet.Device) bool {
	ipc, ok := m.devices[d.EndpointID]
	return ok && ipc.Tenant == d.Tenant && ipc.Kind == fleet.IPC
}

// CreateDevice is fleet.Registry's.
func (m *Memory) CreateDevice(_ context.Context, _ fleet.Actor, d fleet.Device, mac []byte) (fleet.Device, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.Device{}, err
	}
	if _, taken := m.devices[d.ID]; taken {
		return fleet.Device{}, fleet.ErrTaken
	}
	if d.Kind == fleet.Meter && !m.ipc(d) {
		return fleet.Device{}, fleet.ErrNotFound
	}
	d.CreatedAt = time.Now().UTC()
	d.UpdatedAt = d.CreatedAt
	m.devices[d.ID], m.macs[d.ID] = d, mac
	return d, nil
}

// UpdateDevice is fleet.Registry's. A device that is disabled by it has touched the command "cancelled-by-<id>".
func (m *Memory) UpdateDevice(_ context.Context, _ fleet.Actor, d fleet.Device) (fleet.Device, []string, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.Device{}, nil, err
	}
	before, ok := m.devices[d.ID]
	if !ok || before.Tenant != d.Tenant {
		return fleet.Device{}, nil, fleet.ErrNotFound
	}
	d.UpdatedAt = time.Now().UTC()
	m.devices[d.ID] = d
	if before.Enabled && !d.Enabled {
		return d, []string{"cancelled-by-" + string(d.ID)}, nil
	}
	return d, nil, nil
}

// DeleteDevice is fleet.Registry's.
func (m *Memory) DeleteDevice(_ context.Context, by fleet.Actor, id fleet.DeviceID) ([]string, error) {
	t := by.Tenant
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	if d, ok := m.devices[id]; !ok || d.Tenant != t {
		return nil, fleet.ErrNotFound
	}
	for _, d := range m.devices {
		if d.EndpointID == id && d.ID != id {
			return nil, fleet.ErrInUse
		}
	}
	delete(m.devices, id)
	delete(m.macs, id)
	return []string{"cancelled-by-" + string(id)}, nil
}

// SetSecret is fleet.Registry's.
func (m *Memory) SetSecret(_ context.Context, by fleet.Actor, id fleet.DeviceID, mac []byte) error {
	t := by.Tenant
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return err
	}
	if d, ok := m.devices[id]; !ok || d.Tenant != t {
		return fleet.ErrNotFound
	}
	m.macs[id] = mac
	return nil
}

// Device is fleet.Registry's.
func (m *Memory) Device(_ context.Context, t fleet.Tenant, id fleet.DeviceID) (fleet.Device, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.Device{}, err
	}
	d, ok := m.devices[id]
	if !ok || d.Tenant != t {
		return fleet.Device{}, fleet.ErrNotFound
	}
	return d, nil
}

// Devices is fleet.Registry's, without OnlyEndpoints and NotReadSince.
func (m *Memory) Devices(_ context.Context, t fleet.Tenant, f fleet.DeviceFilter, after fleet.DeviceID, limit int) ([]fleet.Device, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	found := []fleet.Device{}
	for _, id := range slices.Sorted(maps.Keys(m.devices)) {
		d := m.devices[id]
		if d.Tenant == t && id > after && matches(f, d) && len(found) < limit {
			found = append(found, d)
		}
	}
	return found, nil
}

func matches(f fleet.DeviceFilter, d fleet.Device) bool {
	for k, v := range f.Tags {
		if d.Tags[k] != v {
			return false
		}
	}
	text := strings.ToLower(string(d.ID) + "\n" + d.Name)
	return strings.Contains(text, strings.ToLower(f.Q)) && (f.Group == "" || slices.Contains(d.Groups, f.Group)) &&
		(f.Kind == "" || f.Kind == d.Kind) && (f.EndpointID == "" || f.EndpointID == d.EndpointID)
}

// Import is fleet.Registry's.
func (m *Memory) Import(_ context.Context, by fleet.Actor, next func() ([]fleet.ImportRow, error)) (done fleet.Imported, err error) {
	t := by.Tenant
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.Imported{}, err
	}
	devices, macs, groups := maps.Clone(m.devices), maps.Clone(m.macs), maps.Clone(m.groups)
	for {
		batch, err := next()
		if err != nil {
			return fleet.Imported{}, err
		}
		if batch == nil {
			break
		}
		for _, r := range batch {
			before, exists := devices[r.Device.ID]
			if exists && before.Tenant != t {
				return fleet.Imported{}, &fleet.RowError{Line: r.Line, Field: "id", Detail: "is taken"}
			}
			if exists {
				done.Updated++
			} else {
				done.Created++
			}
			devices[r.Device.ID] = r.Device
			if r.MAC != nil {
				macs[r.Device.ID] = r.MAC
			}
			for _, g := range r.Device.Groups {
				groups[string(t)+"/"+g] = fleet.Group{Name: g}
			}
		}
	}
	m.devices, m.macs, m.groups = devices, macs, groups
	return done, nil
}

// CreateGroup is fleet.Registry's.
func (m *Memory) CreateGroup(_ context.Context, by fleet.Actor, g fleet.Group) (fleet.Group, error) {
	t := by.Tenant
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.Group{}, err
	}
	key := string(t) + "/" + g.Name
	if _, taken := m.groups[key]; taken {
		return fleet.Group{}, fleet.ErrTaken
	}
	g.CreatedAt = time.Now().UTC()
	m.groups[key] = g
	return g, nil
}

// UpdateGroup is fleet.Registry's.
func (m *Memory) UpdateGroup(ctx context.Context, by fleet.Actor, name, description string) (fleet.Group, error) {
	t := by.Tenant
	g, err := m.Group(ctx, t, name)
	if err != nil {
		return g, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g.Description, g.Devices = description, 0 // members are counted when asked for
	m.groups[string(t)+"/"+name] = g
	return g, nil
}

// DeleteGroup is fleet.Registry's.
func (m *Memory) DeleteGroup(ctx context.Context, by fleet.Actor, name string) error {
	t := by.Tenant
	if _, err := m.Group(ctx, t, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.groups, string(t)+"/"+name)
	return nil
}

// Group is fleet.Registry's.
func (m *Memory) Group(_ context.Context, t fleet.Tenant, name string) (fleet.Group, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.Group{}, err
	}
	g, ok := m.groups[string(t)+"/"+name]
	if !ok {
		return fleet.Group{}, fleet.ErrNotFound
	}
	for _, d := range m.devices {
		if d.Tenant == t && slices.Contains(d.Groups, name) {
			g.Devices++
		}
	}
	return g, nil
}

// Groups is fleet.Registry's.
func (m *Memory) Groups(_ context.Context, t fleet.Tenant, after string, limit int) ([]fleet.Group, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	found := []fleet.Group{}
	for _, key := range slices.Sorted(maps.Keys(m.groups)) {
		tenant, name, _ := strings.Cut(key, "/")
		if tenant == string(t) && name > after && len(found) < limit {
			found = append(found, m.groups[key])
		}
	}
	return found, nil
}

// AddMembers is fleet.Registry's.
func (m *Memory) AddMembers(ctx context.Context, by fleet.Actor, group string, ids []fleet.DeviceID) error {
	t := by.Tenant
	return m.members(ctx, t, group, ids, func(in []string) []string { return append(in, group) })
}

// RemoveMembers is fleet.Registry's.
func (m *Memory) RemoveMembers(ctx context.Context, by fleet.Actor, group string, ids []fleet.DeviceID) error {
	t := by.Tenant
	return m.members(ctx, t, group, ids, func(in []string) []string { return in })
}

func (m *Memory) members(ctx context.Context, t fleet.Tenant, group string, ids []fleet.DeviceID, then func([]string) []string) error {
	if _, err := m.Group(ctx, t, group); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	unknown := &fleet.UnknownDevices{}
	for i, id := range ids {
		if d, ok := m.devices[id]; !ok || d.Tenant != t {
			unknown.Indexes = append(unknown.Indexes, i)
		}
	}
	if len(unknown.Indexes) > 0 {
		return unknown
	}
	for _, id := range ids {
		d := m.devices[id]
		rest := slices.DeleteFunc(slices.Clone(d.Groups), func(g string) bool { return g == group })
		d.Groups = then(rest)
		m.devices[id] = d
	}
	return nil
}

// CreateToken is fleet.TokenBook's.
func (m *Memory) CreateToken(_ context.Context, _ fleet.Actor, t fleet.Token, hash []byte) (fleet.Token, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.Token{}, err
	}
	m.tokens = append(m.tokens, heldToken{t, hash})
	return t, nil
}

// TokenByHash is fleet.TokenBook's.
func (m *Memory) TokenByHash(_ context.Context, hash []byte) (fleet.Token, error) {
	unlock, err := m.lock()
	defer unlock()
	m.Asked++
	if err != nil {
		return fleet.Token{}, err
	}
	for _, t := range m.tokens {
		if bytes.Equal(t.hash, hash) && (t.ExpiresAt == nil || t.ExpiresAt.After(time.Now())) {
			return t.Token, nil
		}
	}
	return fleet.Token{}, fleet.ErrNotFound
}

// Tokens is fleet.TokenBook's.
func (m *Memory) Tokens(_ context.Context, t fleet.Tenant, after string, limit int) ([]fleet.Token, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	found := []fleet.Token{}
	for _, h := range m.tokens {
		if h.Tenant == t && h.ID > after && len(found) < limit {
			found = append(found, h.Token)
		}
	}
	return found, nil
}

// DeleteToken is fleet.TokenBook's.
func (m *Memory) DeleteToken(_ context.Context, by fleet.Actor, id string) error {
	t := by.Tenant
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return err
	}
	before := len(m.tokens)
	m.tokens = slices.DeleteFunc(m.tokens, func(h heldToken) bool { return h.Tenant == t && h.ID == id })
	if len(m.tokens) == before {
		return fleet.ErrNotFound
	}
	return nil
}

var (
	_ fleet.Registry    = (*Memory)(nil)
	_ fleet.TokenBook   = (*Memory)(nil)
	_ fleet.UserBook    = (*Memory)(nil)
	_ fleet.SessionBook = (*Memory)(nil)
)
