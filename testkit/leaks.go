package testkit

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// endWithin is how long goroutines may take to end when all tests have passed.
const endWithin = 30 * time.Second

// NoGoroutineLeft is the TestMain of a package that leaves no goroutine behind: it runs the tests, and fails when they passed
// and something of them is still there. goleak alone waits less than half a second for what is about to end, which is too
// little on a busy machine.
func NoGoroutineLeft(m *testing.M) {
	status := m.Run()
	if status == 0 {
		if err := goroutinesLeft(endWithin); err != nil {
			fmt.Fprintf(os.Stderr, "goroutines are left of the tests, after %s: %v\n", endWithin, err)
			status = 1
		}
	}
	os.Exit(status)
}

// goroutinesLeft looks until there are none, at least once.
func goroutinesLeft(within time.Duration, but ...goleak.Option) error {
	for deadline := time.Now().Add(within); ; {
		err := goleak.Find(but...) // looks again and again for a moment
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
