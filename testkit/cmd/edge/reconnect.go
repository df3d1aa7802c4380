//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"meterline/testkit"
)

// reconnect: all devices lose their connections at once and come back at once.
type reconnect struct {
	Clients  int           `json:"clients"`
	Retry    time.Duration `json:"retry_ns"`
	Age      time.Duration `json:"age_ns"`
	Patience time.Duration `json:"patience_ns"`
}

func (c *reconnect) flags(set *flag.FlagSet) {
	set.IntVar(&c.Clients, "clients", 10000, "devices")
	set.DurationVar(&c.Retry, "retry", time.Second, "after a failed try a device waits from half to one and a half times this")
	set.DurationVar(&c.Age, "age", 35*time.Second, "how old cached credentials are when PostgreSQL goes away")
	set.DurationVar(&c.Patience, "patience", 2*time.Minute, "how long to wait for all to be back")
}

func (c *reconnect) devices() int { return c.Clients }

type reconnectRow struct {
	Broker string `json:"broker"`
	Cut    string `json:"cut"`
	figures
	Back     int      `json:"back"`
	Seconds  float64  `json:"seconds_until_all_are_back"`
	CPU      float64  `json:"cpu_seconds"`
	Failures failures `json:"failures"`
}

func (c *reconnect) run(ctx context.Context, r *rig) (found finding, err error) {
	found.Table = table{
		Title: fmt.Sprintf("%d devices lose their connections at once and come back at once: connected and subscribed", c.Clients),
		Head:  []string{"broker", "how they are cut", "back", "all after, s", "p50 of a device, s", "p99", "broker's CPU per connect, µs", "tries that failed"},
	}
	var rows []reconnectRow
	err = r.onEach(ctx, "reconnect", func(t *target) error {
		got, err := c.on(ctx, r, t)
		rows = append(rows, got...)
		return err
	})
	if err != nil {
		return found, err
	}
	for _, row := range rows {
		if row.Back < c.Clients && row.Broker == "gateway" {
			found.Void = fmt.Sprintf("%s, %s: %d of %d came back", row.Broker, row.Cut, row.Back, c.Clients)
		}
		found.Table.add(row.Broker, row.Cut, strconv.Itoa(row.Back), fmt.Sprintf("%.1f", row.Seconds),
			fmt.Sprintf("%.2f", row.P50/1000), fmt.Sprintf("%.2f", row.P99/1000),
			fmt.Sprintf("%.0f", row.CPU*1e6/float64(max(row.Back, 1))), row.Failures.cell())
	}
	found.Rows = rows
	return found, nil
}

// on cuts the devices in one way after the other.
func (c *reconnect) on(ctx context.Context, r *rig, t *target) (rows []reconnectRow, err error) {
	f := newFleet(t, c.Clients)
	defer f.close()
	if err := f.connect(ctx, f.devices); err != nil {
		return nil, err
	}
	steps := []struct {
		name        string
		cut, repair func() error
	}{
		{"devices close", f.closeAll, nil},
		{"broker killed and started again", func() error { return errors.Join(t.Kill(), t.Start()) }, nil},
	}
	if t.ours {
		steps = append(steps, []struct {
			name        string
			cut, repair func() error
		}{
			{"devices close, PostgreSQL is down", func() error {
				return errors.Join(testkit.Pause(ctx, c.Age), r.postgres.Stop(), f.closeAll())
			}, r.postgres.Start},
			{"devices close, PostgreSQL stands still", func() error {
				return errors.Join(testkit.Pause(ctx, c.Age), r.postgres.Pause(), f.closeAll())
			}, r.postgres.Resume},
		}...)
	}
	for _, step := range steps {
		r.say("reconnect: %s", step.name)
		row, err := c.step(ctx, t, f, step.cut)
		if step.repair != nil {
			err = errors.Join(err, step.repair())
		}
		if err != nil {
			return rows, fmt.Errorf("%s: %w", step.name, err)
		}
		row.Broker, row.Cut = t.name, step.name
		rows = append(rows, row)
		if row.Back < c.Clients {
			break
		}
	}
	return rows, nil
}

// closeAll lets all devices close their connections, and returns when they have.
func (f *fleet) closeAll() error {
	f.close()
	return nil
}

func (c *reconnect) step(ctx context.Context, t *target, f *fleet, cut func() error) (row reconnectRow, err error) {
	old := t.PID()
	if err := cut(); err != nil {
		return row, err
	}
	f.close() // those of a broker that is gone
	before, err := t.CPU()
	if t.PID() != old {
		before = 0 // it has only just been started
	}
	if err != nil {
		return row, err
	}
	began := time.Now()
	times, failed := c.back(ctx, f)
	row.Seconds = time.Since(began).Seconds()
	after, err := t.CPU()
	if err != nil {
		return row, err
	}
	row.figures, row.Back, row.Failures, row.CPU = figuresOf(times, 0), len(times), failed, (after - before).Seconds()
	return row, ctx.Err()
}

// back lets all devices connect at once, and try again until they are in.
func (c *reconnect) back(ctx context.Context, f *fleet) (times []time.Duration, failed failures) {
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	var mu sync.Mutex
	failed = failures{}
	began := time.Now()
	var all sync.WaitGroup
	for _, d := range f.devices {
		all.Go(func() {
			for ctx.Err() == nil {
				err := d.connect(ctx)
				mu.Lock()
				if err == nil {
					times = append(times, time.Since(began))
					mu.Unlock()
					return
				}
				failed[reason(err)]++
				mu.Unlock()
				_ = testkit.Pause(ctx, c.Retry/2+rand.N(c.Retry+1))
			}
		})
	}
	all.Wait()
	return times, maps.Clone(failed)
}
