package fleet

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// Pepper is the key that device secrets are stored under. `migrate` makes it once; all processes share it.
type Pepper []byte

// MAC is what is stored of a secret: HMAC-SHA256 (RFC 2104) under the pepper. A secret is 256 random bits, so a slow
// hash would add cost at every reconnect and no safety.
func (p Pepper) MAC(secret string) []byte {
	h := hmac.New(sha256.New, p)
	h.Write([]byte(secret))
	return h.Sum(nil)
}

// Credential is what a gateway needs to admit an endpoint.
type Credential struct {
	DeviceID DeviceID
	Tenant   Tenant
	Kind     Kind // Direct or IPC
	Enabled  bool
	MAC      []byte
}

// Matches compares in constant time.
func (c Credential) Matches(p Pepper, secret string) bool {
	return hmac.Equal(c.MAC, p.MAC(secret))
}

// NewSecret makes a secret of 256 random bits, as 43 characters of base64url (RFC 4648 5).
func NewSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}
