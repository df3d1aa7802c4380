package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"meterline/fault"
	"meterline/testkit"
	"meterline/testkit/cluster"
)

// Outcome is what became of a planned fault.
type Outcome struct {
	Planned  Planned
	Began    time.Time
	Healed   time.Time     // when nothing of it was left but what it had broken
	Recover  time.Duration // from then until every process was ready again
	Evidence []string      // what shows that it was hit
	Err      error         // ErrNotHit, or what could not be done
}

// recoverWithin is how long a cluster may take until all of it is ready after a fault.
const recoverWithin = 60 * time.Second

// Run produces the faults of a schedule in turn and waits after each until all processes are ready. It goes on after a fault
// that failed, as long as the cluster could be healed, and ends early only with ctx.
func Run(ctx context.Context, c *cluster.Cluster, schedule []Planned) []Outcome {
	var all []Outcome
	for _, p := range schedule {
		if testkit.Pause(ctx, p.After) != nil {
			break
		}
		all = append(all, Inject(ctx, c, p))
	}
	return all
}

// Inject produces one fault, holds it, heals it and waits until all processes are ready.
func Inject(ctx context.Context, c *cluster.Cluster, p Planned) (o Outcome) {
	o = Outcome{Planned: p, Began: time.Now()}
	f, ok := Find(p.Fault)
	if !ok {
		o.Err = fmt.Errorf("there is no fault %q", p.Fault)
		return o
	}
	s := &scene{Cluster: c, rand: rand.New(rand.NewPCG(p.Seed, uint64(f.Number))), hold: p.Hold, other: p.Programs,
		id: fmt.Sprintf("%s-%x-%x", f.Name, p.Seed, o.Began.UnixMicro())}
	o.Err = f.inject(ctx, s)
	o.Healed, o.Evidence = time.Now(), s.evidence
	if o.Err == nil && len(s.evidence) == 0 {
		o.Err = ErrNotHit
	}
	// Healing is done in any case, also when ctx is over.
	heal, stop := context.WithTimeout(context.WithoutCancel(ctx), recoverWithin)
	defer stop()
	err := Heal(heal, c)
	o.Recover = time.Since(o.Healed)
	if err != nil { // then it is no longer of interest that nothing was hit
		o.Err = fmt.Errorf("heal after %s: %w", f.Name, errors.Join(err, unless(o.Err, ErrNotHit)))
	}
	return o
}

// unless is err, but nil where it is that one.
func unless(err, that error) error {
	if errors.Is(err, that) {
		return nil
	}
	return err
}

// Heal takes every fault away, starts what is down, and waits until all is ready.
func Heal(ctx context.Context, c *cluster.Cluster) error {
	var errs []error
	for _, n := range c.Nodes() {
		errs = append(errs, n.Heal(), n.Arm(fault.Plan{}))
	}
	for _, p := range []interface {
		PID() int
		Start() error
		Resume() error
	}{c.Postgres, c.Redis} {
		if p.PID() == 0 {
			errs = append(errs, p.Start())
		}
		errs = append(errs, p.Resume())
	}
	for _, n := range c.Nodes() {
		if n.PID() == 0 {
			errs = append(errs, n.Start())
		}
		errs = append(errs, n.Resume())
	}
	return errors.Join(errors.Join(errs...), c.WaitReady(ctx))
}
