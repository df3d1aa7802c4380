package fleet

import "strings"

// Actor is who does something, and by which request: what the audit log says of it.
type Actor struct {
	Token
	RequestID  string
	RemoteAddr string
}

// ActorKind is what kind of actor one is.
type ActorKind string

// The kinds of actors.
const (
	ByToken  ActorKind = "token"
	ByUser   ActorKind = "user"   // a person who signed in
	BySystem ActorKind = "system" // whoever runs the program
)

// The ids of actors that are no tokens begin so; that of a token is a UUID.
const (
	userPrefix   = "user:"
	systemPrefix = "system:"
)

// UserID is the id of a user as an actor.
func UserID(name string) string { return userPrefix + name }

// KindOfActor is the kind of the actor with this id.
func KindOfActor(id string) ActorKind {
	switch {
	case strings.HasPrefix(id, userPrefix):
		return ByUser
	case strings.HasPrefix(id, systemPrefix):
		return BySystem
	}
	return ByToken
}

// System is the program itself, on the authority of whoever runs it: account names the account, host the machine.
func System(t Tenant, name, account, host string) Actor {
	return Actor{Token: Token{ID: systemPrefix + account, Tenant: t, Name: name, Scopes: []Scope{Admin}}, RemoteAddr: host}
}
