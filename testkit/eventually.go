package testkit

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Eventually polls cond, about 50 times a second, until it is true (or its error nil). After timeout the test fails
// with what was waited for and, where cond returns one, its last error. cond is always asked at least once. It waits in a
// Cleanup, too.
func Eventually[F func() bool | func() error](t testing.TB, timeout time.Duration, cond F, what string) {
	t.Helper()
	check, ok := any(cond).(func() error)
	if !ok {
		check = func() error {
			if any(cond).(func() bool)() {
				return nil
			}
			return errors.New("not so")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout) // that of the test is over when it cleans up
	defer cancel()
	if err := poll(ctx, check); err != nil {
		t.Fatalf("wait %s for %s: %v", timeout, what, err)
	}
}
