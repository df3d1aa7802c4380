package door

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestTurnsGoRoundTheAddresses(t *testing.T) {
	turns := newTurns()
	turns.free = 1
	flooder, good := netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("10.0.0.1/32")
	if err := turns.take(t.Context(), flooder); err != nil {
		t.Fatal(err)
	}
	order := make(chan netip.Prefix)
	wait := func(address netip.Prefix) {
		go func() {
			if err := turns.take(t.Context(), address); err == nil {
				order <- address
			}
		}()
	}
	waiting := func(address netip.Prefix, n int) {
		eventually(t, "they wait", func() bool {
			turns.mu.Lock()
			defer turns.mu.Unlock()
			return turns.lines[address] != nil && len(turns.lines[address].waiting) == n
		})
	}
	for range 50 {
		wait(flooder)
	}
	waiting(flooder, 50)
	wait(good)
	waiting(good, 1)
	for i := range 51 {
		turns.give()
		if who := <-order; who == good && i > 1 || who == flooder && i == 1 {
			t.Fatalf("turn %d is %v's", i, who)
		}
	}
	turns.give()
	if turns.free != 1 || len(turns.lines) != 0 || len(turns.round) != 0 {
		t.Errorf("%d free, %d lines, %d in the round", turns.free, len(turns.lines), len(turns.round))
	}
}

func TestATurnThatIsNotWaitedForIsNotLost(t *testing.T) {
	turns := newTurns()
	turns.free = 1
	a := netip.MustParsePrefix("10.0.0.1/32")
	if err := turns.take(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := turns.take(ctx, a); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	turns.give()
	if err := turns.take(t.Context(), a); err != nil || turns.free != 0 {
		t.Errorf("error %v, %d free", err, turns.free)
	}
}
