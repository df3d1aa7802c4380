package fleet

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/bcrypt"
)

const (
	passwordCost  = 12
	passwordLeast = 10 // characters
	passwordMost  = 72 // bytes: bcrypt looks at no more
	// hashedAtOnce bounds the processor that signing in may take.
	hashedAtOnce = 2
	// sessionLife is how long one stays signed in.
	sessionLife = 12 * time.Hour
	// SessionPrefix begins the secret of every session, so that it is never taken for an API token.
	SessionPrefix = "mts_"
)

var userName = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,64}$`)

// CreateUser adds a user of by's tenant who signs in with this password. Complaints are *Invalid; ErrTaken.
func (s *Service) CreateUser(ctx context.Context, by Actor, name string, role Role, password string) (User, error) {
	wrong := &Invalid{}
	if !userName.MatchString(name) {
		wrong.Add("/name", "must be 1 to 64 of A-Z a-z 0-9 . _ @ -")
	}
	if !slices.Contains(Roles, role) {
		wrong.Add("/role", "must be viewer, operator or admin")
	}
	if n := len([]rune(password)); n < passwordLeast || len(password) > passwordMost {
		wrong.Add("/password", fmt.Sprintf("must have at least %d characters and at most %d bytes", passwordLeast, passwordMost))
	}
	if err := wrong.OrNil(); err != nil {
		return User{}, err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), s.cost)
	if err != nil {
		return User{}, fmt.Errorf("create user: %w", err)
	}
	made, err := s.users.CreateUser(ctx, by, User{Name: name, Tenant: by.Tenant, Role: role}, hash)
	if err != nil {
		return User{}, fmt.Errorf("create user: %w", err)
	}
	return made, nil
}

// Users lists the users of all tenants in order of their names, at most limit after the one given.
func (s *Service) Users(ctx context.Context, after string, limit int) ([]User, error) {
	us, err := s.users.Users(ctx, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return us, nil
}

// User finds a user of any tenant; ErrNotFound.
func (s *Service) User(ctx context.Context, name string) (User, error) {
	u, _, err := s.users.UserByName(ctx, name)
	if err != nil {
		return User{}, fmt.Errorf("find user: %w", err)
	}
	return u, nil
}

// DeleteUser removes a user of by's tenant, whose sessions are refused everywhere within 5 s.
func (s *Service) DeleteUser(ctx context.Context, by Actor, name string) error {
	if err := s.users.DeleteUser(ctx, by, name); err != nil {
		return fmt.Errorf("delete user: %w", err)
	}
	return nil
}

// nobodysHash is compared with when there is no such user: a name that does not exist takes as long to refuse as one that does.
func (s *Service) nobodysHash() []byte {
	s.nobody.Do(func() {
		s.nobodys, _ = bcrypt.GenerateFromPassword([]byte("nobody"), s.cost) // fails only for a cost that there is not
	})
	return s.nobodys
}

// SignIn opens a session for the user of this name; ErrNotFound when there is none, or the password is another. Of by only the
// request counts.
func (s *Service) SignIn(ctx context.Context, by Actor, name, password string) (Token, string, error) {
	select {
	case s.hashing <- struct{}{}:
	case <-ctx.Done():
		return Token{}, "", fmt.Errorf("sign in: %w", ctx.Err())
	}
	defer func() { <-s.hashing }()
	u, hash, err := s.users.UserByName(ctx, strings.ToValidUTF8(name, "?"))
	unknown := errors.Is(err, ErrNotFound)
	if unknown {
		hash, err = s.nobodysHash(), nil
	}
	if err != nil {
		return Token{}, "", fmt.Errorf("sign in: %w", err)
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || unknown {
		return Token{}, "", fmt.Errorf("sign in: %w", ErrNotFound)
	}
	by.Token = u.Token()
	return s.open(ctx, by, Session{User: u.Name})
}

// SignInByToken opens a session for whoever holds an API token; ErrNotFound when it is not good.
func (s *Service) SignInByToken(ctx context.Context, by Actor, secret string) (Token, string, error) {
	token, err := s.Authenticate(ctx, secret)
	if err != nil {
		return Token{}, "", err
	}
	by.Token = token
	return s.open(ctx, by, Session{TokenID: token.ID})
}

// open makes a session of by, who is known by now.
func (s *Service) open(ctx context.Context, by Actor, of Session) (Token, string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Token{}, "", fmt.Errorf("open session: %w", err)
	}
	of.ID, of.ExpiresAt = id.String(), s.now().UTC().Truncate(time.Second).Add(sessionLife)
	if end := by.ExpiresAt; end != nil && end.Before(of.ExpiresAt) {
		of.ExpiresAt = *end
	}
	secret := SessionPrefix + NewSecret()
	if err := s.sessions.CreateSession(ctx, by, of, TokenHash(secret)); err != nil {
		return Token{}, "", fmt.Errorf("open session: %w", err)
	}
	by.ExpiresAt = &of.ExpiresAt
	return by.Token, secret, nil
}

// SessionToken is what a session may do, as a token that ends when the session does; ErrNotFound when there is no such session.
func (s *Service) SessionToken(ctx context.Context, secret string) (Token, error) {
	if !strings.HasPrefix(secret, SessionPrefix) {
		return Token{}, fmt.Errorf("find session: %w", ErrNotFound)
	}
	token, err := s.sessions.SessionToken(ctx, TokenHash(secret))
	if err != nil {
		return Token{}, fmt.Errorf("find session: %w", err)
	}
	return token, nil
}

// SignOut ends a session. Backends that have seen it may honour it for 5 s more.
func (s *Service) SignOut(ctx context.Context, by Actor, secret string) error {
	if err := s.sessions.DeleteSession(ctx, by, TokenHash(secret)); err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

// Known is whom the secret of an API token or of a session belongs to; ErrNotFound when it is neither, or not any more.
func (s *Service) Known(ctx context.Context, secret string) (Token, error) {
	if strings.HasPrefix(secret, SessionPrefix) {
		return s.SessionToken(ctx, secret)
	}
	return s.Authenticate(ctx, secret)
}
