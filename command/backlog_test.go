package command

import (
	"log/slog"
	"testing"
)

// What came while nobody read and shrinks may wait for those who read in real time; what grows, or is nearly full, may not.
func TestABacklogPressesWhenItGrows(t *testing.T) {
	w := NewBacklogWatch(nil, "redis", slog.New(slog.DiscardHandler))
	for i, step := range []struct {
		entries int64
		share   float64
		presses bool
	}{
		{0, 0, false},
		{9_000, 0, false}, // few
		{11_000, 0, true}, // from 9 000
		{10_500, 0, true}, // until it is small again
		{9_999, 0, false},
		{0, 0.9, true},
		{0, 0.1, false},
	} {
		w.Saw(Backlog{Entries: step.entries, Share: step.share})
		if w.Presses() != step.presses {
			t.Errorf("step %d: %v", i, w.Presses())
		}
	}
	w = NewBacklogWatch(nil, "redis", slog.New(slog.DiscardHandler))
	for i, entries := range []int64{1_000_000, 1_010_000, 700_000, 800_000, 500_000, 590_000, 610_000} { // it was there before anybody looked
		if w.Saw(Backlog{Entries: entries}); w.Presses() != (i == 6) {
			t.Errorf("%d entries: %v", entries, w.Presses())
		}
	}
}
