package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"meterline/fleet"
)

const codeScope = "SCOPE_MISSING"

// authenticate finds out who asks: by a bearer token or, without one, by the cookie of a session.
func (a *API) authenticate(c *call) (fleet.Token, error) {
	header := c.r.Header.Get("Authorization")
	if header == "" {
		return a.bySession(c)
	}
	scheme, secret, _ := strings.Cut(header, " ")
	secret = strings.TrimSpace(secret)
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return fleet.Token{}, unauthenticated("", "the scheme must be Bearer")
	}
	if !strings.HasPrefix(secret, fleet.TokenPrefix) {
		return fleet.Token{}, unknownToken()
	}
	return a.known(c.r.Context(), secret, unknownToken())
}

// bySession finds out who has signed in. What another site makes a browser do is not what its user asks for.
func (a *API) bySession(c *call) (fleet.Token, error) {
	cookie, err := c.r.Cookie(sessionCookie)
	if err != nil {
		return fleet.Token{}, unauthenticated("", "a bearer token is required: Authorization: Bearer "+fleet.TokenPrefix+"…, or a session: POST /v1/session")
	}
	over := unauthenticated("", "the session is over: sign in again")
	if !strings.HasPrefix(cookie.Value, fleet.SessionPrefix) {
		return fleet.Token{}, over
	}
	if err := a.crossOrigin.Check(c.r); err != nil {
		return fleet.Token{}, crossSite()
	}
	c.session = cookie.Value
	return a.known(c.r.Context(), cookie.Value, over)
}

// known is whom a secret belongs to.
func (a *API) known(ctx context.Context, secret string, unknown *Problem) (fleet.Token, error) {
	token, err := a.tokens.find(ctx, secret)
	if errors.Is(err, fleet.ErrNotFound) {
		return fleet.Token{}, unknown
	}
	return token, err
}

func unknownToken() *Problem {
	return unauthenticated(`, error="invalid_token"`, "the token is unknown, revoked or expired")
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

// actor is who asks, and by which request.
func actor(ctx context.Context, by fleet.Token) fleet.Actor {
	c := callOf(ctx)
	return fleet.Actor{Token: by, RequestID: c.id, RemoteAddr: c.r.RemoteAddr}
}
