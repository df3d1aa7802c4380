//go:build linux

package main

import (
	"fmt"
	"syscall"
	"time"

	"meterline/testkit"
)

// cost is the processor time that each process has used, PostgreSQL with all of its own, and when that was looked at.
type cost struct {
	at                                      time.Time
	gateway, backend, postgres, redis, load time.Duration
}

// cost is told to a hundredth of a second; that of a program that is down is 0.
func (r *rig) cost() (c cost, err error) {
	c.at = time.Now()
	for _, one := range []struct {
		of testkit.Process
		to *time.Duration
	}{{r.gateway.Process, &c.gateway}, {r.backend.Process, &c.backend}, {r.Postgres.Process, &c.postgres}, {r.Redis.Process, &c.redis}} {
		if one.of.PID() == 0 {
			continue
		}
		if *one.to, err = one.of.CPU(); err != nil {
			return c, err
		}
	}
	c.load, err = ownTime()
	return c, err
}

// ownTime is the processor time of this process.
func ownTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("processor time of the load: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// spent is what was used between two looks.
type spent struct {
	seconds                                 float64
	gateway, backend, postgres, redis, load float64 // seconds
}

func (c cost) since(before cost) spent {
	return spent{c.at.Sub(before.at).Seconds(), (c.gateway - before.gateway).Seconds(), (c.backend - before.backend).Seconds(),
		(c.postgres - before.postgres).Seconds(), (c.redis - before.redis).Seconds(), (c.load - before.load).Seconds()}
}

// servers is what all but the load used.
func (s spent) servers() float64 { return s.gateway + s.backend + s.postgres + s.redis }

// during measures what do costs. To begin and to end a profile is not in it.
func (r *rig) during(do func() error) (s spent, err error) {
	err = r.profiler.around(r, func() error { s, err = r.spending(do); return err })
	return s, err
}

func (r *rig) spending(do func() error) (s spent, err error) {
	before, err := r.cost()
	if err != nil {
		return s, err
	}
	if err := do(); err != nil {
		return s, err
	}
	after, err := r.cost()
	return after.since(before), err
}

// and is both together.
func (s spent) and(more spent) spent {
	return spent{s.seconds + more.seconds, s.gateway + more.gateway, s.backend + more.backend, s.postgres + more.postgres,
		s.redis + more.redis, s.load + more.load}
}
