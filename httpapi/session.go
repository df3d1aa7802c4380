package httpapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"meterline/fleet"
)

// sessionCookie holds the secret of a session. Browsers take a cookie of that prefix only when it is Secure, for the whole site
// and for this host alone.
const sessionCookie = "__Host-meterline"

func (a *API) addSession() {
	add(a, route{method: http.MethodPost, path: "/v1/session", id: "signIn", tag: "session",
		summary: "Sign in",
		text: "With an API token, or with the name and the password of a user. The answer sets the cookie `" + sessionCookie + "`, which all " +
			"calls take in place of a bearer token. Refused on plain HTTP from other than the same machine, and for a while after " +
			"several wrong passwords. Needs no scope.",
		open: true, body: signInBody{}}, a.signIn)
	add(a, route{method: http.MethodGet, path: "/v1/session", id: "getSession", tag: "session",
		summary: "Who one is, and what one may do", text: "Of a session, or of a bearer token. Needs no scope."}, a.getSession)
	add(a, route{method: http.MethodDelete, path: "/v1/session", id: "signOut", tag: "session", status: http.StatusNoContent,
		summary: "Sign out", text: "The session of the cookie is over; a bearer token has none and stays as it is. Needs no scope."}, a.signOut)
}

// signInBody is the body of POST: a token, or a name and a password.
type signInBody struct {
	Token    string `json:"token,omitempty" maxLength:"200"`
	Name     string `json:"name,omitempty" maxLength:"64"`
	Password string `json:"password,omitempty" maxLength:"200"`
}

func (b signInBody) check() error {
	switch {
	case b.Token != "" && (b.Name != "" || b.Password != ""):
		return invalid(complaint("/token", "must not be given with a name or a password"))
	case b.Token == "" && b.Name == "":
		return invalid(complaint("", "must have a token, or a name and a password"))
	case b.Token == "" && b.Password == "":
		return invalid(complaint("/password", "is required"))
	}
	return nil
}

// session is who has signed in.
type session struct {
	Tenant    fleet.Tenant  `json:"tenant"`
	Name      string        `json:"name" doc:"of the user, or of the token"`
	Role      fleet.Role    `json:"role" doc:"of a token the highest whose scopes it has all; empty when it has not even a viewer's"`
	Scopes    []fleet.Scope `json:"scopes"`
	ExpiresAt *time.Time    `json:"expires_at" doc:"null: a bearer token that does not end"`
}

func sessionOf(by fleet.Token) session {
	return session{by.Tenant, by.Name, by.Role(), by.Scopes, by.ExpiresAt}
}

type sessionOut struct {
	Body session
}

// signedIn is the answer to a sign-in.
type signedIn struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	Body      session
}

// The outcomes of sign-ins, for metrics.
const (
	signInOK       = "ok"
	signInWrong    = "wrong"
	signInLimited  = "limited"
	signInInsecure = "insecure"
)

func (a *API) signIn(ctx context.Context, _ fleet.Token, in *RawJSON) (*signedIn, error) {
	c := callOf(ctx)
	if err := a.crossOrigin.Check(c.r); err != nil {
		return nil, crossSite()
	}
	if c.r.TLS == nil && !onLoopback(c.r.RemoteAddr) {
		a.metrics.signIns.WithLabelValues(signInInsecure).Inc()
		return nil, newProblem(http.StatusForbidden, "INSECURE_SIGN_IN",
			"a token or a password must not cross a network in the clear: use https (--http-tls-cert, --http-tls-key), or sign in on the same machine")
	}
	body, _, err := decode[signInBody](in.RawBody)
	if err != nil {
		return nil, err
	}
	if err := body.check(); err != nil {
		return nil, err
	}
	from := hostOf(c.r.RemoteAddr)
	if err := errors.Join(a.tries.take(from, time.Now()), a.triesOfName.take(body.Name+"\x00"+from, time.Now())); err != nil {
		a.metrics.signIns.WithLabelValues(signInLimited).Inc()
		return nil, err
	}
	token, secret, err := a.open(ctx, body)
	if errors.Is(err, fleet.ErrNotFound) {
		a.metrics.signIns.WithLabelValues(signInWrong).Inc()
		a.logger.Warn("sign-in refused", "request_id", c.id, "remote", c.r.RemoteAddr)
		return nil, unauthenticated("", "the token, or the name with this password, is not known")
	}
	if err != nil {
		return nil, err
	}
	a.metrics.signIns.WithLabelValues(signInOK).Inc()
	a.tries.forget(from)
	a.triesOfName.forget(body.Name + "\x00" + from)
	return &signedIn{cookie(secret, *token.ExpiresAt), sessionOf(token)}, nil
}

func (a *API) open(ctx context.Context, b signInBody) (fleet.Token, string, error) {
	if b.Token != "" {
		return a.fleet.SignInByToken(ctx, actor(ctx, fleet.Token{}), b.Token)
	}
	return a.fleet.SignIn(ctx, actor(ctx, fleet.Token{}), b.Name, b.Password)
}

func (a *API) getSession(_ context.Context, by fleet.Token, _ *struct{}) (*sessionOut, error) {
	return &sessionOut{sessionOf(by)}, nil
}

// signedOut is the answer to a sign-out: the browser forgets the cookie.
type signedOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

func (a *API) signOut(ctx context.Context, by fleet.Token, _ *struct{}) (*signedOut, error) {
	gone := cookie("", time.Unix(0, 0))
	gone.MaxAge = -1
	c := callOf(ctx)
	if c.session == "" {
		return &signedOut{gone}, nil
	}
	err := a.fleet.SignOut(ctx, actor(ctx, by), c.session)
	if err != nil && !errors.Is(err, fleet.ErrNotFound) {
		return nil, err
	}
	a.tokens.forgetSecret(c.session)
	return &signedOut{gone}, nil
}

func cookie(secret string, until time.Time) http.Cookie {
	return http.Cookie{Name: sessionCookie, Value: secret, Path: "/", Expires: until, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

func crossSite() *Problem {
	return newProblem(http.StatusForbidden, "CROSS_SITE", "another site may not do this with the session of its visitor")
}

// onLoopback says whether a request came from this machine.
func onLoopback(remote string) bool {
	address, err := netip.ParseAddr(hostOf(remote))
	return err == nil && address.Unmap().IsLoopback()
}

func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// How often one may try to sign in: so often at once, and then again and again after a while. Whoever succeeds has all tries again.
const (
	triesAtOnce     = 20 // of an address
	triesPause      = 3 * time.Second
	nameTriesAtOnce = 5 // for a name from an address
	nameTriesPause  = 15 * time.Second
)

func newTries() (ofAddress, ofName *limiter) {
	const detail = "too many attempts to sign in"
	return newLimiter(rate.Every(triesPause), triesAtOnce, detail), newLimiter(rate.Every(nameTriesPause), nameTriesAtOnce, detail)
}
