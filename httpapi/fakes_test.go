package httpapi

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

const (
	theCommand  = command.ID("01890a5d-ac96-774b-bcce-b302099a8057")
	strangersID = command.ID("01890a5d-ac96-774b-bcce-b302099a8058")
	theLetter   = "01890a5d-ac96-774b-bcce-b302099a8059"
)

// fakeCommands is a command side with one command, theCommand of acme, that a test moves by hand.
type fakeCommands struct {
	mu      sync.Mutex
	moved   chan struct{} // closed and replaced whenever something moves
	fail    error         // what every call answers
	panics  bool
	view    command.View
	changed []command.OperationView
	waited  []time.Duration

	issued     []command.Request
	keys       []command.Idempotency
	by         []fleet.Token
	pages      []command.Page
	filters    []any
	replays    bool
	readings   []meterread.Reading
	events     []command.Event
	letter     command.DeadLetter // what theLetter is
	actors     []command.Actor
	selections []command.LetterSelection
	failPage   int // the page of a list, from 1, that cannot be had
}

func newFakeCommands() *fakeCommands {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	return &fakeCommands{letter: command.DeadLetter{Source: command.LetterUplink, Cause: "BAD_JSON"}, moved: make(chan struct{}), view: command.View{ID: theCommand, Tenant: tenant, Kind: command.MeterRead,
		Mode: command.Async, Status: command.StatusRunning, Priority: 5, CreatedAt: at, ExpiresAt: at.Add(time.Hour),
		Items: []meterread.Item{"1-0:1.8.0"}, Version: 1, Counts: command.Counts{Total: 2, Queued: 2}, Errors: map[string]int{}}}
}

func (f *fakeCommands) enter(by fleet.Token) error {
	f.by = append(f.by, by)
	if f.panics {
		panic("boom")
	}
	return f.fail
}

func (f *fakeCommands) known(by fleet.Token, id command.ID) error {
	if err := f.enter(by); err != nil {
		return err
	}
	if by.Tenant != f.view.Tenant || id != f.view.ID {
		return command.ErrNotFound
	}
	return nil
}

// change changes the fake while the server runs, and wakes those who wait.
func (f *fakeCommands) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
	close(f.moved)
	f.moved = make(chan struct{})
}

// move tells of operations that moved in one transaction.
func (f *fakeCommands) move(state command.State, devices ...meterread.DeviceID) {
	f.change(func() {
		f.view.Version++
		for _, d := range devices {
			f.changed = slices.DeleteFunc(f.changed, func(o command.OperationView) bool { return o.DeviceID == d })
			o := command.Operation{CommandID: theCommand, DeviceID: d, State: state, Delivery: command.MaybeSent,
				Changed: f.view.Version, Moves: []command.Move{{State: state, At: f.view.CreatedAt}}}
			f.changed = append(f.changed, o.View())
		}
	})
}

func (f *fakeCommands) end(s command.Status) {
	f.change(func() { f.view.Status = s; at := f.view.CreatedAt; f.view.FinishedAt = &at })
}

func (f *fakeCommands) Issue(_ context.Context, by fleet.Actor, r command.Request, key command.Idempotency) (command.View, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issued, f.keys = append(f.issued, r), append(f.keys, key)
	return f.view, f.replays, f.enter(by.Token)
}

func (f *fakeCommands) Get(_ context.Context, by fleet.Token, id command.ID) (command.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.view
	v.Operations = f.changed
	return v, f.known(by, id)
}

func (f *fakeCommands) Wait(ctx context.Context, by fleet.Token, id command.ID, d time.Duration) (command.View, error) {
	over := time.After(d)
	f.mu.Lock()
	f.waited = append(f.waited, d)
	f.mu.Unlock()
	for {
		f.mu.Lock()
		err, v, moved := f.known(by, id), f.view, f.moved
		f.mu.Unlock()
		if err != nil || v.Status != command.StatusRunning {
			return v, err
		}
		select {
		case <-ctx.Done():
			return command.View{}, ctx.Err() // the harder of the two ways to leave
		case <-over:
			return v, nil
		case <-moved:
		}
	}
}

func (f *fakeCommands) Changes(ctx context.Context, by fleet.Token, id command.ID, after int64) ([]command.OperationView, bool, error) {
	for range 2 {
		f.mu.Lock()
		err, moved := f.known(by, id), f.moved
		done := f.view.Status != command.StatusRunning
		var ops []command.OperationView
		for _, o := range f.changed {
			if o.Changed > after {
				ops = append(ops, o)
			}
		}
		f.mu.Unlock()
		if err != nil || done || len(ops) > 0 {
			return ops, done, err
		}
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-moved:
		}
	}
	return nil, false, nil
}

func (f *fakeCommands) Cancel(_ context.Context, by fleet.Actor, id command.ID) (command.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.view
	v.Status = command.StatusCancelled
	return v, f.known(by.Token, id)
}

func (f *fakeCommands) Retry(_ context.Context, by fleet.Actor, id command.ID, key command.Idempotency) (command.View, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = append(f.keys, key)
	v := f.view
	v.ID, v.ParentID = strangersID, &id
	return v, false, f.known(by.Token, id)
}

// paged notes a filter and gives the part of all that is asked for; a cursor is a number.
func paged[T any](f *fakeCommands, by fleet.Token, filter any, p command.Page, all []T) (command.List[T], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pages, f.filters = append(f.pages, p), append(f.filters, filter)
	if err := f.enter(by); err != nil {
		return command.List[T]{}, err
	}
	if f.failPage == len(f.pages) {
		return command.List[T]{}, command.ErrUnavailable
	}
	at, err := strconv.Atoi("0" + p.Cursor)
	if err != nil {
		return command.List[T]{}, &command.Invalid{Fields: []command.FieldError{{Pointer: "?cursor", Detail: "is not one"}}}
	}
	end := min(at+p.Limit, len(all))
	if by.Tenant != tenant {
		return command.List[T]{}, nil
	}
	l := command.List[T]{Items: slices.Clone(all[min(at, end):end])}
	if end < len(all) {
		l.NextCursor = strconv.Itoa(end)
	}
	return l, nil
}

func (f *fakeCommands) Commands(_ context.Context, by fleet.Token, flt command.CommandFilter, p command.Page) (command.List[command.View], error) {
	return paged(f, by, flt, p, []command.View{f.view})
}

func (f *fakeCommands) Operations(_ context.Context, by fleet.Token, flt command.OperationFilter, p command.Page) (command.List[command.OperationView], error) {
	return paged(f, by, flt, p, f.changed)
}

func (f *fakeCommands) Readings(_ context.Context, by fleet.Token, flt command.ReadingFilter, p command.Page) (command.List[meterread.Reading], error) {
	var mine []meterread.Reading
	for _, r := range f.readings {
		if r.DeviceID == flt.DeviceID {
			mine = append(mine, r)
		}
	}
	return paged(f, by, flt, p, mine)
}

func (f *fakeCommands) Latest(_ context.Context, by fleet.Token, d meterread.DeviceID) ([]meterread.Reading, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(by); err != nil {
		return nil, err
	}
	if by.Tenant != tenant || d != "m-001" {
		return nil, command.ErrNotFound
	}
	return f.readings, nil
}

func (f *fakeCommands) Events(_ context.Context, by fleet.Token, flt command.EventFilter, p command.Page) (command.List[command.Event], error) {
	return paged(f, by, flt, p, f.events)
}

func (f *fakeCommands) DeadLetters(_ context.Context, by fleet.Token, flt command.DeadLetterFilter, p command.Page) (command.List[command.DeadLetter], error) {
	return paged(f, by, flt, p, []command.DeadLetter{{ID: theLetter, Tenant: tenant, Source: command.LetterUplink, Cause: "BAD_JSON", Status: command.LetterOpen}})
}

func (f *fakeCommands) decide(by fleet.Token, id, status string) (command.DeadLetter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(by); err != nil {
		return command.DeadLetter{}, err
	}
	if by.Tenant != tenant || id != theLetter {
		return command.DeadLetter{}, command.ErrNotFound
	}
	l := f.letter
	l.ID, l.Tenant, l.Status = id, tenant, status
	return l, nil
}

func (f *fakeCommands) DeadLetter(_ context.Context, by fleet.Token, id string) (command.DeadLetter, error) {
	return f.decide(by, id, command.LetterOpen)
}

func (f *fakeCommands) DeadLetterCauses(_ context.Context, by fleet.Token, flt command.DeadLetterFilter) ([]command.LetterCause, error) {
	l, err := paged(f, by, flt, command.Page{Limit: 10}, []command.LetterCause{{Cause: "BAD_JSON", Count: 1}})
	return l.Items, err
}

func (f *fakeCommands) Replay(_ context.Context, by command.Actor, id string) (command.DeadLetter, error) {
	f.actors = append(f.actors, by)
	return f.decide(by.Token, id, command.LetterReplayed)
}

func (f *fakeCommands) Discard(_ context.Context, by command.Actor, id string) (command.DeadLetter, error) {
	f.actors = append(f.actors, by)
	return f.decide(by.Token, id, command.LetterDiscarded)
}

func (f *fakeCommands) DecideMany(_ context.Context, by command.Actor, as string, r command.LetterSelection, key command.Idempotency) (command.BulkDecision, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actors, f.selections, f.keys = append(f.actors, by), append(f.selections, r), append(f.keys, key)
	done := command.BulkDecision{ID: theLetter, Status: as, Commands: []command.ID{}}
	if err := f.enter(by.Token); err != nil {
		return done, false, err
	}
	if by.Tenant == tenant {
		done.Letters, done.Uplinks = 1, 1
	}
	return done, f.replays, nil
}
