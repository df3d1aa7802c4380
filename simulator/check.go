package simulator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"meterline/meterread"
)

// Finding is one reading that is not in the record as it should be.
type Finding struct {
	DeviceID meterread.DeviceID `json:"device_id"`
	Item     meterread.Item     `json:"item"`
	ReadAt   time.Time          `json:"read_at"`
	Detail   string             `json:"detail"`
}

// Verdict is what the comparison of a ledger with the record came to.
type Verdict struct {
	Devices    int       `json:"devices"`    // compared
	Checked    int       `json:"checked"`    // distinct readings journalled and PUBACKed
	Stored     int       `json:"stored"`     // readings the record has of these devices in the time of the run
	Losses     int       `json:"losses"`     // journalled and PUBACKed, but absent, or there with another value
	Duplicates int       `json:"duplicates"` // stored more often than they were sent
	Examples   []Finding `json:"examples"`   // the first few of either
	Rounds     int       `json:"rounds"`     // how often the record was asked: what was PUBACKed may be stored a little later
}

// Clean says that nothing was lost and nothing doubled.
func (v Verdict) Clean() bool { return v.Losses == 0 && v.Duplicates == 0 }

// readingLister is the part of API that Check needs.
type readingLister interface {
	Readings(ctx context.Context, device meterread.DeviceID, from, to time.Time, each func(ReadingView)) error
}

const (
	maxExamples   = 10
	checkers      = 4
	checkInterval = time.Second
	lookAhead     = 24 * time.Hour // a reading that was stored with a later time than any that was sent is found, too
)

// Check compares the ledger with GET /v1/readings of every device that journalled something, from its first reading on.
// What is missing is asked for again until patience is over: a PUBACK promises that a reading is safe, not that it is
// stored yet. Stop the fleet first.
func (l *Ledger) Check(ctx context.Context, api readingLister, patience time.Duration) (Verdict, error) {
	var verdict Verdict
	deadline := time.Now().Add(patience)
	open := l.deviceIDs()
	verdict.Devices = len(open)
	for {
		verdict.Rounds++
		found, err := l.compare(ctx, api, open)
		if err != nil {
			return verdict, err
		}
		last := time.Now().After(deadline)
		open = open[:0]
		for _, c := range found {
			if c.losses > 0 && !last {
				open = append(open, c.device)
				continue
			}
			verdict.add(c)
		}
		if len(open) == 0 {
			return verdict, nil
		}
		timer := time.NewTimer(min(checkInterval, max(time.Until(deadline), time.Millisecond)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return verdict, fmt.Errorf("check readings: %w", ctx.Err())
		case <-timer.C:
		}
	}
}

func (v *Verdict) add(c comparison) {
	v.Checked += c.checked
	v.Stored += c.stored
	v.Losses += c.losses
	v.Duplicates += c.duplicates
	v.Examples = append(v.Examples, c.findings[:min(len(c.findings), maxExamples-len(v.Examples))]...)
}

// comparison is that of one device.
type comparison struct {
	device                              meterread.DeviceID
	checked, stored, losses, duplicates int
	findings                            []Finding
}

func (l *Ledger) compare(ctx context.Context, api readingLister, devices []meterread.DeviceID) ([]comparison, error) {
	var (
		mu    sync.Mutex
		found []comparison
	)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(checkers)
	for _, device := range devices {
		g.Go(func() error {
			sent, first := l.entries(device)
			stored := map[readingKey][]string{}
			from, to := first.Add(-time.Millisecond), time.Now().Add(lookAhead)
			err := api.Readings(ctx, device, from, to, func(r ReadingView) {
				k := keyOf(r.Item, r.ReadAt)
				stored[k] = append(stored[k], r.Value)
			})
			if err != nil {
				return fmt.Errorf("check readings of %s: %w", device, err)
			}
			c := compareDevice(device, sent, stored)
			mu.Lock()
			defer mu.Unlock()
			found = append(found, c)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b comparison) int { return cmp.Compare(a.device, b.device) })
	return found, nil
}

// compareDevice judges one device. A reading that was journalled may be stored once, acknowledged or not; one that was
// never journalled may not be stored at all.
func compareDevice(device meterread.DeviceID, sent map[readingKey]entered, stored map[readingKey][]string) comparison {
	c := comparison{device: device}
	find := func(k readingKey, detail string) {
		c.findings = append(c.findings, Finding{device, k.item, time.UnixMicro(k.readAt).UTC(), detail})
	}
	for k, e := range sent {
		if !e.acked {
			continue
		}
		c.checked++
		switch values := stored[k]; {
		case len(values) == 0:
			c.losses++
			find(k, "lost: "+e.value+" was acknowledged and is not stored")
		case !slices.Contains(values, e.value):
			c.losses++
			find(k, "lost: "+e.value+" was acknowledged, stored is "+values[0])
		}
	}
	for k, values := range stored {
		c.stored += len(values)
		allowed := 0
		if _, ok := sent[k]; ok {
			allowed = 1
		}
		if more := len(values) - allowed; more > 0 {
			c.duplicates += more
			find(k, fmt.Sprintf("duplicate: stored %d times, sent %d times", len(values), allowed))
		}
	}
	slices.SortFunc(c.findings, func(a, b Finding) int {
		return cmp.Or(a.ReadAt.Compare(b.ReadAt), cmp.Compare(a.Item, b.Item), cmp.Compare(a.Detail, b.Detail))
	})
	return c
}
