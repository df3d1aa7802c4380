package store

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/command"
)

func oldest(t *testing.T, from prometheus.Gatherer) float64 {
	t.Helper()
	families, err := from.Gather()
	check(t, err)
	for _, f := range families {
		if f.GetName() == "meterline_uplink_log_oldest_seconds" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("the age of the oldest entry is not shown")
	return 0
}

// TestTheUplinkLogIsReadAhead: from nowhere it is the end, and how much waits can be seen.
func TestTheUplinkLogIsReadAhead(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		metrics := prometheus.NewRegistry()
		l := db.UplinkLog(UplinkLogOptions{Bound: 10, Backlogs: metrics})
		check(t, l.Append(ctx, []command.Uplink{entry(3, "d", "a"), entry(4, "d", "other"), entry(3, "d", "b")}))
		at, err := l.ReadAhead(ctx, starts(3), 10)
		check(t, err)
		if len(at[0].Entries) != 0 {
			t.Fatalf("at the end there is %v", payloads(at[0]))
		}
		check(t, l.Append(ctx, []command.Uplink{entry(3, "d", "c")}))
		next, err := l.ReadAhead(ctx, []command.LogPosition{at[0].LogPosition}, 10)
		check(t, err)
		if !slices.Equal(payloads(next[0]), []string{"c"}) {
			t.Fatalf("after the end came %v", payloads(next[0]))
		}

		if _, err := l.Read(ctx, starts(3, 4), 10); err != nil {
			t.Fatal(err)
		}
		check(t, l.look(ctx))
		if l.Alarms() != nil {
			t.Errorf("got %v", l.Alarms())
		}
		for range 5 {
			check(t, l.Append(ctx, []command.Uplink{entry(3, "d", "x")}))
		}
		check(t, l.look(ctx))
		if len(l.Alarms()) != 1 {
			t.Error("8 of 10 are no alarm")
		}
		for _, owned := range [][]int{{3, 4}, {}} {
			l.Owns(owned)
			check(t, l.look(ctx))
			if old := oldest(t, metrics); (old > 0) != (len(owned) > 0) {
				t.Errorf("the oldest entry is %v s old to who reads %v", old, owned)
			}
		}
	})
}
