//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"meterline/testkit"
	"meterline/testkit/packet"
)

// flood: one device publishes as fast as it can, another comes and goes, while others do their work.
type flood struct {
	Others   int           `json:"others"`
	Payload  int           `json:"payload_bytes"`
	Uplinks  time.Duration `json:"uplinks_every_ns"`
	Pings    int           `json:"commands_per_second"`
	Duration time.Duration `json:"phase_ns"`
}

func (f *flood) flags(set *flag.FlagSet) {
	set.IntVar(&f.Others, "clients", 500, "devices that do their work")
	set.IntVar(&f.Payload, "payload", 200, "bytes of a message of the flood")
	set.DurationVar(&f.Uplinks, "uplinks-every", time.Second, "time between two uplinks of the same device")
	set.IntVar(&f.Pings, "commands", 100, "commands a second")
	set.DurationVar(&f.Duration, "duration", 10*time.Second, "of each phase")
}

// The first devices are the others; these come after them.
const (
	flooderQoS1 = iota
	flooderQoS0
	flapper
	troublemakers
)

func (f *flood) devices() int { return f.Others + troublemakers }

type floodRow struct {
	Broker string `json:"broker"`
	Phase  string `json:"phase"`
	measured
	Lost   int64 `json:"lost_connections_of_others"`
	Acked  int64 `json:"flood_qos1_acknowledged"`
	Sent   int64 `json:"flood_qos0_sent"`
	Flaps  int64 `json:"flaps"`
	Ending int64 `json:"flooders_closed"`
}

// trouble counts what troublemakers did in a phase.
type trouble struct{ acked, sent, flaps, closed atomic.Int64 }

func (f *flood) run(ctx context.Context, r *rig) (found finding, err error) {
	if f.Others < 1 {
		return found, errors.New("--clients: must be at least 1")
	}
	found.Table = table{
		Title: fmt.Sprintf("one device floods, one flaps; round trips of %d others", f.Others),
		Head: append(append([]string{"broker", "phase"}, measuredHead...), "lost", "QoS 1 acknowledged, /s", "QoS 0 sent, /s", "connects of the flapping one, /s",
			"flooders closed"),
	}
	var rows []floodRow
	err = r.onEach(ctx, "flood", func(t *target) error {
		got, err := f.on(ctx, t)
		rows = append(rows, got...)
		return err
	})
	if err != nil {
		return found, err
	}
	rate := func(n int64) string { return strconv.FormatInt(int64(float64(n)/f.Duration.Seconds()), 10) }
	for _, row := range rows {
		found.Table.add(append(append([]string{row.Broker, row.Phase}, row.cells()...), strconv.FormatInt(row.Lost, 10),
			rate(row.Acked), rate(row.Sent), rate(row.Flaps), strconv.FormatInt(row.Ending, 10))...)
	}
	found.Rows = rows
	return found, nil
}

func (f *flood) on(ctx context.Context, t *target) (rows []floodRow, err error) {
	all := newFleet(t, f.Others+troublemakers)
	defer all.close()
	others, bad := all.devices[:f.Others], all.devices[f.Others:]
	if err := all.connect(ctx, others); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(ctx)
	p, err := all.publisher(life)
	if err != nil {
		end()
		return nil, err
	}
	defer func() { end(); <-p.ended }()
	l := load{devices: others, each: f.Uplinks, pings: f.Pings}
	for _, phase := range []struct {
		name string
		who  []int
	}{
		{"none of them", nil},
		{"flood at QoS 1", []int{flooderQoS1}},
		{"flood at QoS 0", []int{flooderQoS0}},
		{"one flaps", []int{flapper}},
		{"all three", []int{flooderQoS1, flooderQoS0, flapper}},
	} {
		count := &trouble{}
		var beside []func(context.Context)
		for _, who := range phase.who {
			beside = append(beside, func(ctx context.Context) { f.make(ctx, bad[who], who, count) })
		}
		m, err := all.phase(ctx, p, l, f.Duration, beside...)
		if err != nil {
			return nil, err
		}
		rows = append(rows, floodRow{Broker: t.name, Phase: phase.name, measured: m, Lost: all.lost.Load(), Acked: count.acked.Load(),
			Sent: count.sent.Load(), Flaps: count.flaps.Load(), Ending: count.closed.Load()})
	}
	return rows, nil
}

// make makes trouble until ctx is done.
func (f *flood) make(ctx context.Context, d *device, kind int, count *trouble) {
	for ctx.Err() == nil {
		s, err := dial(ctx, d.fleet.target.addr, d.source, 0, d.who)
		if err == nil {
			err = s.subscribe(d.down)
		}
		if err != nil {
			if s != nil {
				_ = s.conn.Close()
			}
			_ = testkit.Pause(ctx, 10*time.Millisecond) // refused: it comes again all the same
			continue
		}
		if kind == flapper {
			_ = s.conn.Close()
			count.flaps.Add(1)
			continue
		}
		f.pour(ctx, d, s, kind == flooderQoS1, count)
		if ctx.Err() == nil {
			count.closed.Add(1)
		}
	}
}

// pour publishes without a pause: only what the broker does not read holds it up.
func (f *flood) pour(ctx context.Context, d *device, s *session, acknowledged bool, count *trouble) {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			p, err := readPacket(s.r)
			if err != nil {
				_ = s.conn.Close()
				return
			}
			if p.kind == packet.Puback {
				count.acked.Add(1)
			}
		}
	}()
	defer func() { _ = s.conn.Close(); <-read }()
	const together = 50 // messages in one write
	payload := make([]byte, 0, f.Payload)
	for payload = append(payload, event...); len(payload) < f.Payload; {
		payload = append(payload, ' ')
	}
	for id := uint16(1); ; {
		var out []byte
		for range together {
			if !acknowledged {
				out = append(out, packet.AppendPublish(nil, 0, d.up, payload)...)
				continue
			}
			out = append(out, packet.AppendPublish(nil, id, d.up, payload)...)
			id = id%0xFFFF + 1
		}
		if _, err := s.conn.Write(out); err != nil {
			return
		}
		if !acknowledged {
			count.sent.Add(together)
		}
	}
}
