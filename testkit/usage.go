package testkit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errDown is the error of asking a process that is down what it uses.
var errDown = errors.New("it is down")

// CPU is the processor time that the process and its children have used since it was started, to a hundredth of a second of
// each; children that have ended are in it. It needs /proc.
func (p Process) CPU() (sum time.Duration, err error) {
	pids := p.PIDs()
	if pids == nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.proc.name, errDown)
	}
	for i, pid := range pids {
		used, err := processorTime(pid, i == 0)
		if i > 0 && err != nil {
			continue // it has ended, and is with its parent the next time
		}
		if err != nil {
			return 0, fmt.Errorf("processor time of %s: %w", p.proc.name, err)
		}
		sum += used
	}
	return sum, nil
}

// Memory is what the kernel says of the resident memory of the process, without its children, in bytes: now, and the most it
// ever was. It needs /proc.
func (p Process) Memory() (now, most int64, err error) {
	pid := p.PID()
	if pid == 0 {
		return 0, 0, fmt.Errorf("memory of %s: %w", p.proc.name, errDown)
	}
	if now, most, err = residentMemory(pid); err != nil {
		return 0, 0, fmt.Errorf("memory of %s: %w", p.proc.name, err)
	}
	return now, most, nil
}

// Collected waits until a Go program has collected its garbage twice, for what came before may be in the way of the first, and had some
// time to give memory back to the system. An idle one collects every two minutes; it is false when patience was over before.
// metric asks for a metric of the program.
func Collected(ctx context.Context, metric func(ctx context.Context, name string) (float64, error), patience time.Duration) (bool, error) {
	const giveBack, collections = 10 * time.Second, "go_gc_duration_seconds_count"
	first, err := metric(ctx, collections)
	if err != nil {
		return false, err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		now, err := metric(ctx, collections)
		if err != nil {
			return false, err
		}
		if now >= first+2 {
			return true, Pause(ctx, min(giveBack, patience))
		}
		if err := Pause(ctx, min(time.Second, patience)); err != nil {
			return false, err
		}
	}
	return false, nil
}
