package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ErrScope is the error of giving a scope that one does not have.
var ErrScope = errors.New("a token cannot give a scope that it does not have itself")

// NewToken is an API token to be created.
type NewToken struct {
	Name      string     `json:"name" minLength:"1" maxLength:"200"`
	Scopes    []Scope    `json:"scopes" minItems:"1"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"never when not given"`
}

// CreateToken makes a token of by's tenant with no more scopes than by has (else ErrScope) and answers with its secret,
// this once.
func (s *Service) CreateToken(ctx context.Context, by Actor, n NewToken) (Token, string, error) {
	if err := s.checkToken(n); err != nil {
		return Token{}, "", err
	}
	for _, scope := range n.Scopes {
		if !by.Can(scope) {
			return Token{}, "", fmt.Errorf("create token: %s: %w", scope, ErrScope)
		}
	}
	return s.GrantToken(ctx, by, n)
}

// GrantToken makes a token on the authority of whoever runs the program, with any scopes.
func (s *Service) GrantToken(ctx context.Context, by Actor, n NewToken) (Token, string, error) {
	if err := s.checkToken(n); err != nil {
		return Token{}, "", err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Token{}, "", fmt.Errorf("create token: %w", err)
	}
	secret := NewTokenSecret()
	token := Token{ID: id.String(), Tenant: by.Tenant, Name: n.Name, Scopes: slices.Clone(n.Scopes), ExpiresAt: n.ExpiresAt,
		CreatedAt: s.now().UTC().Truncate(time.Microsecond)}
	made, err := s.tokens.CreateToken(ctx, by, token, TokenHash(secret))
	if err != nil {
		return Token{}, "", fmt.Errorf("create token: %w", err)
	}
	return made, secret, nil
}

func (s *Service) checkToken(n NewToken) error {
	wrong := &Invalid{}
	if strings.TrimSpace(n.Name) == "" {
		wrong.Add("/name", "is required")
	}
	checkText(wrong, "/name", n.Name, maxName)
	if len(n.Scopes) == 0 {
		wrong.Add("/scopes", "must name at least one scope")
	}
	for i, scope := range n.Scopes {
		if !slices.Contains(Scopes, scope) {
			wrong.Add(fmt.Sprintf("/scopes/%d", i), "is not a scope")
		} else if slices.Contains(n.Scopes[:i], scope) {
			wrong.Add(fmt.Sprintf("/scopes/%d", i), "is named twice")
		}
	}
	if n.ExpiresAt != nil && !n.ExpiresAt.After(s.now()) {
		wrong.Add("/expires_at", "must be in the future")
	}
	return wrong.OrNil()
}

// Tokens lists the tenant's tokens in order of their ids, at most limit after the one given.
func (s *Service) Tokens(ctx context.Context, t Tenant, after string, limit int) ([]Token, error) {
	ts, err := s.tokens.Tokens(ctx, t, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return ts, nil
}

// DeleteToken revokes a token of the tenant. Those who cached it may honour it for a few seconds more.
func (s *Service) DeleteToken(ctx context.Context, by Actor, id string) error {
	if _, err := uuid.Parse(id); err != nil {
		return fmt.Errorf("delete token: %w", ErrNotFound)
	}
	if err := s.tokens.DeleteToken(ctx, by, id); err != nil {
		return fmt.Errorf("delete token: %w", err)
	}
	return nil
}

// Authenticate finds the token that a secret belongs to; ErrNotFound when there is none that is valid now.
func (s *Service) Authenticate(ctx context.Context, secret string) (Token, error) {
	if !strings.HasPrefix(secret, TokenPrefix) {
		return Token{}, fmt.Errorf("authenticate: %w", ErrNotFound)
	}
	token, err := s.tokens.TokenByHash(ctx, TokenHash(secret))
	if err != nil {
		return Token{}, fmt.Errorf("authenticate: %w", err)
	}
	return token, nil
}
