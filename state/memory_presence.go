package state

import (
	"context"

	"meterline/command"
	"meterline/meterread"
)

// beating is a gateway and its heartbeat counter.
type beating struct {
	gateway command.Gateway
	beat    int64
}

// Open makes s the newest session of its endpoint and tells those who watch. Its epoch is the clock in microseconds or
// one more than the epoch before, whichever is larger. The epoch in s is not looked at.
func (m *Memory) Open(_ context.Context, s command.Session) (int64, error) {
	m.mu.Lock()
	s.Epoch = max(m.now().UnixMicro(), m.sessions[s.Endpoint].Epoch+1)
	m.sessions[s.Endpoint] = s
	m.mu.Unlock()
	m.opened.send(s)
	return s.Epoch, nil
}

// Close removes s if it is still the newest session of its endpoint.
func (m *Memory) Close(_ context.Context, s command.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[s.Endpoint].Epoch == s.Epoch {
		delete(m.sessions, s.Endpoint)
	}
	return nil
}

// Restore writes presence again where it is missing or older. Nobody is told.
func (m *Memory) Restore(_ context.Context, sessions []command.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range sessions {
		if s.Epoch > m.sessions[s.Endpoint].Epoch {
			m.sessions[s.Endpoint] = s
		}
	}
	return nil
}

// Lost says whether this incarnation of the gateway is not announced.
func (m *Memory) Lost(_ context.Context, gateway, incarnation string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gateways[gateway].gateway.Incarnation != incarnation, nil
}

// Announce is the heartbeat of a gateway: its presence counts only while beat rises.
func (m *Memory) Announce(_ context.Context, g command.Gateway, beat int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gateways[g.ID] = beating{g, beat}
	return nil
}

// Withdraw removes a gateway that ends in good order, unless another incarnation has taken its place.
func (m *Memory) Withdraw(_ context.Context, g command.Gateway) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gateways[g.ID].gateway.Incarnation == g.Incarnation {
		delete(m.gateways, g.ID)
	}
	return nil
}

// Watch calls f for sessions opened from now on until ctx is done.
func (m *Memory) Watch(ctx context.Context, f func(command.Session)) error {
	m.opened.listen(ctx, f)
	return nil
}

// Sessions looks up the newest session of each endpoint that has one.
func (m *Memory) Sessions(_ context.Context, endpoints []meterread.DeviceID) (map[meterread.DeviceID]command.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make(map[meterread.DeviceID]command.Session, len(endpoints))
	for _, d := range endpoints {
		if s, ok := m.sessions[d]; ok {
			found[d] = s
		}
	}
	return found, nil
}

// Gateways lists the gateways with their heartbeat counters, those that have died included.
func (m *Memory) Gateways(context.Context) (map[command.Gateway]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	beats := make(map[command.Gateway]int64, len(m.gateways))
	for _, b := range m.gateways {
		beats[b.gateway] = b.beat
	}
	return beats, nil
}
