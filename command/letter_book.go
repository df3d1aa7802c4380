package command

import (
	"context"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// LetterBook is the dead letters in the record, as the service sees them.
type LetterBook interface {
	// DeadLetters lists dead letters, newest first. Payloads are cut.
	DeadLetters(ctx context.Context, tenant fleet.Tenant, f DeadLetterFilter, p Page) (List[DeadLetter], error)
	DeadLetter(ctx context.Context, tenant fleet.Tenant, id string) (DeadLetter, error)
	// DeadLetterCauses adds dead letters up by cause, those of which there are most first.
	DeadLetterCauses(ctx context.Context, tenant fleet.Tenant, f DeadLetterFilter) ([]LetterCause, error)

	// Decision opens a decision about many: its id, and when it was opened by the record's clock. With an idempotency key
	// used before it is that of then, and again; ErrKeyReused with another body.
	Decision(ctx context.Context, tenant fleet.Tenant, key Idempotency) (id string, at time.Time, again bool, err error)
	// Decide closes up to limit open letters that the filter matches, oldest first, in one transaction, and says how many.
	// To be replayed are uplinks alone, of those that can be; they wait from then on (see Letters). Of several who decide at
	// once one gets each letter.
	Decide(ctx context.Context, d Decision, f DeadLetterFilter, limit int) (int, error)
	// DeadCommands lists up to limit commands of which dead operations could be asked for again: their letters are open,
	// match, and d.By may replay them.
	DeadCommands(ctx context.Context, d Decision, f DeadLetterFilter, limit int) ([]ID, error)
	// Reissue commits a command, as Create does, for the devices of up to limit such letters of c.ParentID, and in the same
	// transaction closes these. ErrNothingToDecide when there is none.
	Reissue(ctx context.Context, d Decision, f DeadLetterFilter, c Command, ttl time.Duration, limit, first int, born BornFunc) (Created, error)
	// Decided says what a decision has done so far, and what it leaves: see BulkDecision.
	Decided(ctx context.Context, d Decision, f DeadLetterFilter) (BulkDecision, error)
}

// DeadLetterFilter narrows a list of dead letters; zero fields do not.
type DeadLetterFilter struct {
	IDs        []string
	Cause      string
	Status     string
	Source     string
	EndpointID meterread.DeviceID
	DeviceID   meterread.DeviceID
	CommandID  ID
	ParentID   string
	DecisionID string
	From, To   time.Time // of CreatedAt: [From, To)
}

// LetterCause is how many dead letters have a cause.
type LetterCause struct {
	Cause  string    `json:"cause"`
	Count  int       `json:"count"`
	Oldest time.Time `json:"oldest"`
	Newest time.Time `json:"newest"`
}

// Actor is who asks for something that is written down, and by which request.
type Actor = fleet.Actor

// Decision is one call that replays or discards dead letters.
type Decision struct {
	ID        string
	As        string // LetterReplayed or LetterDiscarded
	By        Actor
	Partition func(endpoint DeviceID) int
}

// BulkDecision is what a call about many dead letters did.
type BulkDecision struct {
	ID         string `json:"id" doc:"of the decision: the letters that it decided show it"`
	Status     string `json:"status" enum:"replayed,discarded" doc:"that the letters have now"`
	Letters    int    `json:"letters" doc:"how many it decided"`
	Uplinks    int    `json:"uplinks" doc:"of these"`
	Operations int    `json:"operations" doc:"of these"`
	Commands   []ID   `json:"commands" doc:"new ones, for the dead operations: one for those of each command"`
	More       bool   `json:"more" doc:"there are more that match and can be decided so: call again"`
	Skipped    int    `json:"skipped" doc:"open ones that match and cannot be replayed; counted up to 10000"`
}
