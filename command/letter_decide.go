package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"meterline/fleet"
	"meterline/meterread"
)

// ErrNothingToDecide says that no dead letter is left that a decision could be about.
var ErrNothingToDecide = errors.New("no such dead letter is open")

// LetterSelection is the body of a call about many dead letters. All that it names must match.
type LetterSelection struct {
	IDs        []string   `json:"ids"`
	Cause      string     `json:"cause"`
	Source     string     `json:"source"`
	EndpointID string     `json:"endpoint_id"`
	DeviceID   string     `json:"device_id"`
	CommandID  string     `json:"command_id"`
	From       *time.Time `json:"from"`
	To         *time.Time `json:"to"`
	All        bool       `json:"all"` // must be said when nothing else is
	Limit      *int       `json:"limit"`
}

// The bounds of one call about many dead letters.
const (
	decideMost   = 10_000 // letters
	commandsMost = 100    // new commands
)

// filter is what the selection selects of the open letters.
func (r LetterSelection) filter() (f DeadLetterFilter, limit int, err error) {
	bad := &Invalid{}
	f = DeadLetterFilter{IDs: r.IDs, Status: LetterOpen, Cause: r.Cause, Source: r.Source, EndpointID: meterread.DeviceID(r.EndpointID),
		DeviceID: meterread.DeviceID(r.DeviceID), CommandID: ID(r.CommandID)}
	if r.From != nil {
		f.From = *r.From
	}
	if r.To != nil {
		f.To = *r.To
	}
	r.checkNarrow(bad)
	if r.Cause != "" && !slices.Contains(Causes, r.Cause) {
		bad.Add("/cause", "must be one of "+strings.Join(Causes, ", "))
	}
	if r.CommandID != "" && !IsID(r.CommandID) {
		bad.Add("/command_id", "is not the id of a command")
	}
	if r.Source != "" && r.Source != LetterUplink && r.Source != LetterOperation {
		bad.Add("/source", "must be uplink or operation")
	}
	if r.From != nil && r.To != nil && r.To.Before(*r.From) {
		bad.Add("/to", "must not be before from")
	}
	limit = decideMost
	if r.Limit != nil {
		limit = *r.Limit
	}
	if limit < 1 || limit > decideMost {
		bad.Add("/limit", fmt.Sprintf("must be 1 to %d", decideMost))
	}
	return f, limit, bad.OrNil()
}

// checkNarrow complains unless either something narrows the selection, or all is said.
func (r LetterSelection) checkNarrow(bad *Invalid) {
	named := r.Cause + r.Source + r.EndpointID + r.DeviceID + r.CommandID
	narrow := r.IDs != nil || named != "" || r.From != nil || r.To != nil
	switch {
	case !narrow && !r.All:
		bad.Add("", "must say which: by ids, cause, source, endpoint_id, device_id, command_id, from or to, or all")
	case narrow && r.All:
		bad.Add("/all", "must not be said with anything else that says which")
	case r.IDs != nil && len(r.IDs) == 0:
		bad.Add("/ids", "must name at least one dead letter")
	case len(r.IDs) > decideMost:
		bad.Add("/ids", fmt.Sprintf("must not be more than %d", decideMost))
	}
}

// DeadLetters lists what could not be understood or was given up, newest first.
func (s *Service) DeadLetters(ctx context.Context, by fleet.Token, f DeadLetterFilter, p Page) (List[DeadLetter], error) {
	return s.opt.Book.DeadLetters(ctx, by.Tenant, f, p)
}

// DeadLetter shows one.
func (s *Service) DeadLetter(ctx context.Context, by fleet.Token, id string) (DeadLetter, error) {
	return s.opt.Book.DeadLetter(ctx, by.Tenant, id)
}

// DeadLetterCauses adds up by cause what could not be understood or was given up.
func (s *Service) DeadLetterCauses(ctx context.Context, by fleet.Token, f DeadLetterFilter) ([]LetterCause, error) {
	return s.opt.Book.DeadLetterCauses(ctx, by.Tenant, f)
}

// decision is a new one.
func (s *Service) decision(by Actor, as string) Decision {
	return Decision{ID: uuid.Must(uuid.NewV7()).String(), As: as, By: by,
		Partition: func(d DeviceID) int { return fleet.Partition(d, s.opt.Partitions) }}
}

// Replay has a dead letter handled again: an uplink as it was, by the owner of its sender's partition; a dead operation as
// a new command, at once.
func (s *Service) Replay(ctx context.Context, by Actor, id string) (DeadLetter, error) {
	l, err := s.opt.Book.DeadLetter(ctx, by.Tenant, id)
	if err != nil {
		return DeadLetter{}, err
	}
	if l.Status != LetterOpen {
		return DeadLetter{}, ErrAlreadyDecided
	}
	if why := l.final(); why != "" {
		return DeadLetter{}, &Invalid{Fields: []FieldError{{Detail: why}}}
	}
	d, f := s.decision(by, LetterReplayed), DeadLetterFilter{IDs: []string{id}}
	if l.Source == LetterOperation {
		err = s.reissue(ctx, d, f, l.CommandID, 1)
	} else {
		err = s.decideOne(ctx, d, f)
	}
	if errors.Is(err, ErrNothingToDecide) {
		return DeadLetter{}, s.whyNot(ctx, by, id)
	}
	if err != nil {
		return DeadLetter{}, err
	}
	s.tellReplays(ctx)
	return s.handled(ctx, by, id)
}

// handledWithin is how long the answer to a replay waits for its being handled.
const handledWithin = time.Second

// handled shows a replayed letter as soon as it was handled again, or as it is after a while.
func (s *Service) handled(ctx context.Context, by Actor, id string) (DeadLetter, error) {
	began := time.Now()
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		l, err := s.opt.Book.DeadLetter(ctx, by.Tenant, id)
		if err != nil || l.HandledAt != nil || ctx.Err() != nil || time.Since(began) > handledWithin {
			return l, err
		}
		pause(ctx, wait)
	}
}

// whyNot is the error of a letter that was open a moment ago and could not be decided.
func (s *Service) whyNot(ctx context.Context, by Actor, id string) error {
	l, err := s.opt.Book.DeadLetter(ctx, by.Tenant, id)
	switch {
	case err != nil:
		return err
	case l.Status != LetterOpen:
		return ErrAlreadyDecided
	}
	return &Invalid{Fields: []FieldError{{Detail: "the device is gone, disabled, or no target of such a command"}}}
}

// Discard closes a dead letter without doing anything about it.
func (s *Service) Discard(ctx context.Context, by Actor, id string) (DeadLetter, error) {
	err := s.decideOne(ctx, s.decision(by, LetterDiscarded), DeadLetterFilter{IDs: []string{id}})
	if errors.Is(err, ErrNothingToDecide) {
		err = s.whyNot(ctx, by, id)
	}
	if err != nil {
		return DeadLetter{}, err
	}
	return s.opt.Book.DeadLetter(ctx, by.Tenant, id)
}

func (s *Service) decideOne(ctx context.Context, d Decision, f DeadLetterFilter) error {
	n, err := s.opt.Book.Decide(ctx, d, f, 1)
	if err == nil && n == 0 {
		return ErrNothingToDecide
	}
	return err
}

// DecideMany replays or discards open dead letters, oldest first, up to a bound. Whatever ends it in the middle, each letter
// has been decided or is open: called again with the same key it does what is left of the same letters, without one it goes
// on with what is open then. again says that the key was used before.
func (s *Service) DecideMany(ctx context.Context, by Actor, as string, r LetterSelection, key Idempotency) (done BulkDecision, again bool, err error) {
	f, limit, err := r.filter()
	if err != nil {
		return BulkDecision{}, false, err
	}
	d := s.decision(by, as)
	var at time.Time
	if d.ID, at, again, err = s.opt.Book.Decision(ctx, by.Tenant, key); err != nil {
		return BulkDecision{}, false, err
	}
	if f.To.IsZero() || at.Before(f.To) {
		f.To = at // what comes meanwhile is not meant
	}
	if done, err = s.opt.Book.Decided(ctx, d, f); err != nil {
		return BulkDecision{}, false, err
	}
	limit -= done.Letters
	if limit > 0 {
		if err := s.decideMany(ctx, d, f, limit, commandsMost-len(done.Commands)); err != nil {
			return BulkDecision{}, false, err
		}
		done, err = s.opt.Book.Decided(ctx, d, f)
	}
	return done, again, err
}

func (s *Service) decideMany(ctx context.Context, d Decision, f DeadLetterFilter, limit, commands int) error {
	n, err := s.opt.Book.Decide(ctx, d, f, limit)
	if err != nil {
		return err
	}
	if d.As == LetterDiscarded {
		return nil
	}
	if n > 0 {
		s.tellReplays(ctx)
	}
	if limit -= n; limit <= 0 || commands <= 0 || f.Source == LetterUplink || !d.By.Can(fleet.CommandsWrite) {
		return nil
	}
	dead, err := s.opt.Book.DeadCommands(ctx, d, f, commands)
	if err != nil {
		return err
	}
	for _, id := range dead {
		made, err := s.reissued(ctx, d, f, id, limit)
		if err != nil && !errors.Is(err, ErrNothingToDecide) && !errors.Is(err, ErrForbidden) {
			return err
		}
		if limit -= made; limit <= 0 {
			return nil
		}
	}
	return nil
}

func (s *Service) reissue(ctx context.Context, d Decision, f DeadLetterFilter, id ID, limit int) error {
	_, err := s.reissued(ctx, d, f, id, limit)
	return err
}

// reissued makes one new command of dead operations of another, and says of how many.
func (s *Service) reissued(ctx context.Context, d Decision, f DeadLetterFilter, id ID, limit int) (int, error) {
	c, err := s.recorded(ctx, d.By.Token, id)
	if err != nil {
		return 0, err
	}
	child, ttl := c.child(nil)
	v, _, err := s.make(ctx, d.By, child, func(c Command) (Created, error) {
		return s.opt.Book.Reissue(ctx, d, f, c, ttl, limit, firstChunk, Born)
	})
	return v.Counts.Total, err
}

// tellReplays wakes the owners of partitions in which dead letters wait.
func (s *Service) tellReplays(ctx context.Context) {
	_ = s.patiently(ctx, "notify of replays", func(ctx context.Context) error { return s.opt.Notices.Notify(ctx, Notice{Replays: true}) })
}
