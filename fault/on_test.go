//go:build faults

package fault

import "testing"

func TestAPointFiresOnceAfterItsSkips(t *testing.T) {
	Set(Plan{Points: []Armed{{ID: "1", Point: "here", Skip: 2, Action: Panic}}, Bugs: []Name{"bug"}, ClockOffset: 3_600_000})
	defer Set(Plan{})
	fired := func() (did bool) {
		defer func() { did = recover() != nil }()
		Point("there")
		Point("here")
		return
	}
	for i, want := range []bool{false, false, true, false} {
		if fired() != want {
			t.Errorf("pass %d: fired is %v", i, !want)
		}
	}
	if !Bug("bug") || Bug("other") {
		t.Error("the wrong bug is planted")
	}
}
