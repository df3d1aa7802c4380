package command

import (
	"maps"
	"slices"
	"testing"
)

// What is known is left behind up to the first number that may still show up.
func TestLookingForArrivalsStopsAtTheFirstGap(t *testing.T) {
	for _, c := range []struct {
		heard []int64
		from  int64
		left  []int64
	}{
		{nil, 10, nil},
		{[]int64{12, 11, 13}, 13, nil},
		{[]int64{11, 13, 14}, 11, []int64{13, 14}},
		{[]int64{12}, 10, []int64{12}},
		{[]int64{9, 10, 11}, 11, nil}, // known before
	} {
		a := newArrivalWatch()
		a.from = 10
		for _, seq := range c.heard {
			a.heard(Arrived{Seq: seq, Whole: true})
		}
		a.heard(Arrived{Seq: a.from + 1000}) // not of all its endpoints: it has to be looked up
		a.advance()
		if left := slices.Sorted(maps.Keys(a.seen)); a.from != c.from || !slices.Equal(left, c.left) {
			t.Errorf("heard of %v: known up to %d, and of %v", c.heard, a.from, left)
		}
	}
}
