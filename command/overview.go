package command

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// Overview is how things stand for a tenant, and with the installation.
type Overview struct {
	At          time.Time       `json:"at"`
	Endpoints   EndpointCount   `json:"endpoints"`
	Operations  OpenCount       `json:"operations"`
	Minutes     []Minute        `json:"minutes" doc:"the last 60 that are over, first to last"`
	Failures    []FailureCount  `json:"failures" doc:"of the last hour by code, most first, 20 at most"`
	DeadLetters LetterCount     `json:"dead_letters"`
	Backlog     *BacklogCount   `json:"backlog" doc:"of the uplink log, of all tenants; null when nobody knows"`
	Gateways    []GatewayHealth `json:"gateways"`
	Backends    []BackendHealth `json:"backends" doc:"those that work for partitions"`
}

// EndpointCount is how many endpoints a tenant has. It may be a minute old where there are very many.
type EndpointCount struct {
	Total  int  `json:"total"`
	Online *int `json:"online" doc:"null when it is not known for the moment"`
}

// OpenCount is how many operations of a tenant are open.
type OpenCount struct {
	Open            int        `json:"open"`
	Waiting         int        `json:"waiting" doc:"of these not sent yet, or to be sent again"`
	OldestWaitingAt *time.Time `json:"oldest_waiting_at" doc:"since when the oldest command with such an operation could be sent"`
}

// FailureCount is how many operations failed or died with a code.
type FailureCount struct {
	Code string `json:"code"`
	N    int    `json:"n"`
}

// LetterCount is how many dead letters wait for somebody.
type LetterCount struct {
	Open int `json:"open"`
}

// BacklogCount is how much of the uplink log is not in the record yet, or not trimmed yet.
type BacklogCount struct {
	Entries int64   `json:"entries"`
	OldestS float64 `json:"oldest_s" doc:"how old the oldest is that is not in the record"`
	Bound   int64   `json:"bound" doc:"entries that all its partitions together may hold"`
}

// GatewayHealth is a gateway that has announced itself.
type GatewayHealth struct {
	ID          string `json:"id"`
	Address     string `json:"address"`
	Alive       bool   `json:"alive"`
	Connections *int   `json:"connections" doc:"null: see the gateway's own metrics"`
}

// BackendHealth is a worker, as the record knows it.
type BackendHealth struct {
	ID         string `json:"id"`
	Alive      bool   `json:"alive"`
	Partitions int    `json:"partitions"`
}

// Standing is what the record has of an Overview.
type Standing struct {
	Operations  OpenCount
	DeadLetters LetterCount
	Minutes     []Minute
	Codes       map[string]int
	Backlog     *BacklogCount
	Backends    []BackendHealth
}

// OverviewBook is the record as an overview sees it.
type OverviewBook interface {
	// Standing is how things stand now; minutes and codes are those from since on.
	Standing(ctx context.Context, tenant fleet.Tenant, since time.Time) (Standing, error)
	// EndpointIDs lists devices that speak MQTT themselves, in order of their ids, at most limit after the one given.
	EndpointIDs(ctx context.Context, tenant fleet.Tenant, after meterread.DeviceID, limit int) ([]meterread.DeviceID, error)
}

// Overviews makes overviews. What took long holds for some times as long, so that however many look at it, it takes no more than a
// small share of the servers. It is safe for concurrent use.
type Overviews struct {
	book     OverviewBook
	presence Presence
	now      func() time.Time
	logger   *slog.Logger

	mu       sync.Mutex
	tenants  map[fleet.Tenant]*tenantView
	gateways map[Gateway]beatSeen
}

// tenantView is what is known for a tenant. Its mutex is held by whoever finds out.
type tenantView struct {
	mu        sync.Mutex
	view      Overview
	until     time.Time
	endpoints EndpointCount
	counted   time.Time // until when endpoints hold
}

// beatSeen is the heartbeat of a gateway, and since when it has not risen.
type beatSeen struct {
	beat  int64
	since time.Time
}

const (
	overviewMinutes  = 60
	overviewFailures = 20
	overviewLeast    = time.Second
	overviewMost     = 10 * time.Second
	endpointsLeast   = 2 * time.Second
	endpointsMost    = time.Minute
	holdsTimes       = 20   // as long as it took
	endpointPage     = 5000 // looked up at a time
	gatewaySilent    = 5 * time.Second
	overviewTenants  = 1000
)

// NewOverviews makes Overviews; now is the record's clock.
func NewOverviews(book OverviewBook, presence Presence, now func() time.Time, logger *slog.Logger) *Overviews {
	return &Overviews{book: book, presence: presence, now: now, logger: logger, tenants: map[fleet.Tenant]*tenantView{}, gateways: map[Gateway]beatSeen{}}
}

// Overview is how things stand for the tenant, or stood a moment ago.
func (o *Overviews) Overview(ctx context.Context, tenant fleet.Tenant) (Overview, error) {
	t := o.tenant(tenant)
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Now().Before(t.until) {
		return t.view, nil
	}
	began := time.Now()
	now := o.now()
	s, err := o.book.Standing(ctx, tenant, minuteOf(now).Add(-overviewMinutes*time.Minute))
	if err != nil {
		return Overview{}, fmt.Errorf("make an overview: %w", err)
	}
	took := time.Since(began)
	gateways, err := o.alive(ctx)
	if err != nil {
		o.logger.Warn("gateways are not known", "error", err)
	}
	if !time.Now().Before(t.counted) {
		if err := o.count(ctx, tenant, t, gateways); err != nil {
			return Overview{}, err
		}
	}
	t.view = Overview{At: now, Endpoints: t.endpoints, Operations: s.Operations, Minutes: lastMinutes(now, overviewMinutes, s.Minutes),
		Failures: failures(s.Codes, overviewFailures), DeadLetters: s.DeadLetters, Backlog: s.Backlog, Gateways: healths(gateways), Backends: s.Backends}
	t.until = time.Now().Add(min(max(holdsTimes*took, overviewLeast), overviewMost))
	return t.view, nil
}

func (o *Overviews) tenant(tenant fleet.Tenant) *tenantView {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.tenants[tenant]
	if t == nil {
		if len(o.tenants) >= overviewTenants {
			clear(o.tenants)
		}
		t = &tenantView{}
		o.tenants[tenant] = t
	}
	return t
}

// alive lists the gateways, and whether the heartbeat of each has risen lately. One that is seen for the first time passes for alive.
func (o *Overviews) alive(ctx context.Context) (map[Gateway]bool, error) {
	beats, err := o.presence.Gateways(ctx)
	if err != nil {
		return nil, fmt.Errorf("list gateways: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now, seen, alive := time.Now(), make(map[Gateway]beatSeen, len(beats)), make(map[Gateway]bool, len(beats))
	for g, beat := range beats {
		before, known := o.gateways[g]
		if !known || before.beat != beat {
			before = beatSeen{beat, now}
		}
		seen[g] = before
		alive[g] = now.Sub(before.since) < gatewaySilent
	}
	o.gateways = seen
	return alive, nil
}

func healths(gateways map[Gateway]bool) []GatewayHealth {
	all := []GatewayHealth{}
	for g, alive := range gateways {
		all = append(all, GatewayHealth{ID: g.ID, Address: g.Address, Alive: alive})
	}
	slices.SortFunc(all, func(a, b GatewayHealth) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// count counts endpoints. t.mu is held.
func (o *Overviews) count(ctx context.Context, tenant fleet.Tenant, t *tenantView, gateways map[Gateway]bool) error {
	began := time.Now()
	living := map[[2]string]bool{}
	for g, alive := range gateways {
		living[[2]string{g.ID, g.Incarnation}] = alive
	}
	found, online, known := 0, 0, gateways != nil
	for after, more := meterread.DeviceID(""), true; more; {
		ids, err := o.book.EndpointIDs(ctx, tenant, after, endpointPage)
		if err != nil {
			return fmt.Errorf("count endpoints: %w", err)
		}
		found += len(ids)
		if more = len(ids) == endpointPage; more {
			after = ids[len(ids)-1]
		}
		if !known || len(ids) == 0 {
			continue
		}
		sessions, err := o.presence.Sessions(ctx, ids)
		if err != nil {
			o.logger.Warn("presence is not known", "error", err)
			known = false
			continue
		}
		for _, s := range sessions {
			if living[[2]string{s.Gateway, s.Incarnation}] {
				online++
			}
		}
	}
	t.endpoints = EndpointCount{Total: found}
	if known {
		t.endpoints.Online = &online
	}
	t.counted = time.Now().Add(min(max(holdsTimes*time.Since(began), endpointsLeast), endpointsMost))
	return nil
}
