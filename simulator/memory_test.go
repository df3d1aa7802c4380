package simulator

import (
	"fmt"
	"testing"
	"time"

	"meterline/meterread"
)

func TestMemoryIsBoundedAndNeverForgetsWhatIsInProgress(t *testing.T) {
	stats := &Stats{}
	m := newMemory(3, stats)
	key := func(i int) operationKey { return operationKey{meterread.CommandID(fmt.Sprint("c", i)), "m"} }
	working := m.begin(key(0), 1, noon, noon)
	for i := 1; i <= 5; i++ {
		m.begin(key(i), 1, noon, noon).result = &result{}
	}
	if m.find(key(0), noon) != working {
		t.Error("forgot an operation in progress")
	}
	if len(m.order) != 3 || len(m.known) != 3 || stats.forgotten.Load() != 3 {
		t.Errorf("%d and %d remembered, %d forgotten; want 3, 3, 3", len(m.order), len(m.known), stats.forgotten.Load())
	}
	if m.find(key(5), noon) == nil || m.find(key(4), noon) == nil || m.find(key(1), noon) != nil {
		t.Error("did not forget the oldest")
	}
}

func TestMemoryLastsADayAndAnHourPastTheDeadline(t *testing.T) {
	m := newMemory(10, &Stats{})
	k := operationKey{"c", "m"}
	cases := []struct{ deadline, lasts time.Duration }{{30 * time.Second, 24 * time.Hour}, {48 * time.Hour, 49 * time.Hour}}
	for _, c := range cases {
		m.begin(k, 1, noon.Add(c.deadline), noon).result = &result{}
		if m.find(k, noon.Add(c.lasts)) == nil {
			t.Errorf("deadline in %s: forgotten within %s", c.deadline, c.lasts)
		}
		if m.find(k, noon.Add(c.lasts+time.Second)) != nil {
			t.Errorf("deadline in %s: remembered after %s", c.deadline, c.lasts)
		}
	}
	later := noon.Add(100 * time.Hour)
	m.begin(operationKey{"d", "m"}, 1, later, later)
	if len(m.known) != 1 || len(m.order) != 1 {
		t.Errorf("%d remembered, want the new one alone", len(m.known))
	}
}
