package fleettest

import (
	"bytes"
	"context"
	"time"

	"meterline/fleet"
)

type heldUser struct {
	fleet.User
	hash []byte
}

type heldSession struct {
	fleet.Session
	hash []byte
}

// CreateUser is fleet.UserBook's.
func (m *Memory) CreateUser(_ context.Context, _ fleet.Actor, u fleet.User, hash []byte) (fleet.User, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.User{}, err
	}
	if _, taken := m.users[u.Name]; taken {
		return fleet.User{}, fleet.ErrTaken
	}
	u.CreatedAt = time.Now().UTC()
	m.users[u.Name] = heldUser{u, hash}
	return u, nil
}

// UserByName is fleet.UserBook's.
func (m *Memory) UserByName(_ context.Context, name string) (fleet.User, []byte, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.User{}, nil, err
	}
	u, ok := m.users[name]
	if !ok {
		return fleet.User{}, nil, fleet.ErrNotFound
	}
	return u.User, u.hash, nil
}

// Users is fleet.UserBook's. Nothing that is tested with Memory lists users.
func (m *Memory) Users(context.Context, string, int) ([]fleet.User, error) { return nil, m.Fail }

// DeleteUser is fleet.UserBook's.
func (m *Memory) DeleteUser(_ context.Context, by fleet.Actor, name string) error {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return err
	}
	if u, ok := m.users[name]; !ok || u.Tenant != by.Tenant {
		return fleet.ErrNotFound
	}
	delete(m.users, name)
	return nil
}

// CreateSession is fleet.SessionBook's.
func (m *Memory) CreateSession(_ context.Context, _ fleet.Actor, s fleet.Session, hash []byte) error {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return err
	}
	m.sessions = append(m.sessions, heldSession{s, hash})
	return nil
}

// SessionToken is fleet.SessionBook's.
func (m *Memory) SessionToken(_ context.Context, hash []byte) (fleet.Token, error) {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return fleet.Token{}, err
	}
	for _, s := range m.sessions {
		if !bytes.Equal(s.hash, hash) || !s.ExpiresAt.After(time.Now()) {
			continue
		}
		tok, known := fleet.Token{}, false
		if u, ok := m.users[s.User]; ok {
			tok, known = u.Token(), true
		}
		for _, t := range m.tokens {
			if t.ID == s.TokenID {
				tok, known = t.Token, true
			}
		}
		if known {
			tok.ExpiresAt = &s.ExpiresAt
			return tok, nil
		}
	}
	return fleet.Token{}, fleet.ErrNotFound
}

// DeleteSession is fleet.SessionBook's.
func (m *Memory) DeleteSession(_ context.Context, _ fleet.Actor, hash []byte) error {
	unlock, err := m.lock()
	defer unlock()
	if err != nil {
		return err
	}
	for i, s := range m.sessions {
		if bytes.Equal(s.hash, hash) {
			m.sessions = append(m.sessions[:i], m.sessions[i+1:]...)
			return nil
		}
	}
	return fleet.ErrNotFound
}
