package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"meterline/cmd/launch"
	"meterline/testkit"
)

// Profiles have an address of their own, are not beside the API, and are gone with the program.
func TestStandaloneServesProfilesApart(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	api, err := testkit.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	debug, err := testkit.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"standalone", "--data", t.TempDir(), "--http", api, "--mqtt", "127.0.0.1:0", "--debug", debug, "--log-level", "warn"}, io.Discard, io.Discard)
	}()
	status := func(address, path string) int {
		a, err := http.Get("http://" + address + path)
		if err != nil {
			return 0
		}
		_ = a.Body.Close()
		return a.StatusCode
	}
	testkit.Eventually(t, time.Minute, func() bool { return status(api, "/livez") == http.StatusOK }, "the API to answer")
	const page = "/debug/pprof/heap"
	if s := status(debug, page); s != http.StatusOK {
		t.Errorf("--debug answers %d", s)
	}
	if s := status(api, page); s != http.StatusNotFound {
		t.Errorf("the API answers %d", s)
	}
	if s := status(debug, "/metrics"); s != http.StatusNotFound {
		t.Errorf("--debug answers for metrics: %d", s)
	}
	stop()
	if s := <-ended; s != launch.StatusOK {
		t.Errorf("status %d", s)
	}
	if s := status(debug, page); s != 0 {
		t.Errorf("--debug still answers: %d", s)
	}
}

// A bad address is one line and exit status 2, of both commands.
func TestBadDebug(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"serve", "standalone"} {
		for _, bad := range []string{"6060", "127.0.0.1:8080"} { // no port; where the API is
			var stderr bytes.Buffer
			status := run(t.Context(), []string{command, "--debug", bad}, io.Discard, &stderr)
			if said := stderr.String(); status != launch.StatusUsage || !regexp.MustCompile(`^backend: .*--debug: .*\n$`).MatchString(said) || strings.Count(said, "\n") != 1 {
				t.Errorf("%s --debug %s: status %d, %q", command, bad, status, said)
			}
		}
	}
}
