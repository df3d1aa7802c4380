package httpapi

import (
	"context"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// Commands is the command side as the API needs it; *command.Service is one. by is who asks: whatever belongs to
// another tenant is command.ErrNotFound.
type Commands interface {
	Issuer
	Watcher
	Centre
	Letters
}

// Issuer takes commands.
type Issuer interface {
	// Issue commits a command. replayed says that it was there before, under the same key.
	Issue(ctx context.Context, by fleet.Actor, r command.Request, key command.Idempotency) (v command.View, replayed bool, err error)
	// Cancel ends what is open of a command; Retry makes a new one for those that did not succeed.
	Cancel(ctx context.Context, by fleet.Actor, id command.ID) (command.View, error)
	Retry(ctx context.Context, by fleet.Actor, id command.ID, key command.Idempotency) (command.View, bool, error)
}

// Watcher follows one command.
type Watcher interface {
	// Get shows a command with up to 1000 operations.
	Get(ctx context.Context, by fleet.Token, id command.ID) (command.View, error)
	// Wait shows it as soon as it has ended, or as it is after d or when ctx is done.
	Wait(ctx context.Context, by fleet.Token, id command.ID, d time.Duration) (command.View, error)
	// Changes lists operations whose Changed is beyond after, in its order. It blocks until there is one, a second has
	// passed or ctx is done. done: the command has ended and everything was returned.
	Changes(ctx context.Context, by fleet.Token, id command.ID, after int64) (ops []command.OperationView, done bool, err error)
}

// Centre is the operations centre: everything that is looked for in the record.
type Centre interface {
	Commands(ctx context.Context, by fleet.Token, f command.CommandFilter, p command.Page) (command.List[command.View], error)
	Operations(ctx context.Context, by fleet.Token, f command.OperationFilter, p command.Page) (command.List[command.OperationView], error)
	Readings(ctx context.Context, by fleet.Token, f command.ReadingFilter, p command.Page) (command.List[meterread.Reading], error)
	Latest(ctx context.Context, by fleet.Token, d meterread.DeviceID) ([]meterread.Reading, error)
	Events(ctx context.Context, by fleet.Token, f command.EventFilter, p command.Page) (command.List[command.Event], error)
}

// Letters is what could not be understood or was given up.
type Letters interface {
	DeadLetters(ctx context.Context, by fleet.Token, f command.DeadLetterFilter, p command.Page) (command.List[command.DeadLetter], error)
	DeadLetter(ctx context.Context, by fleet.Token, id string) (command.DeadLetter, error)
	DeadLetterCauses(ctx context.Context, by fleet.Token, f command.DeadLetterFilter) ([]command.LetterCause, error)
	Replay(ctx context.Context, by command.Actor, id string) (command.DeadLetter, error)
	Discard(ctx context.Context, by command.Actor, id string) (command.DeadLetter, error)
	// DecideMany replays or discards many, up to a bound; again says that the key was used before.
	DecideMany(ctx context.Context, by command.Actor, as string, r command.LetterSelection, key command.Idempotency) (done command.BulkDecision, again bool, err error)
}

// Overviews says how things stand; *command.Overviews is one.
type Overviews interface {
	// Overview may be a few seconds old.
	Overview(ctx context.Context, tenant fleet.Tenant) (command.Overview, error)
}

// AuditLog is who did what.
type AuditLog interface {
	// Audit lists entries of a tenant, newest first.
	Audit(ctx context.Context, tenant fleet.Tenant, f fleet.AuditFilter, p command.Page) (command.List[fleet.Entry], error)
}

// Sessions says who is connected; command.Presence is one.
type Sessions interface {
	// Sessions looks up the newest session of each endpoint that has one.
	Sessions(ctx context.Context, endpoints []meterread.DeviceID) (map[meterread.DeviceID]command.Session, error)
}

var (
	_ Commands  = (*command.Service)(nil)
	_ Overviews = (*command.Overviews)(nil)
)
