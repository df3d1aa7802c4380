package broker

import (
	"context"
	"errors"

	"meterline/command"
	"meterline/fleet"
)

// Log is the durable uplink log.
type Log interface {
	// Append blocks until every entry is durable, or fails as a whole: then entries may or may not be there, and they are
	// sent again. Safe for concurrent use; entries of one endpoint are kept in the order of the calls.
	Append(ctx context.Context, entries []command.Uplink) error
}

// Credentials is where the secrets of endpoints come from.
type Credentials interface {
	// Credentials looks ids up. An id that is not there is absent from the answer.
	Credentials(ctx context.Context, ids []fleet.DeviceID) ([]fleet.Credential, error)
}

// ErrUnknownToken is what Tokens answers when there is no such token.
var ErrUnknownToken = errors.New("unknown token")

// Tokens resolves API tokens.
type Tokens interface {
	// TokenBySecret finds a token that is neither revoked nor expired; ErrUnknownToken when there is none.
	TokenBySecret(ctx context.Context, secret string) (fleet.Token, error)
}

// Revocations tells what was taken back. It is asked by one goroutine.
type Revocations interface {
	// Next lists what was taken back since it last returned without an error, at least once each, in the order in which it
	// was taken back.
	Next(ctx context.Context) ([]fleet.Revocation, error)
}

// Sessions is presence, shared by all gateways. Any error means that it cannot be reached now.
type Sessions interface {
	// Open makes s the newest session of its endpoint, with an epoch larger than any before, and tells the other gateways.
	// The epoch in s is not looked at.
	Open(ctx context.Context, s command.Session) (epoch int64, err error)
	// Close removes s if it is still the newest.
	Close(ctx context.Context, s command.Session) error
	// Restore writes presence again where it is missing or older.
	Restore(ctx context.Context, sessions []command.Session) error
	// Lost says whether presence was flushed since the gateway announced itself last.
	Lost(ctx context.Context, gateway, incarnation string) (bool, error)
	// Announce is the heartbeat: presence counts only while beat rises.
	Announce(ctx context.Context, g command.Gateway, beat int64) error
	// Watch calls f for sessions opened anywhere, one after the other, until ctx is done. f does not block.
	Watch(ctx context.Context, f func(command.Session)) error
}

// Newest is what a Sessions may also be: then gateways look, beside Watch, which may miss what happens while presence
// is away.
type Newest interface {
	// Sessions looks up the newest session of each endpoint that has one.
	Sessions(ctx context.Context, endpoints []fleet.DeviceID) (map[fleet.DeviceID]command.Session, error)
}
