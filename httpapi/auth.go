package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"meterline/fleet"
)

const codeScope = "SCOPE_MISSING"

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

// actor is who asks, and by which request.
func actor(ctx context.Context, by fleet.Token) fleet.Actor {
	c := callOf(ctx)
	return fleet.Actor{Token: by, RequestID: c.id, RemoteAddr: c.r.RemoteAddr}
}
