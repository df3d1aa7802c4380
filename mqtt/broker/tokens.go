package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"meterline/fault"
	"meterline/fleet"
)

const (
	tokensFresh   = 30 * time.Second // a token that was looked up is not looked up again
	tokensKept    = time.Hour        // ... and is good so long while it cannot be
	tokensMost    = 10_000           // are cached
	tokensAtOnce  = 8                // are looked up; the others wait their turn
	tokensRevoked = 10 * time.Minute // a revoked one is remembered: it may be on its way in
)

// tokens caches API tokens, and knows the sessions of those who signed in with one. Look-ups are made a few at a time,
// first come first served: whoever makes tokens up does not take the record's connections.
type tokens struct {
	source  Tokens // nil: there are none
	metrics *metrics
	now     func() time.Time
	turns   *semaphore.Weighted

	mu       sync.Mutex
	known    *expiring[[32]byte, knownToken] // by hash of the secret
	revoked  *expiring[string, struct{}]
	sessions map[string]map[*session]struct{} // by id of the token
}

type knownToken struct {
	fleet.Token
	at time.Time
}

func newTokens(source Tokens, m *metrics) *tokens {
	return &tokens{
		source: source, metrics: m, now: fault.Now, turns: semaphore.NewWeighted(tokensAtOnce),
		known: newExpiring[[32]byte, knownToken](tokensMost), revoked: newExpiring[string, struct{}](tokensMost),
		sessions: map[string]map[*session]struct{}{},
	}
}

// bySecret finds a token, which may have expired. While the source cannot say, what is cached counts.
func (t *tokens) bySecret(ctx context.Context, secret string) (fleet.Token, error) {
	if t.source == nil {
		return fleet.Token{}, ErrUnknownToken
	}
	key := [32]byte(fleet.TokenHash(secret))
	cached, ok, fresh := t.cached(key)
	if fresh {
		return cached, nil
	}
	token, err := t.look(ctx, secret)
	switch {
	case err == nil:
		t.keep(key, token)
	case errors.Is(err, ErrUnknownToken):
		t.forget(key)
	default:
		t.metrics.lookupFailures.Inc()
		if ok {
			return cached, nil
		}
	}
	return token, err
}

func (t *tokens) look(ctx context.Context, secret string) (fleet.Token, error) {
	if err := t.turns.Acquire(ctx, 1); err != nil {
		return fleet.Token{}, err
	}
	defer t.turns.Release(1)
	t.metrics.lookups.Inc()
	return t.source.TokenBySecret(ctx, secret)
}

func (t *tokens) cached(key [32]byte) (token fleet.Token, ok, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	k, ok := t.known.get(key, now)
	return k.Token, ok, ok && now.Sub(k.at) < tokensFresh
}

func (t *tokens) keep(key [32]byte, token fleet.Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if _, gone := t.revoked.get(token.ID, now); !gone {
		t.known.put(key, knownToken{token, now}, now.Add(tokensKept))
	}
}

func (t *tokens) forget(key [32]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known.drop(key)
}

// enter notes a session; false when its token has been revoked since it was looked up.
func (t *tokens) enter(s *session) bool {
	if s.who.token == "" {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, gone := t.revoked.get(s.who.token, t.now()); gone {
		return false
	}
	of := t.sessions[s.who.token]
	if of == nil {
		of = map[*session]struct{}{}
		t.sessions[s.who.token] = of
	}
	of[s] = struct{}{}
	return true
}

// leave takes a session out that is over.
func (t *tokens) leave(s *session) {
	if s.who.token == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.sessions[s.who.token]
	delete(of, s)
	if len(of) == 0 {
		delete(t.sessions, s.who.token)
	}
}

// revoke lets nobody in any more by the token and lists the sessions that were.
func (t *tokens) revoke(id string) []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.revoked.put(id, struct{}{}, now.Add(tokensRevoked))
	for key, k := range t.known.entries {
		if k.value.ID == id {
			t.known.drop(key)
		}
	}
	return t.of(id)
}

// of lists the sessions of a token; t.mu is held.
func (t *tokens) of(id string) []*session {
	list := make([]*session, 0, len(t.sessions[id]))
	for s := range t.sessions[id] {
		list = append(list, s)
	}
	return list
}

// expired lists the sessions of tokens that are over.
func (t *tokens) expired() (list []*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for id, of := range t.sessions {
		for s := range of { // they have one token in common: the first says it
			if !s.who.expires.IsZero() && !s.who.expires.After(now) {
				list = append(list, t.of(id)...)
			}
			break
		}
	}
	return list
}
