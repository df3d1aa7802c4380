package command

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// While Redis stands still all who poll wait for it at the same time, each for a command of its own.
func TestLiveStateThatStandsStillIsToldOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no time passes until it is asked again
		var log bytes.Buffer // the handler has a lock of its own
		s := &Service{opt: ServiceOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
		var begun, all sync.WaitGroup
		begun.Add(50)
		for range 50 {
			all.Go(func() {
				_ = s.patiently(t.Context(), "load", func(context.Context) error {
					begun.Done()
					begun.Wait()
					return errors.New("i/o timeout")
				})
			})
		}
		all.Wait()
		if n := strings.Count(log.String(), "live state is behind"); n != 1 {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
		if err := s.patiently(t.Context(), "load", func(context.Context) error { return nil }); !errors.Is(err, errLiveAway) {
			t.Errorf("asked again at once: %v", err)
		}
	})
}
