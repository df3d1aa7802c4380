package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"meterline/fault"
	"meterline/fleet"
)

const (
	codeScope = "SCOPE_MISSING"

	// tokenFresh is how long a token is honoured without asking again: so long after its deletion by another process.
	tokenFresh = 5 * time.Second
	maxTokens  = 10_000 // remembered at once
)

// authenticate finds out who asks.
func (a *API) authenticate(ctx context.Context, header string) (fleet.Token, error) {
	if header == "" {
		return fleet.Token{}, unauthenticated("", "a bearer token is required: Authorization: Bearer "+fleet.TokenPrefix+"…")
	}
	scheme, secret, _ := strings.Cut(header, " ")
	secret = strings.TrimSpace(secret)
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return fleet.Token{}, unauthenticated("", "the scheme must be Bearer")
	}
	token, err := a.tokens.find(ctx, secret)
	if errors.Is(err, fleet.ErrNotFound) {
		return fleet.Token{}, unauthenticated(`, error="invalid_token"`, "the token is unknown, revoked or expired")
	}
	return token, err
}

// unauthenticated is the 401 of RFC 6750 3.
func unauthenticated(why, detail string) *Problem {
	p := newProblem(http.StatusUnauthorized, "UNAUTHENTICATED", detail)
	p.challenge = `Bearer realm="meterline"` + why
	return p
}

// allowed complains when the token has none of the scopes; no scopes are needed when none are named.
func allowed(by fleet.Token, any []fleet.Scope) error {
	for _, s := range any {
		if by.Can(s) {
			return nil
		}
	}
	if len(any) == 0 {
		return nil
	}
	p := newProblem(http.StatusForbidden, codeScope, "the token needs the scope "+scopeNames(any))
	return p
}

func scopeNames(any []fleet.Scope) string {
	names := make([]string, len(any))
	for i, s := range any {
		names[i] = string(s)
	}
	return strings.Join(names, " or ")
}

// tokenCache remembers for a moment which tokens there are, and which there are not, by their hash: a request costs no
// query. A token that ends by its own date ends at once.
type tokenCache struct {
	look func(ctx context.Context, secret string) (fleet.Token, error)
	now  func() time.Time

	mu    sync.Mutex
	known map[[32]byte]knownToken
}

type knownToken struct {
	token fleet.Token
	err   error // nil or fleet.ErrNotFound
	until time.Time
}

func newTokenCache(look func(context.Context, string) (fleet.Token, error)) *tokenCache {
	return &tokenCache{look: look, now: fault.Now, known: map[[32]byte]knownToken{}}
}

// find is fleet.Service.Authenticate, remembered.
func (c *tokenCache) find(ctx context.Context, secret string) (fleet.Token, error) {
	key := [32]byte(fleet.TokenHash(secret))
	now := c.now()
	c.mu.Lock()
	k, ok := c.known[key]
	c.mu.Unlock()
	if !ok || !now.Before(k.until) {
		token, err := c.look(ctx, secret)
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return fleet.Token{}, err
		}
		k = knownToken{token, err, now.Add(tokenFresh)}
		c.put(key, k, now)
	}
	if k.err == nil && k.token.ExpiresAt != nil && !now.Before(*k.token.ExpiresAt) {
		return fleet.Token{}, fleet.ErrNotFound
	}
	return k.token, k.err
}

func (c *tokenCache) put(key [32]byte, k knownToken, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxTokens {
		for other, o := range c.known {
			if !now.Before(o.until) {
				delete(c.known, other)
			}
		}
	}
	if len(c.known) >= maxTokens {
		clear(c.known)
	}
	c.known[key] = k
}

// forget drops a token that was deleted here.
func (c *tokenCache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, k := range c.known {
		if k.err == nil && k.token.ID == id {
			delete(c.known, key)
		}
	}
}
