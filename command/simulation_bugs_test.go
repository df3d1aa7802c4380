//go:build faults

package command_test

import (
	"testing"

	"meterline/fault"
)

// planted are the bugs that live in this package, each with how many schedules it may take to find it. Those that take more
// than -schedules says are left out.
var planted = []struct {
	bug    fault.Name
	within uint64
}{
	{fault.BugLeaseByClock, 5000},
	{fault.BugOldDisconnect, 5000},
	{fault.BugEndedMoves, 5000},
	{fault.BugEndedRequeued, 5000},
	{fault.BugAttemptForgiven, 5000},
	{fault.BugDoubtIsNo, 5000},
	{fault.BugPositionAlone, 5000},
	{fault.BugFlightsLost, 5000},
	{fault.BugFirstAnswerLost, 5000},
	{fault.BugLateCounts, 5000},
	{fault.BugShownTakenBack, 5000},
	{fault.BugNoWindow, 5000},
	{fault.BugSweepUnfenced, 20000},
	{fault.BugNoLetter, 5000},
	{fault.BugBegunUntracked, 5000},
	{fault.BugDueByGuess, 5000},
	{fault.BugFollowsNot, 5000},
	{fault.BugTakenBackEarly, 5000},
	{fault.BugOthersBegin, 20000},
	{fault.BugNeverBehind, 20000},
}

// The checks are checked: each bug that is planted is found, and soon.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, p := range planted {
		if p.within > uint64(*schedulesFlag) {
			continue
		}
		t.Run(string(p.bug), func(t *testing.T) {
			fault.Set(fault.Plan{Bugs: []fault.Name{p.bug}})
			defer fault.Set(fault.Plan{})
			cover := newCoverage()
			for seed := uint64(1); seed <= p.within; seed++ {
				if wrong, _ := play(t, seed, cover, false); wrong != "" {
					t.Logf("found by schedule %d: %s", seed, wrong)
					fault.Set(fault.Plan{})
					if wrong, _ := play(t, seed, cover, false); wrong != "" {
						t.Errorf("without it schedule %d is wrong, too: %s", seed, wrong)
					}
					return
				}
			}
			t.Errorf("not found in %d schedules", p.within)
		})
	}
}
