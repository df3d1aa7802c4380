package uplink_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"meterline/command"
	"meterline/uplink"
)

func TestMemoryAnswersOnlyWhenStored(t *testing.T) {
	log := uplink.NewMemory(0)
	answer := put(t, log, entry(0, "e-1", "a"), entry(1, "e-2", "b"))
	r := newReader(t, log, 2)
	r.until(2)
	unanswered := func() {
		t.Helper()
		select {
		case err := <-answer:
			t.Fatalf("answered before all was stored: %v", err)
		case <-time.After(20 * time.Millisecond): // an answer would be here by now; none can be missed for sure
		}
	}
	unanswered()
	log.Stored(t.Context(), r.at[:1])
	log.Stored(t.Context(), r.at[:1])
	unanswered()
	log.Stored(t.Context(), r.at)
	answered(t, answer)
}

func TestMemoryAppendGivesUpWithItsContext(t *testing.T) {
	log := uplink.NewMemory(2)
	ctx, stop := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { answer <- log.Append(ctx, []command.Uplink{entry(0, "e-1", "a")}) }()
	r := newReader(t, log, 1)
	r.until(1)
	stop()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Fatalf("Append says %v", err)
	}
	r.stored() // gets there all the same, and nobody waits for it
	if err := log.Append(t.Context(), []command.Uplink{entry(0, "", ""), entry(0, "", ""), entry(0, "", "")}); !errors.Is(err, uplink.ErrFull) {
		t.Fatalf("Append says %v", err)
	}
	next := put(t, log, entry(0, "e-1", "b"), entry(0, "e-1", "c"))
	r.until(3)
	r.stored()
	answered(t, next)
}

func TestMemoryOfAnotherProcessHasAnotherGeneration(t *testing.T) {
	a, b := newReader(t, uplink.NewMemory(0), 1), newReader(t, uplink.NewMemory(0), 1)
	a.read(1)
	b.read(1)
	if a.at[0].Generation == b.at[0].Generation {
		t.Fatal("a position of one would count in the other")
	}
}
