package fleet

import "time"

// Role is what a user may do, in one word.
type Role string

// The roles, each with all of the one before.
const (
	Viewer        Role = "viewer"
	Operator      Role = "operator"
	Administrator Role = "admin"
)

// Roles lists every role there is, the least first.
var Roles = []Role{Viewer, Operator, Administrator}

// Scopes are what the role stands for; nil for what is no role.
func (r Role) Scopes() []Scope {
	see := []Scope{FleetRead, CommandsRead, ReadingsRead, AuditRead}
	switch r {
	case Viewer:
		return see
	case Operator:
		return append(see, CommandsWrite, CommandsControl, DeadLettersWrite)
	case Administrator:
		return []Scope{Admin}
	}
	return nil
}

// Role is the highest role of which the token has all scopes; "" when it has not even those of a viewer.
func (t Token) Role() Role {
	found := Role("")
	for _, r := range Roles {
		for _, s := range r.Scopes() {
			if !t.Can(s) {
				return found
			}
		}
		found = r
	}
	return found
}

// User is a person who signs in with a password.
type User struct {
	Name      string    `json:"name"`
	Tenant    Tenant    `json:"tenant"`
	Role      Role      `json:"role"`
	CreatedAt time.Time `json:"created_at"`
}

// Token is what the user may do, as a token.
func (u User) Token() Token {
	return Token{ID: UserID(u.Name), Tenant: u.Tenant, Name: u.Name, Scopes: u.Role.Scopes(), CreatedAt: u.CreatedAt}
}

// Session is a sign-in: of a user, or of whoever holds an API token.
type Session struct {
	ID        string    `json:"-"`
	User      string    `json:"-"` // the user's name, or
	TokenID   string    `json:"-"` // the token's id
	ExpiresAt time.Time `json:"expires_at"`
}
