package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"meterline/fleet"
	"meterline/meterread"
	"meterline/mqtt"
)

const (
	userService = "service"
	userBackend = "backend"

	admissionTimeout = 4 * time.Second
	keepAliveMost    = 600   // seconds; MQTT 5 clients that ask for more, or for none, are told
	keepAliveRange   = 43690 // seconds; mochi counts half as much again in 16 bits
	suffixMost       = 128   // bytes
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
)

// hello is what a client says of itself in CONNECT.
type hello struct {
	clientID  string
	username  string
	password  []byte
	anonymous bool // neither user name nor password
	will      bool
	willTopic string

	certified []fleet.DeviceID // names of its certificate, verified
	unspoken  bool             // no password was given
}

// admission decides who may come in.
type admission struct {
	credentials *credentials
	tokens      Tokens
	pepper      fleet.Pepper
	backend     string // the backends' secret; "" admits none
	anonymous   Anonymous
	metrics     *metrics
}

// admit says who the client is, or why not.
func (a *admission) admit(ctx context.Context, h hello) (identity, error) {
	ctx, cancel := context.WithTimeout(ctx, admissionTimeout)
	defer cancel()
	var who identity
	var err error
	if !h.vouch() {
		return identity{}, errCredentials
	}
	switch {
	case h.anonymous:
		who, err = a.admitAnonymous()
	case h.username == userService:
		who, err = a.admitService(ctx, h)
	case h.username == userBackend:
		who, err = a.admitBackend(h)
	default:
		who, err = a.admitEndpoint(ctx, h)
	}
	if err == nil && h.will && (who.role != roleService || ours(h.willTopic) || !who.mayPublish(h.willTopic)) {
		return identity{}, errWill // mochi publishes wills without asking, so they are looked at here
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
	if a.tokens == nil {
		return identity{}, errCredentials
	}
	token, err := a.tokens.TokenBySecret(ctx, string(h.password))
	switch {
	case errors.Is(err, ErrUnknownToken):
		return identity{}, errCredentials
	case err != nil:
		a.metrics.lookupFailures.Inc()
		return identity{}, fmt.Errorf("%w: look up token: %w", errUnavailable, err)
	case token.ExpiresAt != nil && !token.ExpiresAt.After(time.Now()):
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

// admitEndpoint checks a device's secret. One that does not match is compared once more with what the source says now:
// it may have been changed.
func (a *admission) admitEndpoint(ctx context.Context, h hello) (identity, error) {
	id, err := meterread.ParseDeviceID(h.username)
	if err != nil || mqtt.Reserved(id) {
		return identity{}, errCredentials
	}
	suffixed, ok := endpointClientID(h.clientID, id)
	if !ok {
		return identity{}, errClientID
	}
	for _, age := range []time.Duration{credentialsFresh, credentialsDoubt} {
		cred, err := a.credentials.get(ctx, id, age)
		if err != nil {
			return identity{}, fmt.Errorf("%w: %w", errUnavailable, err)
		}
		if cred == nil {
			_ = fleet.Credential{}.Matches(a.pepper, string(h.password)) // takes as long as for a device that exists
			return identity{}, errCredentials
		}
		matches := cred.Matches(a.pepper, string(h.password))
		if (matches || h.byCertificate()) && cred.Enabled && speaks(cred.Kind) {
			return identity{
				role: roleEndpoint, endpoint: id, kind: cred.Kind, tenant: cred.Tenant, suffixed: suffixed,
				mac: bytes.Clone(cred.MAC), certified: h.byCertificate(),
			}, nil
		}
	}
	return identity{}, errCredentials
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

// mochiID is the id under which mochi knows the client. Each role has a name space of its own, so that nobody can
// evict another; an endpoint's sessions have one each, because the newest wins by our own rule (see presence).
func (w identity) mochiID(clientID string, serial uint64) string {
	switch w.role {
	case roleEndpoint:
		return fmt.Sprintf("%s/%d", clientID, serial)
	case roleBackend:
		return "$backend/" + clientID
	}
	if w.token == "" {
		return "$anonymous/" + clientID
	}
	return "$service/" + w.token + "/" + clientID
}

// stillGood says whether an endpoint that was admitted would be admitted by c. Its secret counts unless a certificate
// admitted it.
func (w identity) stillGood(c fleet.Credential) bool {
	return c.Enabled && speaks(c.Kind) && c.Tenant == w.tenant &&
		(w.certified || subtle.ConstantTimeCompare(c.MAC, w.mac) == 1)
}
