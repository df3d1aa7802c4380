package main

import (
	"testing"

	"meterline/cmd/launch/launchtest"
)

func TestFlagsAreDocumented(t *testing.T) {
	t.Parallel()
	launchtest.FlagsDocumented(t, "backend", &commands{})
}
