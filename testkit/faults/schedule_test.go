package faults_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"meterline/testkit/faults"
)

// A seed always gives the same plan, and seeds that follow each other leave no fault out before one comes again.
func TestSchedule(t *testing.T) {
	t.Parallel()
	for _, o := range []faults.Options{{}, {Long: true}, {Flush: true}, {Each: 7}, {Uplink: "store"}} {
		want := map[string]bool{}
		for _, f := range faults.Table {
			if f.Flushes == o.Flush && (o.Long || !f.OnlyLong) {
				want[f.Name] = true
			}
		}
		each := 4
		if o.Each > 0 {
			each = o.Each
		}
		got := map[string]int{}
		seeds := (2*len(want) + each - 1) / each // two rounds
		for seed := range uint64(seeds) {
			plan := faults.Schedule(seed, o)
			if again := faults.Schedule(seed, o); !reflect.DeepEqual(plan, again) {
				t.Fatalf("%+v: seed %d gives %v and %v", o, seed, plan, again)
			}
			if len(plan) != each {
				t.Errorf("%+v: seed %d has %d faults", o, seed, len(plan))
			}
			for _, p := range plan {
				got[p.Fault]++
				f, ok := faults.Find(p.Fault)
				if !ok || !want[p.Fault] || p.After <= 0 || o.Long && p.Hold != f.Long || !o.Long && p.Hold != f.Short {
					t.Errorf("%+v: %+v", o, p)
				}
			}
		}
		for name := range want {
			if got[name] < 2 || got[name] > 3 {
				t.Errorf("%+v: in two rounds %s comes %d times", o, name, got[name])
			}
		}
	}
}

// Faults have names of their own and stand on the page.
func TestTable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	numbers, names := map[int]bool{}, map[string]bool{}
	for _, f := range faults.Table {
		if names[f.Name] {
			t.Errorf("two faults are named %s", f.Name)
		}
		names[f.Name], numbers[f.Number] = true, true
		family, _, _ := strings.Cut(f.Name, "-at-")
		if f.Number == 9 || f.Number == 10 { // the page names the three ways together
			family = family[strings.LastIndexByte(family, '-'):]
		}
		if !strings.Contains(string(page), family) {
			t.Errorf("docs/faults.md does not tell of %s", f.Name)
		}
	}
	for n := 1; n <= 20; n++ {
		if !numbers[n] {
			t.Errorf("there is no fault %d", n)
		}
	}
	if !numbers[28] {
		t.Error("there is no fault 28")
	}
}
