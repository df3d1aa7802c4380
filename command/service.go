package command

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"meterline/fault"
	"meterline/fleet"
)

// Service takes commands from users and answers for them. All its methods are safe for concurrent use; whatever belongs
// to another tenant is ErrNotFound.
type Service struct {
	opt    ServiceOptions
	hub    hub
	fills  turns
	clock  *Clock
	away   atomic.Int64 // until when the live state is left alone, in Unix nanoseconds
	limits struct {
		sync.Mutex
		open map[fleet.Tenant]openCount
	}
}

// ServiceOptions are what a Service stands on.
type ServiceOptions struct {
	Book    Book
	Ledger  Ledger
	Live    Live
	Newest  Newest
	Notices Notices
	Clock   *Clock
	Readers *Readers // nil: those that asked this service
	Logger  *slog.Logger
	// MaxOpen bounds the open operations of one tenant; 0 means DefaultMaxOpen.
	MaxOpen int
	// MaxAttempts is how often operations are sent at most whose command does not say; default DefaultAttempts.
	MaxAttempts PerKind[int]
	// Partitions is how many there are, as set at migration.
	Partitions int
}

// DefaultMaxOpen is the bound on one tenant's open operations.
const DefaultMaxOpen = 5_000_000

const (
	firstChunk   = 1000 // operations made in the transaction that accepts a command
	pageSize     = 1000 // operations shown with a command
	endChunk     = 5000 // operations ended in one transaction
	lookAgain    = time.Second
	cancelWithin = time.Minute
	livePatience = 500 * time.Millisecond
	liveAgain    = 2 * time.Second
	openCountOK  = time.Second // how old a count of open operations may be
)

type openCount struct {
	n  int
	at time.Time
}

// NewService makes a Service.
func NewService(opt ServiceOptions) *Service {
	if opt.MaxOpen == 0 {
		opt.MaxOpen = DefaultMaxOpen
	}
	if opt.MaxAttempts.All == 0 {
		opt.MaxAttempts.All = DefaultAttempts
	}
	if opt.Readers == nil {
		opt.Readers = &Readers{}
	}
	s := &Service{opt: opt, clock: opt.Clock}
	s.limits.open = map[fleet.Tenant]openCount{}
	return s
}

// Run listens to notices, so that those who wait hear of what moved, until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	return s.opt.Notices.Listen(ctx, func(n Notice) { s.hub.wake(n.Moved) })
}

// Issue accepts a command: when it returns without an error the command is committed. The error is an *Invalid, one of the
// sentinels of this package, or means that nothing is known to be committed.
func (s *Service) Issue(ctx context.Context, by Actor, r Request, key Idempotency) (View, bool, error) {
	c, ttl, err := r.command(s.clock.Now(), s.opt.MaxAttempts)
	if err != nil {
		return View{}, false, err
	}
	return s.issue(ctx, by, c, ttl, key)
}

// issue makes a new command.
func (s *Service) issue(ctx context.Context, by Actor, c Command, ttl time.Duration, key Idempotency) (View, bool, error) {
	return s.make(ctx, by, c, func(c Command) (Created, error) {
		return s.opt.Book.Create(ctx, c, ttl, key, firstChunk, Born)
	})
}

// make is the path of every new command: live state prepared, record committed, owners told, live state filled.
func (s *Service) make(ctx context.Context, by Actor, c Command, commit func(Command) (Created, error)) (View, bool, error) {
	if !c.Kind.allowed(by.Token) {
		return View{}, false, ErrForbidden
	}
	if err := s.room(ctx, by.Tenant); err != nil {
		return View{}, false, err
	}
	if c.Priority >= RealtimePriority {
		s.opt.Readers.came()
	}
	c.ID, c.Tenant, c.IssuedBy = ID(uuid.Must(uuid.NewV7()).String()), by.Tenant, by.ID
	c.Asked = Asked{by.Name, by.RequestID, by.RemoteAddr}
	token, live := s.prepare(ctx, c.ID) // before the commit: a move that overtakes us voids it
	made, err := commit(c)
	if err != nil {
		return View{}, false, err
	}
	fault.Point(fault.IssueCommitted)
	if made.Replayed {
		v, err := s.Get(ctx, by.Token, made.Command.ID)
		return v, true, err
	}
	s.tellArrived(ctx, made)
	v := made.Command.View()
	v.Operations = views(made.Operations)
	if live == nil && !made.Command.Expanding && v.Counts.Total <= LiveLimit {
		_ = s.patiently(ctx, "fill live state", func(ctx context.Context) error { return s.opt.Live.Fill(ctx, token, v) })
	}
	return v, false, nil
}

// tellArrived wakes the owners of the endpoints that have something to do.
func (s *Service) tellArrived(ctx context.Context, made Created) {
	if len(made.Operations) == 0 {
		return
	}
	a := arrived(made)
	_ = s.patiently(ctx, "notify of new operations", func(ctx context.Context) error {
		return s.opt.Notices.Notify(ctx, Notice{Arrived: []Arrived{a}, Moved: []ID{a.CommandID}})
	})
}

// room says whether the tenant may have more open operations. The count may be a second old.
func (s *Service) room(ctx context.Context, t fleet.Tenant) error {
	s.limits.Lock()
	known := s.limits.open[t]
	s.limits.Unlock()
	if time.Since(known.at) > openCountOK {
		n, err := s.opt.Book.OpenOperations(ctx, t)
		if err != nil {
			return err
		}
		known = openCount{n, time.Now()}
		s.limits.Lock()
		s.limits.open[t] = known
		s.limits.Unlock()
	}
	if known.n >= s.opt.MaxOpen {
		return ErrTooManyOpen
	}
	return nil
}

// recorded reads a command's row.
func (s *Service) recorded(ctx context.Context, by fleet.Token, id ID) (Command, error) {
	known, err := s.opt.Ledger.Commands(ctx, []ID{id})
	if err != nil {
		return Command{}, err
	}
	c, ok := known[id]
	if !ok || c.Tenant != by.Tenant {
		return Command{}, ErrNotFound
	}
	return c, nil
}

// Cancel ends what is open of a command. A device that was sent its command may still act; Delivery says whether.
func (s *Service) Cancel(ctx context.Context, by Actor, id ID) (View, error) {
	if err := s.opt.Book.Cancel(ctx, by, id); err != nil {
		return View{}, err
	}
	// From here on it is done to the end, also when the asker goes away. Should this process go away, a worker ends the rest.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelWithin)
	defer stop()
	var after DeviceID
	for more := true; more; {
		var err error
		_, after, more, err = s.opt.Ledger.End(ctx, nil, []ID{id}, Cancelled, "cancelled by "+by.ID, after, endChunk)
		if err != nil {
			s.Touched(ctx, []ID{id})
			return View{}, err
		}
	}
	s.Touched(ctx, []ID{id})
	return s.Get(ctx, by.Token, id)
}

// Touched tells everybody that operations of these commands were ended or moved by other hands than their owner's. The
// live state forgets them: what the owner has committed before may not have reached it yet.
func (s *Service) Touched(ctx context.Context, ids []ID) {
	// Not patiently: what is not dropped now is owed, and dropped as soon as it can be.
	limit, stop := context.WithTimeout(ctx, livePatience)
	defer stop()
	if err := s.opt.Live.Forget(limit, ids); err != nil {
		s.opt.Logger.Warn("live state is behind", "doing", "forget", "error", err)
	}
	n := Notice{Moved: ids, Ended: ids}
	for _, id := range ids {
		n.Arrived = append(n.Arrived, Arrived{CommandID: id})
	}
	_ = s.patiently(ctx, "notify of touched operations", func(ctx context.Context) error { return s.opt.Notices.Notify(ctx, n) })
}

// Retry issues a new command for the operations of another that did not succeed.
func (s *Service) Retry(ctx context.Context, by Actor, id ID, key Idempotency) (View, bool, error) {
	c, err := s.recorded(ctx, by.Token, id)
	if err != nil {
		return View{}, false, err
	}
	devices, err := s.opt.Book.Unsuccessful(ctx, by.Tenant, id)
	if err != nil {
		return View{}, false, err
	}
	if len(devices) == 0 {
		return View{}, false, &Invalid{Fields: []FieldError{{Detail: "no operation of the command ended without success"}}}
	}
	return s.again(ctx, by, c, devices, key)
}

// again issues what c asked for to some of its devices.
func (s *Service) again(ctx context.Context, by Actor, c Command, devices []DeviceID, key Idempotency) (View, bool, error) {
	child, ttl := c.child(devices)
	return s.issue(ctx, by, child, ttl, key)
}

// child is a command that asks some of c's devices for the same, and how long it may take.
func (c Command) child(devices []DeviceID) (Command, time.Duration) {
	began := c.CreatedAt
	if !c.NotBefore.IsZero() {
		began = c.NotBefore
	}
	return Command{
		ParentID: c.ID, Kind: c.Kind, Mode: c.Mode, Priority: c.Priority, Selector: Selector{DeviceIDs: devices},
		Items: c.Items, Params: c.Params, Attempts: c.Attempts, TraceParent: c.TraceParent,
	}, c.ExpiresAt.Sub(began)
}

// Commands lists commands, newest first.
func (s *Service) Commands(ctx context.Context, by fleet.Token, f CommandFilter, p Page) (List[View], error) {
	return s.opt.Book.FindCommands(ctx, by.Tenant, f, p)
}

// Operations lists operations, newest first: the operations centre.
func (s *Service) Operations(ctx context.Context, by fleet.Token, f OperationFilter, p Page) (List[OperationView], error) {
	return s.opt.Book.FindOperations(ctx, by.Tenant, f, p)
}

// arrived says where the operations of a transaction wait.
func arrived(made Created) Arrived {
	a := Arrived{CommandID: made.Command.ID, Seq: made.Command.Seq, Whole: len(made.Operations) == made.Command.Counts.Total,
		Urgent: made.Command.Priority >= RealtimePriority}
	seen := map[DeviceID]bool{}
	for _, o := range made.Operations {
		if !seen[o.EndpointID] {
			seen[o.EndpointID] = true
			a.Endpoints = append(a.Endpoints, o.EndpointID)
		}
	}
	return a
}

func views(ops []*Operation) []OperationView {
	vs := make([]OperationView, len(ops))
	for i, o := range ops {
		vs[i] = o.View()
	}
	return vs
}
