package main

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"time"

	"meterline/testkit/checker"
	"meterline/testkit/faults"
)

// key is a file name that is the same for the same trial alone.
func (t trial) key() string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%+v", t)
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name+" "+t.Uplink))
	return fmt.Sprintf("%s-%08x", name, h.Sum32())
}

// names are those of the faults, each once, with how often it was produced.
func (r result) names() []string {
	var names []string
	for _, s := range sums([]result{r}) {
		if s.hit > 1 {
			names = append(names, fmt.Sprintf("%d × %s", s.hit, s.name))
		} else {
			names = append(names, s.name)
		}
	}
	return names
}

// line tells of a run when it is over.
func line(r result) string {
	s := fmt.Sprintf("%s (%s, %.0f s: %s)", r.Name, r.Uplink, r.Took.Seconds(), strings.Join(r.names(), ", "))
	switch {
	case r.failed() != "":
		s += ": VOID: " + r.failed()
	case len(r.Report.Counts) > 0:
		s += ": WRONG: " + r.Report.Wrong()
	case len(r.Report.Void) > 0:
		s += ": VOID: " + strings.Join(r.Report.Void, "; ")
	default:
		s += fmt.Sprintf(": ok, %d acknowledged uplinks", r.Report.AckedUplinks)
	}
	for _, v := range r.Report.Violations {
		s += "\n\t" + v.String()
	}
	return s + "\n"
}

// sum is a row of the table of faults: of all runs that had the fault.
type sum struct {
	number                               int
	name                                 string
	hit, acked, lost, twice              int
	endless, twoEnds, flushed, violation int
	ready, recovery                      time.Duration
}

func (s *sum) add(r result, f produced) {
	if f.Error == "" {
		s.hit++
	}
	s.ready = max(s.ready, f.Ready)
	for _, back := range r.Report.Recoveries {
		if back.Fault == f.Name {
			s.recovery = max(s.recovery, back.Uplink, back.Accepted, back.Ended)
		}
	}
}

func (s *sum) addRun(r result) {
	s.acked += r.Report.AckedUplinks
	s.lost += r.Report.Lost
	s.twice += r.Report.Twice
	s.endless += r.Report.Endless
	s.twoEnds += r.Report.TwoEnds
	s.flushed += r.Report.FlushLosses
	s.violation += len(r.Report.Counts)
}

// table prints the runs, and then the faults. The numbers of a fault are those of all runs that it was in.
func table(w io.Writer, results []result) {
	if len(results) == 0 {
		return
	}
	fmt.Fprint(w, checker.Head)
	for _, r := range results {
		fmt.Fprint(w, r.Report.Row(r.Name+", "+r.Uplink))
	}
	fmt.Fprint(w, "\n| fault | | hit | acknowledged uplinks | lost | stored twice | without end | two ends | lost by flush | other violations | all ready after | recovered after |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range sums(results) {
		fmt.Fprintf(w, "| %d | %s | %d | %d | %d | %d | %d | %d | %d | %d | %.1f s | %.1f s |\n", s.number, s.name, s.hit, s.acked, s.lost, s.twice,
			s.endless, s.twoEnds, s.flushed, s.violation, s.ready.Seconds(), s.recovery.Seconds())
	}
}

func sums(results []result) []*sum {
	of := map[string]*sum{}
	var all []*sum
	for _, r := range results {
		seen := map[string]bool{}
		for _, f := range r.Faults {
			s := of[f.Name]
			if s == nil {
				s = &sum{number: f.Number, name: f.Name}
				of[f.Name] = s
				all = append(all, s)
			}
			s.add(r, f)
			if !seen[f.Name] {
				seen[f.Name] = true
				s.addRun(r)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *sum) int { return cmp.Compare(a.number, b.number) })
	return all
}

func list(w io.Writer) {
	for _, f := range faults.Table {
		fmt.Fprintf(w, "%3d  %s\n", f.Number, f.Name)
	}
}
