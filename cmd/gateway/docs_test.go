package main

import (
	"io"
	"testing"

	"meterline/cmd/launch/launchtest"
)

func TestFlagsAreDocumented(t *testing.T) {
	t.Parallel()
	launchtest.FlagsDocumented(t, "gateway", &config{})
}

func TestConfigPrint(t *testing.T) {
	launchtest.ExamplePrints(t, "gateway", func() *config { return &config{} }, "gateway", nil,
		func(w io.Writer) int { return run(t.Context(), []string{"config", "print"}, w, io.Discard) })
}
