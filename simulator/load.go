package simulator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"meterline/command"
	"meterline/meterread"
)

// Targets says how the commands of a load name their devices.
type Targets string

// The ways to name devices.
const (
	TargetIDs   Targets = "ids"   // CommandSize devices, in turn
	TargetGroup Targets = "group" // the fleet's group
	TargetAll   Targets = "all"   // every device of the tenant
)

// Load is what is asked of a fleet.
type Load struct {
	Rate        float64       // commands per second
	Duration    time.Duration // for so long commands are issued; 0: until ctx is done
	CommandSize int           // devices per command, with TargetIDs
	Targets     Targets
	Group       string
	Devices     []meterread.DeviceID // to choose from, with TargetIDs
	Items       []meterread.Item
	Mode        command.Mode
	Timeout     time.Duration // the command's deadline; 0: the server's default
	Poll        time.Duration // between two polls of a command
	Drain       time.Duration // after the last command, for so long the open ones are polled
	MaxOpen     int           // commands open at once; what would pass it is held back and counted
}

// LoadResult is what came of a load.
type LoadResult struct {
	Seconds     float64        `json:"seconds"` // in which commands were issued
	Issued      int            `json:"commands_issued"`
	Refused     int            `json:"commands_refused"`   // POSTs that failed
	HeldBack    int            `json:"commands_held_back"` // not issued: too many were open
	Unfinished  int            `json:"commands_unfinished"`
	PollErrors  int            `json:"poll_errors"`
	Operations  int            `json:"operations"`
	States      command.Counts `json:"states"` // as last seen
	Codes       map[string]int `json:"codes"`
	Readings    int            `json:"readings"`       // seen in answers to polls
	PerSecond   float64        `json:"readings_per_s"` // of those, from the first POST to the last reading seen
	Seen        Latency        `json:"latency"`        // from the POST to the poll that showed the operation's readings
	Received    Latency        `json:"received"`       // from the POST to the server's received_at of the readings
	LastError   string         `json:"last_error,omitempty"`
	firstPost   time.Time
	lastReading time.Time
}

// issuer is the part of API that a load needs.
type issuer interface {
	Issue(ctx context.Context, o Order, idempotencyKey string) (CommandView, error)
	Command(ctx context.Context, id meterread.CommandID) (CommandView, error)
	Operations(ctx context.Context, id meterread.CommandID, each func(OperationView)) error
}

// Loader issues commands and follows each to its end. Result may be asked for while Run runs.
type Loader struct {
	load Load
	api  issuer

	mu       sync.Mutex // guards all below
	result   LoadResult
	seen     []time.Duration
	received []time.Duration
	open     int
	next     int // device to begin with
}

// NewLoader makes a loader; Run starts it.
func NewLoader(load Load, api issuer) *Loader {
	return &Loader{load: load, api: api, result: LoadResult{Codes: map[string]int{}}}
}

// Run issues commands until the load's duration is over or ctx is done, then waits until all have ended, at most for
// Drain. It fails only when no command at all could be issued.
func (l *Loader) Run(ctx context.Context) error {
	issuing, stop := ctx, context.CancelFunc(func() {})
	if l.load.Duration > 0 {
		issuing, stop = context.WithTimeout(ctx, l.load.Duration)
	}
	defer stop()
	following, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()

	var followers errgroup.Group
	began := time.Now()
	l.issueAll(issuing, following, &followers)
	l.mu.Lock()
	l.result.Seconds = time.Since(began).Seconds()
	l.mu.Unlock()

	defer time.AfterFunc(l.load.Drain, giveUp).Stop()
	_ = followers.Wait() // each counts its own failures
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.result.Issued == 0 && l.result.Refused > 0 {
		return errors.New(l.result.LastError)
	}
	return nil
}

// issueAll posts a command at every beat. A POST that takes long does not delay the next.
func (l *Loader) issueAll(issuing, following context.Context, followers *errgroup.Group) {
	beat := time.NewTicker(max(time.Duration(float64(time.Second)/l.load.Rate), time.Microsecond))
	defer beat.Stop()
	for {
		if order, ok := l.nextOrder(); ok {
			followers.Go(func() error {
				l.follow(following, order)
				return nil
			})
		}
		select {
		case <-issuing.Done():
			return
		case <-beat.C:
		}
	}
}

// nextOrder takes the next devices in their turn; false when too many commands are open.
func (l *Loader) nextOrder() (Order, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.load.MaxOpen {
		l.result.HeldBack++
		return Order{}, false
	}
	l.open++
	o := Order{Kind: command.MeterRead, Mode: l.load.Mode, Items: l.load.Items, TimeoutS: l.load.Timeout.Seconds()}
	switch l.load.Targets {
	case TargetAll:
		o.Targets.All = true
	case TargetGroup:
		o.Targets.Group = l.load.Group
	default:
		for range min(l.load.CommandSize, len(l.load.Devices)) {
			o.Targets.DeviceIDs = append(o.Targets.DeviceIDs, l.load.Devices[l.next%len(l.load.Devices)])
			l.next++
		}
	}
	return o, true
}

// pursuit is one command on its way.
type pursuit struct {
	posted time.Time
	shown  map[meterread.DeviceID]bool // operations whose readings were seen
	last   CommandView
	ended  bool
}

// follow issues a command and polls it until it has ended.
func (l *Loader) follow(ctx context.Context, o Order) {
	p := &pursuit{posted: time.Now(), shown: map[meterread.DeviceID]bool{}}
	view, err := l.api.Issue(ctx, o, uuid.NewString())
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
		l.result.Refused++
		l.result.LastError = err.Error()
		return
	}
	l.issued(p, view)
	defer func() { l.closed(p) }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for !p.ended {
		began := time.Now()
		if err := l.look(ctx, p, view.ID); err != nil {
			if ctx.Err() != nil {
				return
			}
			l.pollFailed(err)
		}
		if p.ended {
			return
		}
		// A command of many pages is asked for less often: the simulator is not to be the load.
		timer.Reset(max(l.load.Poll, 4*time.Since(began)))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// look polls once.
func (l *Loader) look(ctx context.Context, p *pursuit, id meterread.CommandID) error {
	view, err := l.api.Command(ctx, id)
	if err != nil {
		return err
	}
	moved := p.last.Counts != view.Counts
	operations := view.Operations
	if view.Counts.Total > len(operations) && (moved || len(p.shown) < view.Counts.Succeeded) {
		operations = nil
		err := l.api.Operations(ctx, id, func(o OperationView) { operations = append(operations, o) })
		if err != nil {
			return err
		}
	}
	now := time.Now()
	view.Operations = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range operations {
		if o.State == "succeeded" && len(o.Readings) > 0 && !p.shown[o.DeviceID] {
			p.shown[o.DeviceID] = true
			l.answered(p, o, now)
		}
	}
	p.last = view
	p.ended = view.Status != "running" && len(p.shown) >= view.Counts.Succeeded
	return nil
}

func (l *Loader) answered(p *pursuit, o OperationView, now time.Time) {
	l.result.Readings += len(o.Readings)
	l.result.lastReading = now
	l.seen = append(l.seen, now.Sub(p.posted))
	l.received = append(l.received, o.Readings[0].ReceivedAt.Sub(p.posted))
}

func (l *Loader) issued(p *pursuit, view CommandView) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.last = view
	p.last.Operations = nil
	l.result.Issued++
	if l.result.firstPost.IsZero() || p.posted.Before(l.result.firstPost) {
		l.result.firstPost = p.posted
	}
}

func (l *Loader) pollFailed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.PollErrors++
	l.result.LastError = err.Error()
}

func (l *Loader) closed(p *pursuit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if !p.ended {
		l.result.Unfinished++
	}
	c, s := p.last.Counts, &l.result.States
	l.result.Operations += c.Total
	s.Total += c.Total
	s.Queued += c.Queued
	s.Sent += c.Sent
	s.Delivered += c.Delivered
	s.Accepted += c.Accepted
	s.Succeeded += c.Succeeded
	s.Failed += c.Failed
	s.Expired += c.Expired
	s.Cancelled += c.Cancelled
	s.Dead += c.Dead
	for code, n := range p.last.Errors {
		l.result.Codes[code] += n
	}
}

// Result sums up what was seen so far.
func (l *Loader) Result() LoadResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.result
	r.Codes = make(map[string]int, len(l.result.Codes))
	for code, n := range l.result.Codes {
		r.Codes[code] = n
	}
	r.Seen, r.Received = SumUp(l.seen), SumUp(l.received)
	if took := r.lastReading.Sub(r.firstPost).Seconds(); r.Readings > 0 && took > 0 {
		r.PerSecond = float64(r.Readings) / took
	}
	return r
}

// Progress is one line of numbers, cheap enough to be asked for every second.
func (l *Loader) Progress() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("commands %d (%d open, %d refused), readings seen %d", l.result.Issued, l.open, l.result.Refused, l.result.Readings)
}
