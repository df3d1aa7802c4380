package httpapi

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"meterline/fleet"
	"meterline/testkit"
)

var errAway = errors.New("connection refused")

// desk answers about tokens as the record does, or not at all.
type desk struct {
	token  fleet.Token
	err    error
	silent bool // answers when the asker goes away
	asked  int
}

func (d *desk) look(ctx context.Context, _ string) (fleet.Token, error) {
	d.asked++
	if d.silent {
		<-ctx.Done()
		return fleet.Token{}, ctx.Err()
	}
	return d.token, d.err
}

// cacheAt is a cache in front of d whose clock stands at *now.
func cacheAt(d *desk, now *time.Time) *tokenCache {
	c := newTokenCache(d.look)
	c.now = func() time.Time { return *now }
	return c
}

func TestATokenIsTrustedWhileTheRecordIsAway(t *testing.T) {
	now := time.Now()
	began := now
	d := &desk{token: fleet.Token{ID: "t-1"}}
	c := cacheAt(d, &now)
	find := func(want error) {
		t.Helper()
		token, err := c.find(t.Context(), "secret")
		if !errors.Is(err, want) || err == nil && token.ID != "t-1" {
			t.Fatalf("after %s: %v, %v, want %v", now.Sub(began), token.ID, err, want)
		}
	}
	find(nil)
	d.err = errAway
	now = now.Add(tokenFresh)
	find(nil)
	find(nil)
	if d.asked != 2 {
		t.Errorf("asked %d times: whoever does not answer is left alone for a while", d.asked)
	}
	now = began.Add(tokenTrusted - time.Millisecond)
	find(nil)
	now = began.Add(tokenTrusted)
	find(errAway)
	if _, err := c.find(t.Context(), "never seen"); !errors.Is(err, errAway) {
		t.Errorf("a token that was never seen: %v", err)
	}
}

func TestARevokedTokenDiesWhenTheRecordIsBack(t *testing.T) {
	now := time.Now()
	d := &desk{token: fleet.Token{ID: "t-1"}}
	c := cacheAt(d, &now)
	for _, step := range []struct {
		after time.Duration
		err   error // of the record
		want  error
	}{
		{0, nil, nil},
		{time.Minute, errAway, nil},
		{tokenPause - time.Millisecond, fleet.ErrNotFound, nil}, // not asked yet
		{time.Millisecond, fleet.ErrNotFound, fleet.ErrNotFound},
		{tokenFresh, errAway, errAway}, // what is known to be gone is not trusted
	} {
		now = now.Add(step.after)
		d.err = step.err
		if _, err := c.find(t.Context(), "secret"); !errors.Is(err, step.want) {
			t.Fatalf("%+v: %v", step, err)
		}
	}
}

func TestATokenDeletedHereIsNotTrusted(t *testing.T) {
	now := time.Now()
	d := &desk{token: fleet.Token{ID: "t-1"}}
	c := cacheAt(d, &now)
	if _, err := c.find(t.Context(), "secret"); err != nil {
		t.Fatal(err)
	}
	c.forget("t-1")
	d.err = errAway
	if _, err := c.find(t.Context(), "secret"); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
}

func TestATrustedTokenDoesNotWaitForARecordThatStandsStill(t *testing.T) {
	d := &desk{token: fleet.Token{ID: "t-1"}}
	now := time.Now()
	c := cacheAt(d, &now)
	if _, err := c.find(t.Context(), "secret"); err != nil {
		t.Fatal(err)
	}
	d.silent = true
	now = now.Add(time.Minute)
	pulse, began := testkit.StartPulse(t), time.Now()
	for range 20 {
		if _, err := c.find(t.Context(), "secret"); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > pulse.Limit(3*tokenPatience) {
		t.Fatalf("20 requests took %s", took)
	}
}

func TestMadeUpSecretsDoNotDriveTrustedTokensOut(t *testing.T) {
	now := time.Now()
	d := &desk{token: fleet.Token{ID: "t-1"}}
	c := cacheAt(d, &now)
	if _, err := c.find(t.Context(), "secret"); err != nil {
		t.Fatal(err)
	}
	d.err = fleet.ErrNotFound
	for i := range 2 * maxTokens {
		_, _ = c.find(t.Context(), fmt.Sprint("made up ", i))
	}
	if n := len(c.known); n > maxTokens {
		t.Errorf("%d are remembered", n)
	}
	d.err = errAway
	now = now.Add(time.Minute)
	if _, err := c.find(t.Context(), "secret"); err != nil {
		t.Fatal(err)
	}
}
