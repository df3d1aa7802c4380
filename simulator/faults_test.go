package simulator

import (
	"math"
	"strings"
	"testing"
)

func TestParseFaults(t *testing.T) {
	got, err := ParseFaults([]string{"late=0.01", "lost=0.02", "duplicate=1", "error=0", "offline=0.5", "garbage=0.25"})
	if want := (Faults{Late: 0.01, Lost: 0.02, Duplicate: 1, Offline: 0.5, Garbage: 0.25}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if s := got.String(); s != "late 1 %, lost 2 %, duplicate 100 %, offline 50 %, garbage 25 %" {
		t.Error(s)
	}
	for _, bad := range []string{"late", "late=", "late=-1", "late=1.1", "late=NaN", "late=x", "burn=0.1", "=0.1", ""} {
		if _, err := ParseFaults([]string{bad}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	if _, err := ParseFaults([]string{"burn=1", "late=2"}); err == nil || !strings.Contains(err.Error(), "burn") || !strings.Contains(err.Error(), "late=2") {
		t.Errorf("not all complaints: %v", err)
	}
}

func fates(seed uint64, device string, f Faults, n int) []fate {
	b := DefaultBehaviour()
	b.Seed, b.Faults = seed, f
	d := newDice(&b, hashOf(device))
	all := make([]fate, n)
	for i := range all {
		all[i] = d.answer()
	}
	return all
}

func TestFaultsDependOnSeedAndDeviceAlone(t *testing.T) {
	some := Faults{Late: 0.1, Lost: 0.1, Duplicate: 0.1, Error: 0.1, Garbage: 0.1}
	a, b := fates(1, "m-1", some, 1000), fates(1, "m-1", some, 1000)
	other, seeded := fates(1, "m-2", some, 1000), fates(2, "m-1", some, 1000)
	quiet := fates(1, "m-1", Faults{Late: 0.1}, 1000)
	same, sameSeed := 0, 0
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("decision %d differs between two runs: %+v, %+v", i, a[i], b[i])
		}
		if a[i].late != quiet[i].late || a[i].takes != quiet[i].takes {
			t.Fatalf("decision %d depends on the rates of other faults", i)
		}
		if a[i] == other[i] {
			same++
		}
		if a[i] == seeded[i] {
			sameSeed++
		}
	}
	if same > 0 || sameSeed > 0 {
		t.Errorf("%d and %d decisions are those of another device or seed", same, sameSeed)
	}
}

func TestFaultsComeAtTheirRate(t *testing.T) {
	const n = 20_000
	var late, lost, failed, twice, noise int
	for _, f := range fates(7, "m-1", Faults{Late: 0.01, Lost: 0.02, Duplicate: 0.05, Error: 0.1, Garbage: 0.5}, n) {
		for _, c := range []struct {
			hit bool
			n   *int
		}{{f.late, &late}, {f.lost, &lost}, {f.code != "", &failed}, {f.duplicate, &twice}, {f.garbage, &noise}} {
			if c.hit {
				*c.n++
			}
		}
	}
	for _, c := range []struct {
		name string
		got  int
		rate float64
	}{{"late", late, 0.01}, {"lost", lost, 0.02}, {"duplicate", twice, 0.05}, {"error", failed, 0.1}, {"garbage", noise, 0.5}} {
		if spread := 5 * math.Sqrt(n*c.rate*(1-c.rate)); math.Abs(float64(c.got)-n*c.rate) > spread {
			t.Errorf("%s: %d of %d, want about %.0f", c.name, c.got, n, n*c.rate)
		}
	}
}
