//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"meterline/testkit"
	"meterline/testkit/swarm"
)

// sizes is a flag of numbers that rise.
type sizes []int

func (s *sizes) String() string {
	var all []string
	for _, n := range *s {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, ",")
}

// Set takes 1000,10000.
func (s *sizes) Set(text string) error {
	*s = nil
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(one))
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number above 0", one)
		}
		*s = append(*s, n)
	}
	if !slices.IsSorted(*s) {
		return errors.New("the numbers must rise")
	}
	return nil
}

// memory: devices that are connected, subscribed and idle.
type memory struct {
	Sizes  sizes         `json:"connections"`
	Settle time.Duration `json:"settle_ns"`
}

func (m *memory) title() string {
	return "gateway: what its resident memory grows by for each device that is connected, subscribed and idle"
}

func (m *memory) flags(set *flag.FlagSet) {
	m.Sizes = sizes{1000, 5000, 15_000}
	set.Var(&m.Sizes, "connections", "how many are connected, more and more")
	set.DurationVar(&m.Settle, "settle", 5*time.Minute, "how long to wait at most for the gateway to collect its garbage twice; an idle Go program does so every two minutes; 0: not at all")
}
func (m *memory) shrink() { m.Sizes, m.Settle = sizes{20, 50}, 0 }

func (m *memory) run(ctx context.Context, r *rig) (*finding, error) {
	sites, err := r.fleet(ctx, "memory", m.Sizes[len(m.Sizes)-1], 0)
	if err != nil {
		return nil, err
	}
	before, _, err := r.gateway.Memory()
	if err != nil {
		return nil, err
	}
	f := &finding{}
	var swarms []*swarm.Swarm
	connected := 0
	for _, n := range m.Sizes {
		if n == connected {
			continue
		}
		s, err := r.connected(ctx, sites[connected:n], false)
		if err != nil {
			return nil, err
		}
		defer s.Close() // all at the end
		swarms, connected = append(swarms, s), n
		if err := m.look(ctx, r, f, n, before); err != nil {
			return nil, err
		}
	}
	for _, s := range swarms {
		one, err := r.eachOnce(ctx, "memory", s)
		if err != nil {
			return nil, err
		}
		f.Check = f.Check.and(one)
	}
	return f, nil
}

// look tells the memory at once, and when the garbage of connecting is gone.
func (m *memory) look(ctx context.Context, r *rig, f *finding, n int, before int64) error {
	const mostKiB = 16
	from := len(f.Figures)
	tell := func(name string, goal float64) error {
		now, _, err := r.gateway.Memory()
		f.less(name, "KiB", float64(now-before)/1024/float64(n), goal)
		return err
	}
	defer func() { f.of(n, from) }()
	if err := tell("each connection, at once", 0); err != nil || m.Settle <= 0 {
		return err
	}
	collected, err := testkit.Collected(ctx, r.gateway.Metric, m.Settle)
	if err != nil {
		return err
	}
	if !collected { // then the memory of before is in it, and it says nothing
		r.say("the gateway had not collected its garbage twice within %s", m.Settle)
		return nil
	}
	return tell("each connection, settled", mostKiB)
}

// eachOnce shows that the devices are really there: each hands in a reading, and the record has it.
func (r *rig) eachOnce(ctx context.Context, prefix string, s *swarm.Swarm) (check, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if err := s.Publish(ctx, 1, 1); err != nil {
		return check{}, err
	}
	return r.stored(ctx, prefix, s)
}

// connect: devices that come in and go.
type connect struct {
	Devices int `json:"devices"`
	Rounds  int `json:"rounds"`
}

func (c *connect) title() string {
	return "gateway: CONNECT to CONNACK with the secret checked, 64 at a time; first with credentials that the gateway has to fetch, then with those that it knows"
}

func (c *connect) flags(set *flag.FlagSet) {
	set.IntVar(&c.Devices, "devices", 5000, "devices")
	set.IntVar(&c.Rounds, "rounds", 3, "how often all come in again, 1 to 10: more in a minute is flapping")
}
func (c *connect) shrink() { c.Devices, c.Rounds = 50, 1 }

func (c *connect) run(ctx context.Context, r *rig) (*finding, error) {
	if c.Devices < 1 || c.Rounds < 1 || c.Rounds > 10 {
		return nil, errors.New("-devices must be at least 1, and -rounds 1 to 10")
	}
	sites, err := r.fleet(ctx, "connect", c.Devices, 0)
	if err != nil {
		return nil, err
	}
	s, err := r.swarm(sites, true)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	cold, err := r.during(func() error { return s.Connect(ctx) })
	if err != nil {
		return nil, err
	}
	f := &finding{shape: shape{kind: connects}}
	for range c.Rounds {
		s.Leave()
		if err := r.rest(ctx, r.gateway.Process); err != nil {
			return nil, err
		}
		one, err := r.during(func() error { return s.Connect(ctx) })
		if err != nil {
			return nil, err
		}
		f.spent = f.spent.and(one)
	}
	f.did = c.Devices * c.Rounds
	f.more("connects by gateway CPU", "/s", per(float64(f.did), f.spent.gateway), 8000)
	f.more("connects", "/s", float64(f.did)/f.spent.seconds, 0)
	f.each(f.spent, f.did, "connect")
	f.more("first connects by gateway CPU", "/s", per(float64(c.Devices), cold.gateway), 0)
	f.more("first connects", "/s", float64(c.Devices)/cold.seconds, 0)
	if lost := s.Counts().Lost; lost > 0 {
		r.say("%d connections were lost meanwhile", lost)
	}
	f.Check, err = r.eachOnce(ctx, "connect", s)
	return f, err
}

// rest waits until a process has next to nothing to do, such as what was left by connections that are closed, but not for long.
func (r *rig) rest(ctx context.Context, p testkit.Process) error {
	const look, little, most = 300 * time.Millisecond, 20 * time.Millisecond, 20 * time.Second
	last, err := p.CPU()
	for deadline := time.Now().Add(most); err == nil && time.Now().Before(deadline); {
		if err = testkit.Pause(ctx, look); err != nil {
			return err
		}
		now, failed := p.CPU()
		if failed != nil || now-last <= little {
			return failed
		}
		last = now
	}
	return err
}
