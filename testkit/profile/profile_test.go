package profile

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"path/filepath"
	runtime "runtime/pprof"
	"strings"
	"testing"
	"time"

	"meterline/testkit"
)

// serve gives where this process serves its profiles.
func serve(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// begun waits until a profile is being taken. It only looks: whoever tried to take one would keep the server from it.
func begun(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		var stacks bytes.Buffer
		if err := runtime.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(stacks.String(), "runtime/pprof.profileWriter")
	}, "the profile to begin")
}

// A profile ends when it is told to, whole; two of them have a sum, which can be read.
func TestFromOneMomentToAnother(t *testing.T) {
	address, dir := serve(t), t.TempDir()
	var parts []string
	for _, name := range []string{"a", "b"} {
		taking, err := Begin(address)
		if err != nil {
			t.Fatal(err)
		}
		begun(t)
		burn()
		file := filepath.Join(dir, name)
		if err := taking.End(file); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, file)
	}
	sum, top := filepath.Join(dir, "sum"), filepath.Join(dir, "sum.txt")
	if err := Merge(t.Context(), sum, parts); err != nil {
		t.Fatal(err)
	}
	if err := Top(t.Context(), top, sum); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(top)
	if err != nil || !strings.Contains(string(text), "Type: cpu") || !strings.Contains(string(text), "profile.burn") {
		t.Errorf("%v: %s", err, text)
	}
	if err := Merge(t.Context(), sum, []string{top}); err == nil {
		t.Error("what is no profile was taken for one")
	}
}

// burnt keeps what burn came to, or there would be no need to do it.
var burnt int

// burn uses more of a core than it takes to be seen at it, a hundredth of a second, however busy the machine is. By its name, so it is not inlined.
//
//go:noinline
func burn() {
	sum := 0
	for n := range 300_000_000 {
		sum += n
	}
	burnt = sum
}

// One at a time: the second is told so, and the first goes on.
func TestOneAtATime(t *testing.T) {
	address := serve(t)
	first, err := Begin(address)
	if err != nil {
		t.Fatal(err)
	}
	begun(t)
	second, err := Begin(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.End(filepath.Join(t.TempDir(), "second")); err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("%v", err)
	}
	if err := first.End(filepath.Join(t.TempDir(), "first")); err != nil {
		t.Error(err)
	}
	dropped, err := Begin(address)
	if err != nil {
		t.Fatal(err)
	}
	begun(t)
	if err := dropped.Drop(); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, time.Minute, func() bool { // who went away does not keep it from others
		if runtime.StartCPUProfile(&bytes.Buffer{}) != nil {
			return false
		}
		runtime.StopCPUProfile()
		return true
	}, "the dropped profile to end")
}

func TestKnown(t *testing.T) {
	for help, want := range map[string]bool{"--debug=HOST:PORT  Where": true, "--log-level=info  debug, info": false} {
		program := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n[ \"$1 $2\" = 'serve --help' ] && echo '"+help+"'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if known, err := Known(t.Context(), program, "serve"); err != nil || known != want {
			t.Errorf("%q: %t, %v", help, known, err)
		}
	}
	if _, err := Known(t.Context(), filepath.Join(t.TempDir(), "nothing")); err == nil {
		t.Error("a program that is not there has flags")
	}
}
