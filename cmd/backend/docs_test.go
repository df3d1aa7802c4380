package main

import (
	"io"
	"testing"

	"meterline/cmd/launch/launchtest"
)

func TestFlagsAreDocumented(t *testing.T) {
	t.Parallel()
	launchtest.FlagsDocumented(t, "backend", &commands{})
}

func TestConfigPrint(t *testing.T) {
	launchtest.ExamplePrints(t, "backend", func() *commands { return &commands{} }, "backend serve", []string{"serve"},
		func(w io.Writer) int { return run(t.Context(), []string{"config", "print"}, w, io.Discard) })
}
