package fleet

import (
	"crypto/sha256"
	"slices"
	"time"
)

// Scope is one thing a token may do.
type Scope string

// The scopes; Admin contains all others.
const (
	FleetRead        Scope = "fleet:read"
	FleetWrite       Scope = "fleet:write"
	CommandsRead     Scope = "commands:read"
	CommandsWrite    Scope = "commands:write"
	CommandsControl  Scope = "commands:control"
	ReadingsRead     Scope = "readings:read"
	DeadLettersWrite Scope = "deadletters:write"
	AuditRead        Scope = "audit:read"
	TokensAdmin      Scope = "tokens:admin"
	MQTT             Scope = "mqtt"
	MQTTAdmin        Scope = "mqtt:admin"
	Admin            Scope = "admin"
)

// Scopes lists every scope there is.
var Scopes = []Scope{FleetRead, FleetWrite, CommandsRead, CommandsWrite, CommandsControl, ReadingsRead,
	DeadLettersWrite, AuditRead, TokensAdmin, MQTT, MQTTAdmin, Admin}

// Token is an API token as it can be shown: the secret itself is known only to its holder.
type Token struct {
	ID        string     `json:"id"`
	Tenant    Tenant     `json:"tenant"`
	Name      string     `json:"name"`
	Scopes    []Scope    `json:"scopes"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// Can says whether the token's scopes allow s.
func (t Token) Can(s Scope) bool {
	return slices.Contains(t.Scopes, s) || slices.Contains(t.Scopes, Admin)
}

// TokenPrefix begins every API token, so that a leaked one is recognised.
const TokenPrefix = "mtl_"

// NewTokenSecret makes the secret of an API token: the prefix and 256 random bits.
func NewTokenSecret() string { return TokenPrefix + NewSecret() }

// TokenHash is what is stored of an API token: its SHA-256. It is 256 random bits, so a slow hash would add no safety.
func TokenHash(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}
