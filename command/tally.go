package command

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// Minute is what became of a tenant's operations, and how many readings came in, in one minute.
type Minute struct {
	Tenant    fleet.Tenant   `json:"-"`
	At        time.Time      `json:"at" doc:"when it began"`
	Readings  int            `json:"readings"`
	Succeeded int            `json:"succeeded"`
	Failed    int            `json:"failed"`
	Expired   int            `json:"expired"`
	Dead      int            `json:"dead"`
	Codes     map[string]int `json:"-"` // of those that failed or died
}

// Holding is how much of the uplink log waits, as one worker sees it.
type Holding struct {
	Backlog
	Bound int64 // entries that one partition may hold
}

// TallyBook keeps what workers count.
type TallyBook interface {
	// AddMinutes adds to the minutes what happened since the last call, notes what the owner's log holds (nil: not known), and
	// forgets minutes that are over for long.
	AddMinutes(ctx context.Context, owner string, minutes []Minute, holds *Holding) error
}

// Tally is a Ledger that counts per minute and tenant what is committed, in memory, and writes a row each every few seconds: the
// path of an operation costs nothing more than an addition. What was not written when the process dies is missing from the charts,
// and from nothing else.
type Tally struct {
	Ledger
	opt TallyOptions

	mu      sync.Mutex
	minutes map[minuteKey]*Minute
}

// TallyOptions is what a Tally is made of.
type TallyOptions struct {
	Owner  string // the worker
	Ledger Ledger
	Book   TallyBook
	Holds  func() (Holding, bool) // what the log holds, when known; nil: never
	Logger *slog.Logger
	Every  time.Duration // how often it is written; 0: 5 s
}

type minuteKey struct {
	tenant fleet.Tenant
	at     time.Time
}

const (
	tallyEvery = 5 * time.Second
	// tallyMost bounds the minutes that are kept while the record is away, and tallyCodes the codes of each: devices make them up.
	tallyMost  = 10_000
	tallyCodes = 50
	// OtherCodes is what codes beyond that are counted as.
	OtherCodes = "OTHER"
)

// NewTally makes a Tally, which has to be run.
func NewTally(opt TallyOptions) *Tally {
	if opt.Every == 0 {
		opt.Every = tallyEvery
	}
	return &Tally{Ledger: opt.Ledger, opt: opt, minutes: map[minuteKey]*Minute{}}
}

// Run writes what was counted until ctx is done, and then the rest.
func (t *Tally) Run(ctx context.Context) error {
	tick := time.NewTicker(t.opt.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.write(ctx)
		case <-ctx.Done():
			last, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			t.write(last)
			stop()
			return nil
		}
	}
}

// write writes what was counted since the last time. What cannot be written is counted on.
func (t *Tally) write(ctx context.Context) {
	t.mu.Lock()
	written := t.minutes
	t.minutes = map[minuteKey]*Minute{}
	t.mu.Unlock()
	all := make([]Minute, 0, len(written))
	for _, m := range written {
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b Minute) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return compareTenants(a.Tenant, b.Tenant)
	})
	var holds *Holding
	if t.opt.Holds != nil {
		if h, known := t.opt.Holds(); known {
			holds = &h
		}
	}
	if err := t.opt.Book.AddMinutes(ctx, t.opt.Owner, all, holds); err != nil {
		t.opt.Logger.Warn("counts per minute not written", "error", err)
		t.putBack(written)
	}
}

func compareTenants(a, b fleet.Tenant) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// putBack counts what was not written once more.
func (t *Tally) putBack(unwritten map[minuteKey]*Minute) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, m := range unwritten {
		into := t.minute(k.tenant, k.at)
		if into == nil {
			continue
		}
		into.Readings += m.Readings
		into.Succeeded += m.Succeeded
		into.Failed += m.Failed
		into.Expired += m.Expired
		into.Dead += m.Dead
		for code, n := range m.Codes {
			into.code(code, n)
		}
	}
}

// minute is what to count in; nil when too much waits already. t.mu is held.
func (t *Tally) minute(tenant fleet.Tenant, at time.Time) *Minute {
	k := minuteKey{tenant, at}
	m := t.minutes[k]
	if m == nil && len(t.minutes) < tallyMost {
		m = &Minute{Tenant: tenant, At: at, Codes: map[string]int{}}
		t.minutes[k] = m
	}
	return m
}

func (m *Minute) code(code string, n int) {
	if _, known := m.Codes[code]; !known && len(m.Codes) >= tallyCodes {
		code = OtherCodes
	}
	m.Codes[code] += n
}

// Change implements Ledger.
func (t *Tally) Change(ctx context.Context, f Fence, need Need, decide func(*Tx) error) (Committed, error) {
	var devices map[meterread.DeviceID]fleet.Device
	done, err := t.Ledger.Change(ctx, f, need, func(x *Tx) error {
		devices = x.Devices
		return decide(x)
	})
	if err == nil {
		t.committed(done, devices)
	}
	return done, err
}

// End implements Ledger.
func (t *Tally) End(ctx context.Context, f Fence, ids []ID, as State, reason string, after meterread.DeviceID, limit int) (Committed, meterread.DeviceID, bool, error) {
	done, last, more, err := t.Ledger.End(ctx, f, ids, as, reason, after, limit)
	if err == nil && as == Expired {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, c := range done.Changes {
			if m := t.minute(c.Command.Tenant, minuteOf(done.Now)); m != nil {
				m.Expired += c.Ended
			}
		}
	}
	return done, last, more, err
}

// minuteOf is the minute that a moment is in.
func minuteOf(at time.Time) time.Time { return at.UTC().Truncate(time.Minute) }

// committed counts what a transaction did.
func (t *Tally) committed(done Committed, devices map[meterread.DeviceID]fleet.Device) {
	at := minuteOf(done.Now)
	t.mu.Lock()
	defer t.mu.Unlock()
	of := make(map[ID]fleet.Tenant, len(done.Changes))
	for _, c := range done.Changes {
		of[c.Command.ID] = c.Command.Tenant
		for _, o := range c.Operations {
			if o.State.Open() || !o.LateResultAt.IsZero() { // it goes on, or had ended before
				continue
			}
			if m := t.minute(c.Command.Tenant, at); m != nil {
				m.ended(o)
			}
		}
	}
	for _, r := range done.Readings {
		tenant, known := of[ID(r.CommandID)]
		if !known {
			tenant = devices[r.DeviceID].Tenant
		}
		if tenant == "" {
			continue // of a device that is gone
		}
		if m := t.minute(tenant, at); m != nil {
			m.Readings++
		}
	}
}

// ended counts an operation by how it ended.
func (m *Minute) ended(o *Operation) {
	switch o.State {
	case Succeeded:
		m.Succeeded++
	case Failed:
		m.Failed++
	case Expired:
		m.Expired++
	case Dead:
		m.Dead++
	}
	if (o.State == Failed || o.State == Dead) && o.Error != nil {
		m.code(o.Error.Code, 1)
	}
}

// lastMinutes are the n minutes before now that are over, first to last; those in which nothing happened are all zeros.
func lastMinutes(now time.Time, n int, known []Minute) []Minute {
	by := make(map[int64]Minute, len(known))
	for _, m := range known {
		by[m.At.Unix()] = m
	}
	all := make([]Minute, n)
	for i := range all {
		at := minuteOf(now).Add(time.Duration(i-n) * time.Minute)
		all[i] = by[at.Unix()]
		all[i].At = at
	}
	return all
}

// failures adds codes up, those of which there are most first, and at most so many of them.
func failures(codes map[string]int, most int) []FailureCount {
	all := []FailureCount{}
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		all = append(all, FailureCount{code, codes[code]})
	}
	slices.SortStableFunc(all, func(a, b FailureCount) int { return b.N - a.N })
	return all[:min(len(all), most)]
}
