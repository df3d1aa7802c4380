//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"

	"meterline/testkit"
)

// memory: many devices are connected, subscribed and idle.
type memory struct {
	Clients int           `json:"clients"`
	Settle  time.Duration `json:"settle_ns"`
}

func (m *memory) flags(set *flag.FlagSet) {
	set.IntVar(&m.Clients, "clients", 10000, "devices that are connected and subscribed")
	set.DurationVar(&m.Settle, "settle", 5*time.Minute, "how long to wait at most for the broker to collect its garbage twice; an idle Go program does so every two minutes")
}

func (m *memory) devices() int { return m.Clients }

// usage is what a broker uses, in bytes.
type usage struct {
	RSS        int64   `json:"rss"`
	Heap       float64 `json:"heap_in_use"`
	Stack      float64 `json:"stack_in_use"`
	Goroutines float64 `json:"goroutines"`
}

type memoryRow struct {
	Broker    string  `json:"broker"`
	Clients   int     `json:"clients"`
	Before    usage   `json:"before"`
	Connected usage   `json:"connected"` // at once
	Settled   usage   `json:"settled"`
	Collected bool    `json:"collected"` // garbage was collected in between
	PerClient float64 `json:"rss_per_client"`
	Seconds   float64 `json:"seconds_to_connect"`
}

func (m *memory) run(ctx context.Context, r *rig) (found finding, err error) {
	if m.Clients < 1 {
		return found, errors.New("--clients: must be at least 1")
	}
	found.Table = table{
		Title: fmt.Sprintf("%d devices connected, subscribed and idle; each has what resident memory grew by", m.Clients),
		Head: []string{"broker", "resident before, MiB", "connected", "after a collection", "resident per connection, KiB", "heap per connection, KiB",
			"stacks per connection, KiB", "goroutines per connection"},
	}
	var rows []memoryRow
	err = r.onEach(ctx, "memory", func(t *target) error {
		row, err := m.on(ctx, t)
		if err != nil {
			return err
		}
		if !row.Collected {
			found.Table.note("%s had not collected its garbage twice within %s.", t.name, m.Settle)
		}
		rows = append(rows, row)
		n := float64(m.Clients)
		mib := func(b int64) string { return strconv.FormatInt(b>>20, 10) }
		kib := func(after, before float64) string { return ms((after - before) / n / 1024) }
		found.Table.add(t.name, mib(row.Before.RSS), mib(row.Connected.RSS), mib(row.Settled.RSS), ms(row.PerClient/1024),
			kib(row.Settled.Heap, row.Before.Heap), kib(row.Settled.Stack, row.Before.Stack),
			fmt.Sprintf("%.1f", (row.Settled.Goroutines-row.Before.Goroutines)/n))
		return nil
	})
	found.Rows = rows
	return found, err
}

func (m *memory) on(ctx context.Context, t *target) (row memoryRow, err error) {
	row = memoryRow{Broker: t.name, Clients: m.Clients}
	f := newFleet(t, m.Clients)
	defer f.close()
	if row.Before, err = t.usage(ctx); err != nil {
		return row, err
	}
	began := time.Now()
	if err := f.connect(ctx, f.devices); err != nil {
		return row, err
	}
	row.Seconds = time.Since(began).Seconds()
	if row.Connected, err = t.usage(ctx); err != nil {
		return row, err
	}
	if row.Collected, err = testkit.Collected(ctx, t.metric, m.Settle); err != nil {
		return row, err
	}
	if row.Settled, err = t.usage(ctx); err != nil {
		return row, err
	}
	if lost := f.lost.Load(); lost > 0 {
		return row, fmt.Errorf("%d devices were disconnected", lost)
	}
	row.PerClient = float64(row.Settled.RSS-row.Before.RSS) / float64(m.Clients)
	return row, nil
}

func (t *target) usage(ctx context.Context) (u usage, err error) {
	if u.RSS, _, err = t.Memory(); err != nil {
		return u, err
	}
	for name, value := range map[string]*float64{
		"go_memstats_heap_inuse_bytes": &u.Heap, "go_memstats_stack_inuse_bytes": &u.Stack, "go_goroutines": &u.Goroutines,
	} {
		if *value, err = t.metric(ctx, name); err != nil {
			return u, err
		}
	}
	return u, nil
}
