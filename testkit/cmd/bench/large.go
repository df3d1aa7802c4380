//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"meterline/command"
	"meterline/testkit/cluster"
)

// large: one command for very many meters. Their IPCs come only when it is expanded, so that the two can be told apart.
type large struct {
	Sizes  sizes `json:"meters"`
	PerIPC int   `json:"meters_per_ipc"`
}

func (l *large) title() string {
	return "one asynchronous command for N meters behind IPCs: accepted, expanded while no IPC is there, then carried out"
}

func (l *large) flags(set *flag.FlagSet) {
	l.Sizes = sizes{1000, 10_000, 100_000, 1_000_000}
	set.Var(&l.Sizes, "meters", "meters of the commands; registering a million takes minutes")
	set.IntVar(&l.PerIPC, "per-ipc", 500, "meters behind each IPC, 1 to 1000")
}
func (l *large) shrink() { l.Sizes, l.PerIPC = sizes{60, 240}, 30 }

func (l *large) run(ctx context.Context, r *rig) (*finding, error) {
	if l.PerIPC < 1 || l.PerIPC > 1000 {
		return nil, fmt.Errorf("-per-ipc must be 1 to 1000")
	}
	f := &finding{shape: shape{kind: answers, targets: 50}}
	base, of := 0.0, ""
	for i, n := range l.Sizes {
		from := len(f.Figures)
		each, err := l.one(ctx, r, f, n)
		if err != nil {
			return nil, fmt.Errorf("%d meters: %w", n, err)
		}
		if base != 0 {
			f.less("cost of an operation by that of "+of, "", each/base, 1.2)
		}
		if i == 0 || n == baseSize {
			base, of = each, thousands(int64(n))
		}
		f.of(n, from)
	}
	return f, nil
}

// baseSize is the size that larger ones are compared with; the smallest where it is none of them.
const baseSize = 10_000

// one issues one command and gives what the servers paid for an operation, in µs.
func (l *large) one(ctx context.Context, r *rig, f *finding, n int) (each float64, err error) {
	ipcs := (n + l.PerIPC - 1) / l.PerIPC
	n = ipcs * l.PerIPC
	prefix := fmt.Sprintf("command-%d", n)
	sites, err := r.fleet(ctx, prefix, ipcs, l.PerIPC)
	if err != nil {
		return 0, err
	}
	// IPCs are in the group, and are not asked.
	var id string
	var accepted time.Duration
	expanding, err := r.during(func() error {
		began := time.Now()
		id, err = r.issueOne(ctx, order(command.Async, command.Selector{Group: prefix}))
		if accepted = time.Since(began); err != nil {
			return err
		}
		return r.expanded(ctx, id, n)
	})
	if err != nil {
		return 0, err
	}
	s, err := r.swarm(sites, false)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	var carrying spent
	err = r.beside(ctx, s, func(ctx context.Context) error {
		carrying, err = r.during(func() error { return r.carriedOut(ctx, id) })
		return err
	})
	if err != nil {
		return 0, err
	}
	one, err := r.stored(ctx, prefix, s)
	if err != nil {
		return 0, err
	}
	f.Check, f.did, f.spent = f.Check.and(one), f.did+n, f.spent.and(carrying)
	return l.tell(r, f, n, accepted, expanding, carrying)
}

// million is the size that the goals are about.
const million = 1_000_000

// tell adds the figures of one command.
func (l *large) tell(r *rig, f *finding, n int, accepted time.Duration, expanding, carrying spent) (each float64, err error) {
	goal := func(g float64) float64 {
		if n < million {
			return 0
		}
		return g
	}
	f.less("accepted", "s", accepted.Seconds(), goal(2))
	f.less("expanded", "s", expanding.seconds, goal(30))
	f.less("expanding, CPU of all servers", "µs/operation", expanding.servers()*1e6/float64(n), 0)
	f.more("carried out", "/s", float64(n)/carrying.seconds, 0)
	all := expanding.and(carrying)
	f.each(all, n, "operation")
	each = all.servers() * 1e6 / float64(n)
	f.less("cost of an operation, CPU of all servers", "µs", each, 0)
	for _, of := range []*cluster.Node{r.backend, r.gateway} {
		_, most, err := of.Memory()
		if err != nil {
			return 0, err
		}
		f.less("most memory so far, "+of.Name, "MiB", float64(most)/(1<<20), 0)
	}
	return each, nil
}

// issueOne posts one command.
func (r *rig) issueOne(ctx context.Context, body []byte) (id string, err error) {
	err = r.users(ctx, 1, func(ctx context.Context, _ int, c *client) (err error) {
		id, err = c.issue(ctx, body)
		return err
	})
	return id, err
}

// expanded waits until a command has all of its operations.
func (r *rig) expanded(ctx context.Context, id string, n int) error {
	return r.until(ctx, "the command is expanded", lookEvery, func() (bool, error) {
		var expanding bool
		var made, total int
		err := r.DB.QueryRowContext(ctx, `SELECT expanding, made, total FROM commands WHERE id = $1`, id).Scan(&expanding, &made, &total)
		if err == nil && !expanding && (made != n || total != n) {
			err = fmt.Errorf("the command has %d operations of %d, and should have %d", made, total, n)
		}
		return err == nil && !expanding, err
	})
}

// carriedOut waits until a command has come to its end.
func (r *rig) carriedOut(ctx context.Context, id string) error {
	const lookEvery = 100 * time.Millisecond
	return r.until(ctx, "the command is carried out", lookEvery, func() (bool, error) {
		var running bool
		err := r.DB.QueryRowContext(ctx, `SELECT running FROM commands WHERE id = $1`, id).Scan(&running)
		return err == nil && !running, err
	})
}
