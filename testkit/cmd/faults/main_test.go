package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"meterline/testkit/checker"
	"meterline/testkit/faults"
)

func TestMistakes(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"-uplink file": "-uplink", "-only redis-killed,nothing": `"nothing"`, "-each 0": "-each", "-kills -1": "-kills", "more": `"more"`,
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
