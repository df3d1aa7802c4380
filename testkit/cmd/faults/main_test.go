package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"meterline/testkit/checker"
	"meterline/testkit/faults"
)

func TestMistakes(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"-uplink file": "-uplink", "-only redis-killed,nothing": `"nothing"`, "-each 0": "-each", "-kills -1": "-kills", "-rate -1": "-rate", "more": `"more"`,
	} {
		var stderr bytes.Buffer
		if status := run(t.Context(), strings.Fields(args), &stderr, &stderr); status != 2 || !strings.Contains(stderr.String(), says) {
			t.Errorf("%s: status %d: %s", args, status, &stderr)
		}
	}
}

// Twenty seeds go through all faults that a short run has, with either log, and what flushes is apart.
func TestTwentySeedsHaveAllFaults(t *testing.T) {
	t.Parallel()
	o, err := parse(nil, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	trials := o.seeded()
	seen, keys := map[string]bool{}, map[string]bool{}
	for i, tr := range trials {
		flush := i == len(trials)-1
		for _, p := range tr.Faults {
			seen[p.Fault] = true
			if f, _ := faults.Find(p.Fault); f.Flushes != flush {
				t.Errorf("%s has %s", tr.Name, p.Fault)
			}
		}
		keys[tr.key()] = true
	}
	for _, f := range faults.Table {
		if !f.OnlyLong && !seen[f.Name] {
			t.Errorf("%s is in none", f.Name)
		}
	}
	if len(keys) != len(trials) || trials[0].Uplink != "redis" || trials[1].Uplink != "store" {
		t.Errorf("%d trials, %d keys", len(trials), len(keys))
	}
}

// Kills prove something about the rate that was asked for alone; seeds go at their own, which is low.
func TestRates(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		trials       func(options) []trial
		least, rated float64
	}{
		"":                    {options.seeded, 0, 150},
		"-rate 70":            {options.seeded, 0, 70},
		"-kills 2":            {options.killings, 1300, 1430},
		"-kills 2 -rate 1000": {options.killings, 1000, 1100},
	} {
		o, err := parse(strings.Fields(args), &bytes.Buffer{})
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range want.trials(o) {
			if tr.Least != want.least || math.Abs(tr.Rate-want.rated) > 1e-6 {
				t.Errorf("%q, %s: %v readings per second, and %v are the least", args, tr.Name, tr.Rate, tr.Least)
			}
		}
	}
	for least, slow := range map[float64]bool{0: false, 1000: false, 1001: true} {
		text := trial{Least: least}.tooSlow(checker.Report{Loaded: 2 * time.Second, UnderLoad: 2000})
		if (text != "") != slow || slow && !(strings.Contains(text, "1000") && strings.Contains(text, "1001")) {
			t.Errorf("1000 of %v: %q", least, text)
		}
	}
}

func TestTableSumsUpRuns(t *testing.T) {
	t.Parallel()
	killed := produced{Number: 3, Name: "redis-killed"}
	results := []result{
		{Name: "seed 0", Uplink: "redis", Faults: []produced{killed, killed, {Number: 1, Name: "gateway-killed"}},
			Report: checker.Report{AckedUplinks: 10, Recoveries: []checker.Recovery{{Fault: "redis-killed", Uplink: time.Second}}}},
		{Name: "seed 1", Uplink: "store", Faults: []produced{killed}, Report: checker.Report{AckedUplinks: 5, Lost: 2, Counts: map[string]int{"lost": 2}}},
		{Name: "seed 2", Uplink: "store", Faults: []produced{{Number: 3, Name: "redis-killed", Error: "hit nothing"}}},
	}
	var out bytes.Buffer
	table(&out, results)
	for _, row := range []string{"| 3 | redis-killed | 3 | 15 | 2 | 0 |", "| 1 | gateway-killed | 1 | 10 | 0 |", "| 1.0 s |"} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("there is no %q in\n%s", row, &out)
		}
	}
	for i, good := range []bool{true, false, false} {
		if results[i].good() != good {
			t.Errorf("run %d is good: %v", i, !good)
		}
	}
	if s := line(results[0]); !strings.Contains(s, "gateway-killed, 2 × redis-killed): ok") {
		t.Error(s)
	}
}

// A run that shows nothing is performed again, for a while; one that shows something wrong never is.
func TestVoidRunsArePerformedAgain(t *testing.T) {
	t.Parallel()
	good := result{Name: "good"}
	missed := result{Name: "missed", Faults: []produced{{Name: "commit-unanswered", Error: "the fault hit nothing", Missed: true}}}
	quiet := result{Name: "quiet", Report: checker.Report{Void: []string{"no uplink was sent again"}}}
	lost := result{Name: "lost", Report: checker.Report{Void: quiet.Report.Void, Counts: map[string]int{"lost": 1}}}
	broken := result{Name: "broken", Faults: []produced{{Name: "redis-killed", Error: "heal after redis-killed: backend-1 is not ready"}, missed.Faults[0]}}
	for want, results := range map[string][]result{
		"good after 1": {good}, "good after 3": {missed, quiet, good}, "quiet after 3": {quiet, quiet, quiet, good},
		"lost after 1": {lost, good}, "lost after 2": {quiet, lost, good}, "broken after 1": {broken, good},
	} {
		n := 0
		r, err := (&session{stderr: &bytes.Buffer{}}).again(triesOfOne, func() (result, error) { n++; return results[n-1], nil })
		if got := fmt.Sprintf("%s after %d", r.Name, n); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}
