package broker

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/fleet"
)

const (
	revocationsEvery   = time.Second
	revocationsTimeout = 30 * time.Second // for one reading: an import may have taken back many
	recheckEvery       = time.Minute      // live sessions' credentials are looked at again
)

// Forget drops what is known of the endpoints' credentials and closes their sessions: called when a device was disabled
// or deleted, or its secret changed. They may come back with what is good now. It does not wait.
func (b *Broker) Forget(ids ...fleet.DeviceID) {
	b.creds.forget(ids)
	for _, id := range ids {
		for _, s := range b.registry.all(id) {
			b.revoke(s)
		}
	}
}

// ForgetTokens closes the connections of service clients that signed in with these tokens, and lets nobody in by them any
// more. Their sessions end, also those of clients that are away, with all that waits in them: nobody can ever resume them.
// It does not wait.
func (b *Broker) ForgetTokens(ids ...string) {
	if len(ids) == 0 {
		return
	}
	gone := map[string]bool{}
	for _, id := range ids {
		gone[id] = true
		for _, s := range b.tokens.revoke(id) {
			b.tellRevoked(s)
		}
	}
	// The hub closes the connections itself: it would take a client whose connection somebody else closes for one that was away.
	b.hub.Disconnect(func(who any) bool { return gone[who.(identity).token] }, packets.ErrAdministrativeAction, true)
}

func (b *Broker) revoke(s *session) {
	b.tellRevoked(s)
	s.link.stop(packets.ErrAdministrativeAction)
}

func (b *Broker) tellRevoked(s *session) {
	b.metrics.stopped.WithLabelValues("revoked").Inc()
	b.said.say(slog.LevelInfo, "revoked", "disconnected: what it signed in with was taken back, or has expired", "role", s.who.role.String(),
		"endpoint_id", s.who.endpoint, "token_id", s.who.token, "remote_addr", s.remote)
}

// hold closes those sessions of the endpoint that would not be admitted by what it may sign in with now.
func (b *Broker) hold(id fleet.DeviceID, now *fleet.Credential) {
	for _, s := range b.registry.all(id) {
		if now == nil || !s.who.stillGood(*now) {
			b.revoke(s)
		}
	}
}

// followRevocations closes what came in by something that has been taken back, until ctx is done. What could not be read
// is read when the source is back.
func (b *Broker) followRevocations(ctx context.Context) {
	tick := time.NewTicker(revocationsEvery)
	defer tick.Stop()
	for well := true; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, s := range b.tokens.expired() {
			b.revoke(s)
		}
		if b.revocations == nil {
			continue
		}
		err := b.readRevocations(ctx)
		if err != nil && well && ctx.Err() == nil {
			b.log.Warn("cannot read what was revoked", "error", err)
		}
		well = err == nil
	}
}

func (b *Broker) readRevocations(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, revocationsTimeout)
	defer cancel()
	found, err := b.revocations.Next(ctx)
	if err != nil {
		b.metrics.revocationFailures.Inc()
		return err
	}
	b.revocationsRead.Store(time.Now().UnixNano())
	b.metrics.revocations.Add(float64(len(found)))
	var tokens []string
	for _, r := range found {
		if r.Token != "" {
			tokens = append(tokens, r.Token)
			continue
		}
		b.creds.replace(r.Device, r.Now)
		b.hold(r.Device, r.Now)
	}
	b.ForgetTokens(tokens...)
	return nil
}

// since is the seconds that have passed since a moment in Unix nanoseconds.
func since(moment *atomic.Int64) float64 {
	return time.Since(time.Unix(0, moment.Load())).Seconds()
}

// recheck looks at the credentials of connected clients again from time to time, in case it was not told that they were
// taken back.
func (b *Broker) recheck(ctx context.Context) {
	tick := time.NewTicker(recheckEvery / rollCallSlices)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % rollCallSlices {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		b.guard.run("recheck", func() { b.recheckSlice(ctx, i) })
	}
}

func (b *Broker) recheckSlice(ctx context.Context, i int) {
	ids := b.registry.endpoints(i)
	for len(ids) > 0 {
		n := min(len(ids), credentialsBatch)
		found, err := b.creds.look(ctx, ids[:n])
		if err != nil {
			return // known credentials go on counting while the source is away
		}
		for _, id := range ids[:n] {
			for _, s := range b.registry.all(id) {
				if c := found[id]; c == nil || !s.who.stillGood(*c) {
					b.creds.forget([]fleet.DeviceID{id})
					b.revoke(s)
				}
			}
		}
		ids = ids[n:]
	}
}
