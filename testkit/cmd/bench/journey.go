//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"meterline/command"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit/swarm"
)

// journey is the whole way: a command by HTTP, its operations in SQL, MQTT to the devices and back, the log, the readings in SQL, the
// poll. Each lane has meters of its own and reads all of them again and again, one command after the other.
type journey struct {
	Endpoints int           `json:"endpoints"`
	Meters    int           `json:"meters_per_ipc"` // 0: the endpoints are direct meters
	Each      int           `json:"meters_per_command"`
	Duration  time.Duration `json:"duration_ns"`
	Mode      string        `json:"mode"`
}

func (p *journey) flags(set *flag.FlagSet, endpoints, meters int, mode command.Mode) {
	set.IntVar(&p.Endpoints, "endpoints", endpoints, "connected endpoints")
	if p.Meters = 0; meters > 0 {
		set.IntVar(&p.Meters, "meters", meters, "meters behind each IPC: operations of one message")
	}
	set.IntVar(&p.Each, "each", 1000, "meters of one command, 1 to 1000; there are as many lanes as commands to reach all meters")
	set.DurationVar(&p.Duration, "duration", 20*time.Second, "how long commands are issued; what is under way then is waited for")
	set.StringVar(&p.Mode, "mode", string(mode), "of the commands: realtime or async")
}

func (p *journey) shrink(endpoints, each int) {
	p.Endpoints, p.Each, p.Duration = endpoints, each, 500*time.Millisecond
}

// lanes shares the meters out. Those of one endpoint stay together.
func (p *journey) lanes(sites []simulator.Site) (lanes [][]meterread.DeviceID) {
	var all []meterread.DeviceID
	for _, s := range sites {
		all = append(all, s.Targets()...)
	}
	for chunk := range slices.Chunk(all, p.Each) {
		lanes = append(lanes, chunk)
	}
	return lanes
}

// tally is what lanes did.
type tally struct{ readings atomic.Int64 }

// travel is one run under a prefix of device ids.
func (p *journey) travel(ctx context.Context, r *rig, prefix string) (f *finding, n int, err error) {
	if p.Endpoints < 1 || p.Each < 1 || p.Each > 1000 {
		return nil, 0, errors.New("-endpoints must be at least 1, and -each 1 to 1000")
	}
	sites, err := r.fleet(ctx, prefix, p.Endpoints, p.Meters)
	if err != nil {
		return nil, 0, err
	}
	s, err := r.connected(ctx, sites, false)
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	f = &finding{shape: shape{kind: answers, targets: max(1, p.Meters)}}
	lanes, did := p.lanes(sites), &tally{}
	err = r.beside(ctx, s, func(ctx context.Context) error {
		if err := p.read(ctx, r, lanes, time.Time{}, &tally{}); err != nil { // warms up
			return err
		}
		f.spent, err = r.during(func() error { return p.read(ctx, r, lanes, time.Now().Add(p.Duration), did) })
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	f.Check, err = r.stored(ctx, prefix, s)
	f.did = int(did.readings.Load())
	return f, f.did, err
}

// beside lets devices live while do is done, and until all that they handed in is acknowledged.
func (r *rig) beside(ctx context.Context, s *swarm.Swarm, do func(context.Context) error) error {
	life, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(life, nil) }()
	err := do(ctx)
	if err == nil {
		err = r.until(ctx, "all answers are acknowledged", lookEvery, func() (bool, error) {
			c := s.Counts()
			return c.Acked == c.Sent, nil
		})
	}
	stop()
	return errors.Join(err, <-ended)
}

// read issues commands until a time, at least one of each lane, and waits for their ends.
func (p *journey) read(ctx context.Context, r *rig, lanes [][]meterread.DeviceID, until time.Time, did *tally) error {
	return r.users(ctx, len(lanes), func(ctx context.Context, i int, c *client) error {
		for first := true; first || time.Now().Before(until); first = false {
			if _, err := p.command(ctx, c, lanes[i]); err != nil {
				return err
			}
			did.readings.Add(int64(len(lanes[i])))
		}
		return nil
	})
}

// once reads each lane once, and notes the ids of the commands.
func (p *journey) once(ctx context.Context, r *rig, lanes [][]meterread.DeviceID, ids []string) error {
	return r.users(ctx, len(lanes), func(ctx context.Context, i int, c *client) (err error) {
		ids[i], err = p.command(ctx, c, lanes[i])
		return err
	})
}

// command reads the meters of a lane, and returns when the poll shows the end of all.
func (p *journey) command(ctx context.Context, c *client, lane []meterread.DeviceID) (id string, err error) {
	if id, err = c.issue(ctx, order(command.Mode(p.Mode), command.Selector{DeviceIDs: lane})); err != nil {
		return "", err
	}
	done, err := c.finish(ctx, id)
	if err == nil && done != len(lane) {
		err = fmt.Errorf("command %s: %d of %d operations succeeded", id, done, len(lane))
	}
	return id, err
}

// direct: meters that speak MQTT themselves, one reading per message.
type direct struct{ journey }

func (d *direct) title() string {
	return "direct meters, one reading per message, from the command by HTTP to the poll"
}
func (d *direct) flags(set *flag.FlagSet) { d.journey.flags(set, 10_000, 0, command.Realtime) }
func (d *direct) shrink()                 { d.journey.shrink(20, 10) }

func (d *direct) run(ctx context.Context, r *rig) (*finding, error) {
	f, n, err := d.travel(ctx, r, "direct")
	if err == nil {
		f.more("readings", "/s", float64(n)/f.spent.seconds, 15_000)
		f.each(f.spent, n, "reading")
		f.more("readings by gateway CPU", "/s", per(float64(n), f.spent.gateway), 0)
	}
	return f, err
}

// behindIPCs: many meters behind each endpoint, their operations and results in one message each.
type behindIPCs struct{ journey }

func (b *behindIPCs) title() string {
	return "meters behind IPCs, 50 operations per message, from the command by HTTP to the poll"
}
func (b *behindIPCs) flags(set *flag.FlagSet) { b.journey.flags(set, 400, 50, command.Realtime) }
func (b *behindIPCs) shrink()                 { b.journey.shrink(4, 100) }

func (b *behindIPCs) run(ctx context.Context, r *rig) (*finding, error) {
	f, n, err := b.travel(ctx, r, "ipc")
	if err == nil {
		f.more("readings", "/s", float64(n)/f.spent.seconds, 30_000)
		f.each(f.spent, n, "reading")
	}
	return f, err
}

// postgres: what an operation with its reading costs PostgreSQL. The commands are asynchronous: nobody waits, and batches are as
// large as they get.
type postgres struct{ journey }

func (p *postgres) title() string {
	return "PostgreSQL, all of its processes, for an operation with its reading: direct meters, asynchronous commands"
}

func (p *postgres) flags(set *flag.FlagSet) { p.journey.flags(set, 10_000, 0, command.Async) }
func (p *postgres) shrink()                 { p.journey.shrink(20, 10) }

func (p *postgres) run(ctx context.Context, r *rig) (*finding, error) {
	f, n, err := p.travel(ctx, r, "postgres")
	if err == nil {
		f.less("PostgreSQL CPU", "µs/operation", f.spent.postgres*1e6/float64(n), 35)
		f.more("operations", "/s", float64(n)/f.spent.seconds, 0)
	}
	return f, err
}
