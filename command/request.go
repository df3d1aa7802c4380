package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// Request is the body of POST /v1/commands.
type Request struct {
	Kind        Kind            `json:"kind"`
	Mode        Mode            `json:"mode"` // default Async
	Targets     Selector        `json:"targets"`
	Items       []string        `json:"items"`
	Params      json.RawMessage `json:"params"`
	TimeoutS    *int            `json:"timeout_s"`
	Priority    *int            `json:"priority"`
	NotBefore   *time.Time      `json:"not_before"`
	MaxAgeS     int             `json:"max_age_s"`
	MaxAttempts *int            `json:"max_attempts"`
	TraceParent string          `json:"-"` // W3C Trace Context, from the header
}

// The bounds and defaults of requests.
const (
	maxItems       = 64
	maxParams      = 16 << 10
	maxTimeout     = 30 * 24 * time.Hour
	maxNotBefore   = 366 * 24 * time.Hour
	realtimeExpiry = 30 * time.Second
	asyncExpiry    = 24 * time.Hour
)

// command makes a Command of r, and how long it may take from now or from its NotBefore; attempts holds where r does not say.
// The error is an *Invalid that names every field that is wrong. Whether the targets exist is the record's to say.
func (r Request) command(now time.Time, attempts PerKind[int]) (Command, time.Duration, error) {
	bad := &Invalid{}
	c := Command{Kind: r.Kind, Mode: r.Mode, Selector: r.Targets, Params: r.Params, TraceParent: r.TraceParent, Attempts: attempts.Of(r.Kind), Priority: 5}
	ttl := asyncExpiry
	switch r.Mode {
	case "":
		c.Mode = Async
	case Async:
	case Realtime:
		ttl, c.Priority = realtimeExpiry, RealtimePriority
	default:
		bad.Add("/mode", "must be realtime or async")
	}
	switch {
	case r.Kind == "":
		bad.Add("/kind", "is required")
	case !slices.Contains(Kinds, r.Kind):
		bad.Add("/kind", fmt.Sprintf("must be one of %v", Kinds))
	}
	c.Items = r.items(bad)
	r.params(bad)
	r.numbers(bad, &c, &ttl)
	c.NotBefore = r.notBefore(bad, now, ttl)
	c.Selector = r.Targets.check(bad)
	return c, ttl, bad.OrNil()
}

func (r Request) items(bad *Invalid) []meterread.Item {
	if r.Kind == MeterRead && len(r.Items) == 0 {
		bad.Add("/items", "must name at least one item")
	}
	if len(r.Items) > maxItems {
		bad.Add("/items", fmt.Sprintf("must not be more than %d", maxItems))
		return nil
	}
	var items []meterread.Item
	for i, s := range r.Items {
		item, err := meterread.ParseItem(s)
		switch {
		case err != nil:
			bad.Add(fmt.Sprintf("/items/%d", i), err.Error())
		case !slices.Contains(items, item):
			items = append(items, item)
		}
	}
	return items
}

func (r Request) params(bad *Invalid) {
	if len(r.Params) > maxParams {
		bad.Add("/params", fmt.Sprintf("must not be more than %d bytes", maxParams))
	}
	if bytes.Contains(r.Params, []byte(`\u0000`)) {
		bad.Add("/params", "must not contain NUL characters")
	}
}

func (r Request) numbers(bad *Invalid, c *Command, ttl *time.Duration) {
	if r.TimeoutS != nil {
		*ttl = time.Duration(*r.TimeoutS) * time.Second
		if *r.TimeoutS < 1 || *r.TimeoutS > int(maxTimeout/time.Second) {
			bad.Add("/timeout_s", fmt.Sprintf("must be 1 to %d", int(maxTimeout/time.Second)))
		}
	}
	if r.Priority != nil {
		c.Priority = *r.Priority
		if c.Priority < 0 || c.Priority > 9 {
			bad.Add("/priority", "must be 0 to 9")
		}
	}
	if r.MaxAttempts != nil {
		c.Attempts = *r.MaxAttempts
		if c.Attempts < 1 || c.Attempts > MostAttempts {
			bad.Add("/max_attempts", fmt.Sprintf("must be 1 to %d", MostAttempts))
		}
	}
	c.MaxAge = time.Duration(r.MaxAgeS) * time.Second
	switch {
	case r.MaxAgeS < 0 || r.MaxAgeS > int(maxTimeout/time.Second):
		bad.Add("/max_age_s", fmt.Sprintf("must be 0 to %d", int(maxTimeout/time.Second)))
	case r.MaxAgeS > 0 && r.Kind != MeterRead:
		bad.Add("/max_age_s", "only meter.read can be answered from stock")
	}
}

// notBefore is zero unless it lies ahead. In the past it still moves the deadline: a request whose deadline is over
// already is refused.
func (r Request) notBefore(bad *Invalid, now time.Time, ttl time.Duration) time.Time {
	if r.NotBefore == nil {
		return time.Time{}
	}
	switch t := r.NotBefore.UTC(); {
	case !t.Add(ttl).After(now):
		bad.Add("/not_before", "with timeout_s the deadline lies in the past")
	case t.After(now.Add(maxNotBefore)):
		bad.Add("/not_before", "must not be more than a year ahead")
	default:
		return t.Truncate(time.Microsecond)
	}
	return time.Time{}
}

// check complains about a selector that is not exactly one thing, and answers with it free of repeated ids.
func (s Selector) check(bad *Invalid) Selector {
	set := 0
	for _, is := range []bool{s.DeviceIDs != nil, s.Group != "", s.Tags != nil, s.All} {
		if is {
			set++
		}
	}
	switch {
	case set == 0:
		bad.Add("/targets", "must name device_ids, a group, tags or all")
	case set > 1:
		bad.Add("/targets", "must be only one of device_ids, group, tags and all")
	case s.DeviceIDs != nil && len(s.DeviceIDs) == 0:
		bad.Add("/targets/device_ids", "must name at least one device")
	case s.Tags != nil && len(s.Tags) == 0:
		bad.Add("/targets/tags", "must name at least one tag")
	}
	seen := make(map[meterread.DeviceID]bool, len(s.DeviceIDs))
	for i, id := range s.DeviceIDs {
		if _, err := meterread.ParseDeviceID(string(id)); err != nil {
			bad.Add(fmt.Sprintf("/targets/device_ids/%d", i), err.Error())
		}
		seen[id] = true
	}
	if len(seen) == len(s.DeviceIDs) || len(bad.Fields) > 0 {
		return s
	}
	unique := s.DeviceIDs[:0:0]
	for _, id := range s.DeviceIDs {
		if seen[id] {
			unique = append(unique, id)
			seen[id] = false
		}
	}
	s.DeviceIDs = unique
	return s
}

// allowed says whether the token's scopes cover the kind.
func (k Kind) allowed(by fleet.Token) bool {
	return by.Can(fleet.CommandsWrite) && (k != MeterRelay || by.Can(fleet.CommandsControl))
}
