package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"golang.org/x/time/rate"

	"meterline/command"
	"meterline/fleet"
)

// errPanic is the error of a call that panicked.
var errPanic = errors.New("panic")

const (
	panicPause = 100 * time.Millisecond // before a loop that panicked goes on
	panicLogs  = 20                     // stacks that are logged at first; then one a second
)

// guard keeps panics from ending the process. What panics in a connection's own goroutine ends that connection; in any
// other it is an error of the call, or that round of a loop is skipped.
type guard struct {
	log     *slog.Logger
	metrics *metrics
	stacks  rate.Sometimes // what panics for every message would fill the disk
}

func newGuard(log *slog.Logger, m *metrics) *guard {
	return &guard{log: log, metrics: m, stacks: rate.Sometimes{First: panicLogs, Interval: time.Second}}
}

// call runs f. Its panic is an error, errPanic. f must hold no lock but by defer.
func (g *guard) call(where string, f func() error) (err error) {
	defer g.rescue(where, &err)
	return f()
}

// rescue is for those who call often, and what has many bytes: deferred directly, it makes a panic the error.
func (g *guard) rescue(where string, err *error) {
	if p := recover(); p != nil {
		*err = g.caught(where, p)
	}
}

// run is call for what has no error.
func (g *guard) run(where string, f func()) {
	_ = g.call(where, func() error { f(); return nil })
}

// caught counts a panic. It is for whoever has recovered.
func (g *guard) caught(where string, p any) error {
	g.metrics.panics.Inc()
	g.stacks.Do(func() {
		g.log.Error("recovered from a panic", "where", where, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	})
	return fmt.Errorf("%w in %s: %v", errPanic, where, p)
}

// keep runs f, which returns when ctx is done, again whenever it panics.
func (g *guard) keep(ctx context.Context, where string, f func(context.Context)) {
	for errors.Is(g.call(where, func() error { f(ctx); return nil }), errPanic) {
		select {
		case <-time.After(panicPause):
		case <-ctx.Done():
			return
		}
	}
}

// The ports as the broker calls them: a panic in one is its error, wherever it is called from and with whatever locks.

type guardedLog struct {
	of Log
	*guard
}

func (g guardedLog) Append(ctx context.Context, entries []command.Uplink) error {
	return g.call("append", func() error { return g.of.Append(ctx, entries) })
}

type guardedCredentials struct {
	of Credentials
	*guard
}

func (g guardedCredentials) Credentials(ctx context.Context, ids []fleet.DeviceID) (found []fleet.Credential, err error) {
	err = g.call("credentials", func() (err error) { found, err = g.of.Credentials(ctx, ids); return err })
	return found, err
}

type guardedTokens struct {
	of Tokens
	*guard
}

func (g guardedTokens) TokenBySecret(ctx context.Context, secret string) (found fleet.Token, err error) {
	err = g.call("token", func() (err error) { found, err = g.of.TokenBySecret(ctx, secret); return err })
	return found, err
}

type guardedRevocations struct {
	of Revocations
	*guard
}

func (g guardedRevocations) Next(ctx context.Context) (found []fleet.Revocation, err error) {
	err = g.call("revocations", func() (err error) { found, err = g.of.Next(ctx); return err })
	return found, err
}

type guardedSessions struct {
	of Sessions
	*guard
}

func (g guardedSessions) Open(ctx context.Context, s command.Session) (epoch int64, err error) {
	err = g.call("open", func() (err error) { epoch, err = g.of.Open(ctx, s); return err })
	return epoch, err
}

func (g guardedSessions) Close(ctx context.Context, s command.Session) error {
	return g.call("close", func() error { return g.of.Close(ctx, s) })
}

func (g guardedSessions) Restore(ctx context.Context, sessions []command.Session) error {
	return g.call("restore", func() error { return g.of.Restore(ctx, sessions) })
}

func (g guardedSessions) Lost(ctx context.Context, gateway, incarnation string) (lost bool, err error) {
	err = g.call("lost", func() (err error) { lost, err = g.of.Lost(ctx, gateway, incarnation); return err })
	return lost, err
}

func (g guardedSessions) Announce(ctx context.Context, gateway command.Gateway, beat int64) error {
	return g.call("announce", func() error { return g.of.Announce(ctx, gateway, beat) })
}

func (g guardedSessions) Watch(ctx context.Context, f func(command.Session)) error {
	return g.call("watch", func() error { return g.of.Watch(ctx, f) })
}

// guardedNewest is for Sessions that can be asked.
type guardedNewest struct {
	guardedSessions
	newest Newest
}

func (g guardedNewest) Sessions(ctx context.Context, endpoints []fleet.DeviceID) (found map[fleet.DeviceID]command.Session, err error) {
	err = g.call("sessions", func() (err error) { found, err = g.newest.Sessions(ctx, endpoints); return err })
	return found, err
}

// guardPorts puts the guard around all that the broker calls.
func (o *Options) guardPorts(g *guard) {
	o.Log, o.Credentials = guardedLog{o.Log, g}, guardedCredentials{o.Credentials, g}
	sessions := guardedSessions{o.Sessions, g}
	if newest, ok := o.Sessions.(Newest); ok {
		o.Sessions = guardedNewest{sessions, newest}
	} else {
		o.Sessions = sessions
	}
	if o.Tokens != nil {
		o.Tokens = guardedTokens{o.Tokens, g}
	}
	if o.Revocations != nil {
		o.Revocations = guardedRevocations{o.Revocations, g}
	}
}
