package broker

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/fault"
	"meterline/fleet"
	"meterline/meterread"
	"meterline/mqtt"
)

const (
	userService = "service"
	userBackend = "backend"

	admissionTimeout = 4 * time.Second
	suffixMost       = 128 // bytes
	secretLength     = 43  // characters of a secret made here, see fleet.NewSecret
)

// Anonymous is what a client may do that brings no credentials.
type Anonymous string

// The roles of anonymous clients.
const (
	AnonymousNone  Anonymous = "none"
	AnonymousMQTT  Anonymous = "mqtt"
	AnonymousAdmin Anonymous = "mqtt:admin"
)

// The reasons not to admit a client. Whoever does not exist, is disabled or has the wrong secret gets errCredentials: one
// answer, so that nobody learns which.
var (
	errCredentials = errors.New("unknown user or wrong secret")
	errClientID    = errors.New("the client id does not belong to the user")
	errWill        = errors.New("a will is not allowed")
	errUnavailable = errors.New("credentials cannot be looked up")
	errBanned      = errors.New("too many wrong secrets")
	errFlapping    = errors.New("it connects too often")
)

// refusal is how a client that is not admitted is answered, and the reason in metrics and logs. Whoever is banned gets the
// answer of a wrong secret: it learns nothing by going on.
func refusal(err error) (code packets.Code, reason string) {
	switch {
	case errors.Is(err, errBusy):
		return packets.ErrServerUnavailable, "busy"
	case errors.Is(err, errUnavailable):
		return packets.ErrServerUnavailable, "unavailable"
	case errors.Is(err, errClientID):
		return packets.ErrClientIdentifierNotValid, "client_id"
	case errors.Is(err, errWill):
		return packets.ErrNotAuthorized, "will"
	case errors.Is(err, errBanned):
		return packets.ErrBadUsernameOrPassword, "banned"
	case errors.Is(err, errFlapping):
		return packets.ErrConnectionRateExceeded, "flapping"
	}
	return packets.ErrBadUsernameOrPassword, "credentials"
}

// hello is what a client says of itself in CONNECT.
type hello struct {
	clientID  string
	username  string
	password  []byte
	anonymous bool // neither user name nor password
	will      bool
	willTopic string
	remote    string // host:port

	certified []fleet.DeviceID // names of its certificate, verified
	unspoken  bool             // no password was given
}

// admission decides who may come in.
type admission struct {
	credentials *credentials
	tokens      *tokens
	bans        *bans
	flapping    *flapping
	pepper      fleet.Pepper
	backend     string // the backends' secret; "" admits none
	anonymous   Anonymous
	metrics     *metrics
}

// admit says who the client is, or why not.
func (a *admission) admit(ctx context.Context, h hello) (identity, error) {
	ctx, cancel := context.WithTimeout(ctx, admissionTimeout)
	defer cancel()
	if !h.vouch() {
		return identity{}, errCredentials
	}
	who, err := a.identify(ctx, h)
	if err == nil && h.will && (who.role != roleService || ours(h.willTopic) || !who.mayPublish(h.willTopic)) {
		return identity{}, errWill
	}
	if err == nil && who.role == roleEndpoint && !a.flapping.connect(who, h.remote) {
		return identity{}, errFlapping
	}
	return who, err
}

func (a *admission) identify(ctx context.Context, h hello) (identity, error) {
	if h.anonymous {
		return a.admitAnonymous()
	}
	guest := a.bans.guest(h)
	seen := a.bans.judge(guest)
	if h.byCertificate() {
		seen = welcome // it guesses nothing
	}
	if seen == banned && h.username != userBackend { // which costs no look-up, and must get in
		return identity{}, errBanned
	}
	var who identity
	var err error
	switch h.username {
	case userService:
		who, err = a.admitService(ctx, h)
	case userBackend:
		who, err = a.admitBackend(h)
	default:
		who, err = a.admitEndpoint(ctx, h, seen)
	}
	switch {
	case err == nil:
		a.bans.right(guest)
	case errors.Is(err, errCredentials) && !errors.Is(err, errDisabled):
		a.bans.wrong(guest)
	}
	return who, err
}

func (a *admission) admitAnonymous() (identity, error) {
	switch a.anonymous {
	case AnonymousMQTT:
		return identity{role: roleService}, nil
	case AnonymousAdmin:
		return identity{role: roleService, admin: true}, nil
	}
	return identity{}, errCredentials
}

func (a *admission) admitBackend(h hello) (identity, error) {
	given, wanted := sha256.Sum256(h.password), sha256.Sum256([]byte(a.backend))
	if a.backend == "" || subtle.ConstantTimeCompare(given[:], wanted[:]) != 1 {
		return identity{}, errCredentials
	}
	return identity{role: roleBackend}, nil
}

func (a *admission) admitService(ctx context.Context, h hello) (identity, error) {
	token, err := a.tokens.bySecret(ctx, string(h.password))
	switch {
	case errors.Is(err, ErrUnknownToken):
		return identity{}, errCredentials
	case err != nil:
		return identity{}, fmt.Errorf("%w: look up token: %w", errUnavailable, err)
	case token.ExpiresAt != nil && !token.ExpiresAt.After(fault.Now()):
		return identity{}, errCredentials
	}
	who := identity{role: roleService, tenant: token.Tenant, token: token.ID, admin: token.Can(fleet.MQTTAdmin)}
	if !who.admin && !token.Can(fleet.MQTT) {
		return identity{}, errCredentials
	}
	if token.ExpiresAt != nil {
		who.expires = *token.ExpiresAt
	}
	return who, nil
}

// errDisabled is errCredentials for one that has the right secret and is not to come in: it is no guess.
var errDisabled = fmt.Errorf("%w: it is disabled, or a meter behind an IPC", errCredentials)

// admitEndpoint checks a device's secret, and with the right one its client id: others learn nothing of that. By what is
// cached it is admitted at once. Otherwise the source is asked, whether the device is known or not and whether a secret is
// wrong or was changed: all that costs the same.
func (a *admission) admitEndpoint(ctx context.Context, h hello, seen verdict) (identity, error) {
	id, err := meterread.ParseDeviceID(h.username)
	if err != nil || mqtt.Reserved(id) {
		return identity{}, errCredentials
	}
	p := proof{mac: a.pepper.MAC(string(h.password)), certified: h.byCertificate()}
	if cred, ok := a.credentials.cached(id); ok && p.opens(cred) == nil {
		a.credentials.used(id)
		return p.identity(cred, h.clientID)
	}
	if seen == knownOnly {
		return identity{}, errCredentials
	}
	cred, err := a.credentials.ask(ctx, id)
	if err != nil {
		return identity{}, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if cred == nil {
		cred = &fleet.Credential{}
	}
	if err := p.opens(*cred); err != nil {
		a.credentials.doubt(id)
		return identity{}, err
	}
	return p.identity(*cred, h.clientID)
}

// proof is what a client has to show for being a device.
type proof struct {
	mac       []byte // of the secret it gave
	certified bool   // its certificate names the device, and it gave no secret
}

// opens says whether whoever has it may come in by c: errCredentials, errDisabled.
func (p proof) opens(c fleet.Credential) error {
	switch {
	case !hmac.Equal(c.MAC, p.mac) && (!p.certified || c.DeviceID == ""):
		return errCredentials
	case !c.Enabled || !speaks(c.Kind):
		return errDisabled
	}
	return nil
}

// identity is who comes in by c under the client id: errClientID when it is somebody else's.
func (p proof) identity(c fleet.Credential, clientID string) (identity, error) {
	suffixed, ok := endpointClientID(clientID, c.DeviceID)
	if !ok {
		return identity{}, errClientID
	}
	return identity{
		role: roleEndpoint, endpoint: c.DeviceID, kind: c.Kind, tenant: c.Tenant, suffixed: suffixed,
		mac: bytes.Clone(c.MAC), certified: p.certified,
	}, nil
}

// showName is a user name for the log: short, and not what may be a secret in the wrong place.
func showName(name string) string {
	if _, err := base64.RawURLEncoding.DecodeString(name); err == nil && len(name) == secretLength || strings.HasPrefix(name, fleet.TokenPrefix) {
		return "<secret>"
	}
	return clip(name)
}

// speaks says whether devices of the kind speak MQTT.
func speaks(k fleet.Kind) bool { return slices.Contains([]fleet.Kind{fleet.Direct, fleet.IPC}, k) }

// endpointClientID checks a client id: {endpoint}, or {endpoint}:{suffix} for a session beside it.
func endpointClientID(clientID string, endpoint fleet.DeviceID) (suffixed, ok bool) {
	rest, ok := strings.CutPrefix(clientID, string(endpoint))
	if !ok || rest == "" {
		return false, ok
	}
	suffix, ok := strings.CutPrefix(rest, ":")
	return true, ok && suffix != "" && len(suffix) <= suffixMost
}

// key is the identity of a service client's or a backend's session. Each role and token has a name space of its own, so
// that nobody can evict another.
func (w identity) key(clientID string) string {
	switch {
	case w.role == roleBackend:
		return "backend/" + clientID
	case w.token == "":
		return "anonymous/" + clientID
	}
	return "service/" + w.token + "/" + clientID
}

// stillGood says whether an endpoint that was admitted would be admitted by c. Its secret counts unless a certificate
// admitted it.
func (w identity) stillGood(c fleet.Credential) bool {
	return c.Enabled && speaks(c.Kind) && c.Tenant == w.tenant &&
		(w.certified || subtle.ConstantTimeCompare(c.MAC, w.mac) == 1)
}
