package launch

import (
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"meterline/testkit"
)

// serveDebug starts the server of a flag on a stack and gives where it says that it is, and all that it says.
func serveDebug(t *testing.T, flag string) (stack *Stack, at, said string) {
	t.Helper()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	stack = NewStack(logger, time.Minute)
	if err := (Debugging{Debug: flag}).Profiles(t.Context(), stack, logger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stack.Unwind)
	said = log.String() // nothing is said later, but when serving fails
	return stack, regexp.MustCompile(`debug=(\S*)`).FindStringSubmatch(said + " debug=")[1], said
}

// get gives the status and the body of a page.
func get(url string) (int, []byte, error) {
	a, err := http.Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	return a.StatusCode, body, err
}

func TestProfilesAreServed(t *testing.T) {
	t.Parallel()
	_, at, said := serveDebug(t, "127.0.0.1:0")
	if !strings.Contains(said, "level=INFO") || !strings.HasPrefix(at, "http://127.0.0.1:") || strings.Contains(at, ":0/") {
		t.Fatalf("it said %q", said)
	}
	for path, want := range map[string]int{
		"":                    http.StatusOK,
		"heap":                http.StatusOK,
		"goroutine?debug=2":   http.StatusOK,
		"trace?seconds=0.001": http.StatusOK,
		"cmdline":             http.StatusNotFound, // it may hold passwords
		"symbol":              http.StatusNotFound,
		"..":                  http.StatusNotFound,
	} {
		if status, body, err := get(at + path); err != nil || status != want || len(body) == 0 {
			t.Errorf("%s: status %d, %d bytes, %v", path, status, len(body), err)
		}
	}
}

// Whoever takes a profile longer than the program lives has what there was until then, and nobody waits for the rest.
func TestProfilesEndWithTheProgram(t *testing.T) {
	t.Parallel()
	stack, at, _ := serveDebug(t, "127.0.0.1:0")
	type taken struct {
		status int
		body   []byte
		err    error
	}
	got := make(chan taken, 1)
	go func() {
		status, body, err := get(at + "profile?seconds=86400")
		got <- taken{status, body, err}
	}()
	testkit.Eventually(t, time.Minute, func() bool { // that it is being taken: nobody else may
		var mine bytes.Buffer
		if pprof.StartCPUProfile(&mine) != nil {
			return true
		}
		pprof.StopCPUProfile()
		return false
	}, "the profile to begin")
	stack.Unwind()
	profile := <-got
	if profile.err != nil || profile.status != http.StatusOK {
		t.Fatalf("status %d, %v", profile.status, profile.err)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(profile.body))
	if err == nil {
		_, err = io.Copy(io.Discard, unzipped)
	}
	if err != nil {
		t.Errorf("the profile is not whole: %v", err)
	}
	if c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(at, "http://"), profilesPath)); err == nil {
		_ = c.Close()
		t.Error("somebody still listens")
	}
}

func TestProfilesBeyondLoopback(t *testing.T) {
	t.Parallel()
	if _, _, said := serveDebug(t, ":0"); !strings.Contains(said, "level=WARN") || !strings.Contains(said, "beyond loopback") {
		t.Errorf("it said %q", said)
	}
	for _, loopback := range []string{"localhost:0", "127.0.0.2:0"} {
		if _, _, said := serveDebug(t, loopback); strings.Contains(said, "WARN") {
			t.Errorf("%s: it said %q", loopback, said)
		}
	}
	if _, _, said := serveDebug(t, ""); said != "" {
		t.Errorf("not asked for, it said %q", said)
	}
}

func TestDebugIsChecked(t *testing.T) {
	t.Parallel()
	for flag, good := range map[string]bool{
		"": true, "127.0.0.1:6060": true, ":6060": true, "127.0.0.1:0": true,
		"6060": false, "127.0.0.1": false, "127.0.0.1:8080": false,
	} {
		http := "127.0.0.1:8080"
		if strings.HasSuffix(flag, ":0") {
			http = flag // a free port each
		}
		if err := (Debugging{Debug: flag}).Check(http); (err == nil) != good || err != nil && !strings.HasPrefix(err.Error(), "--debug: ") {
			t.Errorf("%q: %v", flag, err)
		}
	}
}
