//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"
)

// stall: some of many clients stop to read while large messages are sent to them.
type stall struct {
	Clients  int           `json:"clients"`
	Stalled  int           `json:"stalled"`
	Payload  int           `json:"payload_bytes"`
	Large    time.Duration `json:"large_every_ns"`
	Uplinks  time.Duration `json:"uplinks_every_ns"`
	Pings    int           `json:"commands_per_second"`
	Duration time.Duration `json:"phase_ns"`
}

func (s *stall) flags(set *flag.FlagSet) {
	set.IntVar(&s.Clients, "clients", 2000, "clients in all")
	set.IntVar(&s.Stalled, "stalled", 200, "of them, clients that stop to read")
	set.IntVar(&s.Payload, "payload", 256<<10, "bytes of a large message")
	set.DurationVar(&s.Large, "large-every", 4*time.Second, "time between two large messages to the same client")
	set.DurationVar(&s.Uplinks, "uplinks-every", 4*time.Second, "time between two uplinks of the same client")
	set.IntVar(&s.Pings, "commands", 100, "small commands a second to the others")
	set.DurationVar(&s.Duration, "duration", 30*time.Second, "of each phase; the third must be long enough for all to be closed")
}

func (s *stall) devices() int { return s.Clients }

type stallRow struct {
	Broker string `json:"broker"`
	Phase  string `json:"phase"`
	measured
	Lost      int64 `json:"lost_connections_of_others"`
	Closed    int   `json:"closed_of_stalled"` // how many were closed at least once
	Times     int   `json:"closed_in_all"`     // they come back at once
	MemoryMiB int64 `json:"memory_mib"`        // resident, at the most
}

func (s *stall) run(ctx context.Context, r *rig) (found finding, err error) {
	if s.Stalled >= s.Clients || s.Stalled < 1 {
		return found, errors.New("--stalled: must be at least 1 and less than --clients")
	}
	found.Table = table{
		Title: fmt.Sprintf("%d of %d clients do not read while they are sent %d KiB every %s; round trips of the others",
			s.Stalled, s.Clients, s.Payload>>10, s.Large),
		Head: append(append([]string{"broker", "phase"}, measuredHead...), "lost", "stalled that were closed", "memory, MiB"),
	}
	var rows []stallRow
	err = r.onEach(ctx, "stall", func(t *target) error {
		got, err := s.on(ctx, t)
		if err != nil {
			return err
		}
		last := got[len(got)-1]
		if t.ours && last.Closed < s.Stalled {
			found.Void = fmt.Sprintf("%s closed %d of %d clients that do not read", t.name, last.Closed, s.Stalled)
		}
		rows = append(rows, got...)
		return nil
	})
	if err != nil {
		return found, err
	}
	for _, row := range rows {
		found.Table.add(append(append([]string{row.Broker, row.Phase}, row.cells()...), strconv.FormatInt(row.Lost, 10),
			fmt.Sprintf("%d (%d times)", row.Closed, row.Times), strconv.FormatInt(row.MemoryMiB, 10))...)
	}
	found.Table.note("Unfinished round trips count with the age they had reached. Clients that were closed come back at once and " +
		"stall again.")
	found.Rows = rows
	return found, nil
}

func (s *stall) on(ctx context.Context, t *target) (rows []stallRow, err error) {
	f := newFleet(t, s.Clients)
	defer f.close()
	if err := f.connect(ctx, f.devices); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(ctx)
	p, err := f.publisher(life)
	if err != nil {
		end()
		return nil, err
	}
	defer func() {
		end()
		<-p.ended
		if err == nil && p.err != nil && t.ours {
			err = fmt.Errorf("the publisher was disconnected: %w", p.err)
		}
	}()
	bad, good := f.devices[:s.Stalled], f.devices[s.Stalled:]
	l := load{devices: good, each: s.Uplinks, pings: s.Pings}
	payload := commandPayload(0, s.Payload)
	large := func(ctx context.Context) {
		every(ctx, s.Large, len(bad), func(i int, _ time.Time) { p.queue <- outgoing{bad[i].down, payload} })
	}
	row := func(phase string, m measured) {
		_, most, _ := t.Memory()
		rows = append(rows, stallRow{Broker: t.name, Phase: phase, measured: m, Lost: f.lost.Load(), MemoryMiB: most >> 20})
	}
	m, err := f.phase(ctx, p, l, s.Duration)
	if err != nil {
		return nil, err
	}
	row("no large messages", m)
	if m, err = f.phase(ctx, p, l, s.Duration, large); err != nil {
		return nil, err
	}
	row("large messages, all read", m)
	stalled, err := stallAll(ctx, bad)
	defer stalled.close()
	if err != nil {
		return nil, err
	}
	m, err = f.phase(ctx, p, l, s.Duration, large, stalled.watch)
	if err != nil {
		return nil, err
	}
	row("large messages, not read", m)
	last := &rows[len(rows)-1]
	last.Closed, last.Times = stalled.count()
	return rows, stalled.err
}
