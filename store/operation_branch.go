package store

import (
	"fmt"
	"slices"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// branch is a part of a list that one index has in order: what is open, or what has ended in one state. state itself is in
// no index, since it moves; outcome is, and it is written once.
type branch func(*where)

// The states in which an operation ends, and those of them that come with an error code.
var (
	outcomes = []command.State{command.Succeeded, command.Failed, command.Expired, command.Cancelled, command.Dead}
	coded    = []command.State{command.Failed, command.Dead}
)

func anything(*where) {}

// stillOpen says it in both ways: a queue's index is of what has no outcome.
// stillOpen says it in the words of all indexes of what is open, operations_queue included.
func stillOpen(w *where) { w.and(`open AND outcome IS NULL`) }

func endedAs(s command.State) branch {
	return func(w *where) { w.and(`outcome = '` + string(s) + `'`) }
}

// stateBranches are the parts of a list that its state leaves. From its deadline on an open operation is an expired one.
func (t *tx) stateBranches(tenant fleet.Tenant, f command.OperationFilter, now time.Time) (branches []branch, err error) {
	past, future := `open AND outcome IS NULL AND expires_at <= %s`, `open AND outcome IS NULL AND expires_at > %s`
	switch {
	case f.State == "" && f.CommandID != "":
		return []branch{anything}, nil
	case f.Code != "":
		for _, s := range coded {
			if f.State == "" || f.State == s {
				branches = append(branches, endedAs(s))
			}
		}
		return branches, nil
	case f.State == "":
		branches = []branch{stillOpen}
		for _, s := range outcomes {
			branches = append(branches, endedAs(s))
		}
		return branches, nil
	case f.State == command.Expired:
		in, err := t.ofCommands(tenant, `expires_at <= $2`, timeText(now))
		if in != nil {
			branches = append(branches, func(w *where) { w.and(past, timeText(now)); in(w) })
		}
		return append(branches, endedAs(f.State)), err
	case f.State.Open():
		in, err := t.ofCommands(tenant, counted(f.State)+` > 0 AND expires_at > $2`, timeText(now))
		if in != nil {
			branches = append(branches, func(w *where) { w.and(future+` AND state = '`+string(f.State)+`'`, timeText(now)); in(w) })
		}
		return branches, err
	case slices.Contains(outcomes, f.State):
		return []branch{endedAs(f.State)}, nil
	}
	return nil, nil
}

// counted is how many operations of a command are in an open state, as SQL.
func counted(s command.State) string {
	if s == command.Queued {
		return `total - sent - delivered - accepted - succeeded - failed - expired - cancelled - dead`
	}
	return string(s)
}

// What is open of commands is looked up command by command when they are so many at most and have so many operations open.
const (
	fewCommands = 1000
	fewOpen     = 10_000
)

// ofCommands narrows a branch to the tenant's running commands that are such, where these have little open; nil when there
// is none. What moves is in no index, but the commands' counts and deadlines say where to look for it.
func (t *tx) ofCommands(tenant fleet.Tenant, condition string, arg any) (branch, error) {
	var found []struct {
		Seq, Open int
	}
	err := t.list(&found, `
		SELECT seq, total - succeeded - failed - expired - cancelled - dead AS open
		FROM commands
		WHERE tenant = $1 AND running AND `+condition+`
		LIMIT $3`, string(tenant), arg, fewCommands+1)
	if err != nil {
		return nil, fmt.Errorf("look for running commands: %w", err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	numbers, open := make([]int, len(found)), 0
	for i, c := range found {
		numbers[i] = c.Seq
		open += c.Open
	}
	if len(found) > fewCommands || open > fewOpen {
		return anything, nil
	}
	return func(w *where) {
		w.conditions = append(w.conditions, t.amongInts("seq", w.number(ints(t.dialect, numbers))))
	}, nil
}
