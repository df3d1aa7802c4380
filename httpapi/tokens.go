package httpapi

import (
	"context"
	"net/http"

	"meterline/fleet"
)

func (a *API) addTokens() {
	admin := []fleet.Scope{fleet.TokensAdmin}
	add(a, route{method: http.MethodGet, path: "/v1/tokens", id: "listTokens", tag: "tokens",
		summary: "List the tenant's API tokens", scopes: admin}, a.listTokens)
	add(a, route{method: http.MethodPost, path: "/v1/tokens", id: "createToken", tag: "tokens", status: http.StatusCreated,
		summary: "Make an API token",
		text:    "The secret is answered this once. A token can give no scope that it does not have itself.",
		scopes:  admin, body: fleet.NewToken{}}, a.createToken)
	add(a, route{method: http.MethodDelete, path: "/v1/tokens/{id}", id: "deleteToken", tag: "tokens", status: http.StatusNoContent,
		summary: "Revoke an API token", text: "It is void within 5 seconds everywhere.", scopes: admin}, a.deleteToken)
}

func (a *API) listTokens(ctx context.Context, by fleet.Token, in *Paged) (*listOut[fleet.Token], error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	found, err := a.fleet.Tokens(ctx, by.Tenant, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return listedByName(found, in.Limit, func(t fleet.Token) string { return t.ID }), nil
}

// madeToken is a token with its secret.
type madeToken struct {
	fleet.Token
	Secret string `json:"token" doc:"what to send as the bearer token"`
}

type madeTokenOut struct {
	Body madeToken
}

func (a *API) createToken(ctx context.Context, by fleet.Token, in *RawJSON) (*madeTokenOut, error) {
	n, _, err := decode[fleet.NewToken](in.RawBody)
	if err != nil {
		return nil, err
	}
	t, secret, err := a.fleet.CreateToken(ctx, actor(ctx, by), n)
	if err != nil {
		return nil, err
	}
	return &madeTokenOut{madeToken{t, secret}}, nil
}

func (a *API) deleteToken(ctx context.Context, by fleet.Token, in *struct {
	ID string `path:"id" doc:"of the token"`
}) (*struct{}, error) {
	if err := a.fleet.DeleteToken(ctx, actor(ctx, by), in.ID); err != nil {
		return nil, err
	}
	a.tokens.forget(in.ID)
	return nil, nil
}
