package main

import (
	"bytes"
	"context"
	"net"
	"net/url"
	"strings"
	"testing"

	"meterline/testkit"
)

func TestRun(t *testing.T) {
	requireServers(t)
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), []string{"--", "sh", "-c",
		`echo "$` + testkit.EnvPostgresURL + `"; echo "$` + testkit.EnvRedisAddr + `"; exit 7`}, &stdout, &stderr)
	if status != 7 || stderr.Len() > 0 {
		t.Fatalf("status %d, want that of the command, 7: %s", status, stderr.String())
	}
	addresses := strings.Fields(stdout.String())
	if len(addresses) != 2 {
		t.Fatalf("the command saw %q, want a URL and an address", stdout.String())
	}
	u, err := url.Parse(addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{u.Host, addresses[1]} {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			t.Errorf("a server still listens on %s", addr)
		}
	}
}

func TestRunInterrupted(t *testing.T) {
	requireServers(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stderr bytes.Buffer
	started := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	status := run(ctx, []string{"sh", "-c", "echo up; exec sleep 600"}, started, &stderr)
	if status != 1 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("status %d, %q; want 1 and interrupted", status, stderr.String())
	}
}

func TestRunBadArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--"}} {
		var stderr bytes.Buffer
		if status := run(t.Context(), args, &stderr, &stderr); status != 2 || stderr.Len() == 0 {
			t.Errorf("%q: status %d, %q; want 2 and the usage", args, status, stderr.String())
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// requireServers skips, or fails, as testkit would: run itself starts servers whatever the environment names.
func requireServers(t *testing.T) {
	t.Helper()
	t.Setenv(testkit.EnvPostgresURL, "")
	t.Setenv(testkit.EnvRedisAddr, "")
	_, _ = testkit.Redis(t), testkit.Postgres(t)
}
