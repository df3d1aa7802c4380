package httpapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"meterline/fault"
	"meterline/fleet"
)

const (
	// tokenFresh is how long a token is honoured without asking again: so long after its deletion by another process.
	tokenFresh = 5 * time.Second
	// tokenTrusted is how long a token that was good is honoured while nobody can be asked.
	tokenTrusted = 15 * time.Minute
	// tokenPatience is how long a request waits for the answer about a token that could be trusted instead.
	tokenPatience = time.Second
	// tokenPause is how long nobody is asked about such tokens after there was no answer.
	tokenPause = 2 * time.Second
	maxTokens  = 10_000 // remembered at once
)

// tokenCache remembers for a moment which tokens there are, and which there are not, by their hash: a request costs no
// query. While the record is away, a token that was good in the last minutes is trusted, so that what needs no record,
// such as a poll, is answered. A token that ends by its own date ends at once.
type tokenCache struct {
	look func(ctx context.Context, secret string) (fleet.Token, error)
	now  func() time.Time

	mu    sync.Mutex
	known map[[32]byte]knownToken
	away  time.Time // until when tokens that can be trusted are not asked for
}

type knownToken struct {
	token fleet.Token
	err   error // nil or fleet.ErrNotFound
	at    time.Time
}

func (k knownToken) fresh(now time.Time) bool   { return now.Sub(k.at) < tokenFresh }
func (k knownToken) trusted(now time.Time) bool { return k.err == nil && now.Sub(k.at) < tokenTrusted }

func newTokenCache(look func(context.Context, string) (fleet.Token, error)) *tokenCache {
	return &tokenCache{look: look, now: fault.Now, known: map[[32]byte]knownToken{}}
}

// find is fleet.Service.Authenticate, remembered.
func (c *tokenCache) find(ctx context.Context, secret string) (fleet.Token, error) {
	key := [32]byte(fleet.TokenHash(secret))
	k, ok, ask := c.recall(key)
	if ask {
		var err error
		if k, err = c.ask(ctx, key, secret, k, ok); err != nil {
			return fleet.Token{}, err
		}
	}
	if k.err == nil && k.token.ExpiresAt != nil && !c.now().Before(*k.token.ExpiresAt) {
		return fleet.Token{}, fleet.ErrNotFound
	}
	return k.token, k.err
}

// recall says what is known of a token, whether it can be trusted when nobody answers, and whether to ask.
func (c *tokenCache) recall(key [32]byte) (k knownToken, trusted, ask bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.known[key]
	now := c.now()
	trusted = ok && k.trusted(now)
	return k, trusted, !ok || !k.fresh(now) && (!trusted || !now.Before(c.away))
}

// ask looks a token up. One that can be trusted is what it was when there is no answer.
func (c *tokenCache) ask(ctx context.Context, key [32]byte, secret string, before knownToken, trusted bool) (knownToken, error) {
	limit := ctx
	if trusted {
		var stop context.CancelFunc
		limit, stop = context.WithTimeout(ctx, tokenPatience)
		defer stop()
	}
	asked := c.now() // a token deleted after this moment may still be found
	token, err := c.look(limit, secret)
	if err == nil || errors.Is(err, fleet.ErrNotFound) {
		k := knownToken{token, err, asked}
		c.put(key, k)
		return k, nil
	}
	if !trusted || ctx.Err() != nil {
		return knownToken{}, err
	}
	return before, c.silence(key, err)
}

// silence notes that nobody answers. A token that was deleted here meanwhile is not trusted: err stands.
func (c *tokenCache) silence(key [32]byte, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = c.now().Add(tokenPause)
	if _, ok := c.known[key]; !ok {
		return err
	}
	return nil
}

func (c *tokenCache) put(key [32]byte, k knownToken) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = time.Time{}
	if len(c.known) >= maxTokens {
		c.makeRoom()
	}
	c.known[key] = k
}

// makeRoom forgets what is of no use any more, then what does not exist, which costs whoever makes secrets up no more
// than a query each, and only then what could be trusted. c.mu is held.
func (c *tokenCache) makeRoom() {
	now := c.now()
	for _, useless := range []func(knownToken) bool{
		func(k knownToken) bool { return !k.fresh(now) && !k.trusted(now) },
		func(k knownToken) bool { return k.err != nil },
		func(knownToken) bool { return true },
	} {
		for key, k := range c.known {
			if useless(k) {
				delete(c.known, key)
			}
		}
		if len(c.known) < maxTokens {
			return
		}
	}
}

// forgetSecret drops a session that was ended here.
func (c *tokenCache) forgetSecret(secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, [32]byte(fleet.TokenHash(secret)))
}

// forget drops a token, and the sessions that came from it, that was deleted here.
func (c *tokenCache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, k := range c.known {
		if k.err == nil && k.token.ID == id {
			delete(c.known, key)
		}
	}
}
