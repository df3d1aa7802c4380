package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFlagsEnvironmentAndFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("mtl_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("METERLINE_METERS_PER_IPC", "7")
	t.Setenv("METERLINE_IPCS", "3")
	t.Setenv("METERLINE_TOKEN_FILE", file)
	t.Setenv("METERLINE_FAULT", "late=0.1,lost=0.2")
	t.Setenv("METERLINE_JSON", "true")
	c, err := parse([]string{"--ipcs", "4", "--broker", "a:1", "--broker", "mqtts://b:2", "--no-check", "--answer-max=1s"}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.MetersPerIPC != 7 || c.IPCs != 4 || c.Token != "mtl_file" || !c.JSON || c.Check || !c.Install {
		t.Errorf("%+v", c)
	}
	if b := c.behaviour(); b.Faults.Late != 0.1 || b.Faults.Lost != 0.2 || b.AnswerMax != time.Second || b.AnswerMin != 50*time.Millisecond {
		t.Errorf("%+v", b)
	}
	if len(c.Broker) != 2 {
		t.Errorf("brokers %q", c.Broker)
	}
	if text := fmt.Sprintf("%v %+v %#v", c, c, *c); strings.Contains(text, "mtl_file") {
		t.Errorf("the token shows: %s", text)
	}
}

func TestWhichTokenCounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  map[string]string
		args []string
		want secret
	}{
		{map[string]string{"TOKEN": "of the variable", "TOKEN_FILE": file}, nil, "of the variable"},
		{map[string]string{"TOKEN": "of the variable"}, []string{"--token-file", file}, "of the file"},
		{map[string]string{"TOKEN_FILE": "no such file"}, []string{"--token", "of the flag"}, "of the flag"},
		{map[string]string{"TOKEN": "of the variable", "TOKEN_FILE": file}, []string{"--token", "of the flag"}, "of the flag"},
	} {
		t.Run(string(c.want), func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv("METERLINE_"+name, value)
			}
			got, err := parse(c.args, io.Discard, io.Discard)
			if err != nil || got.Token != c.want {
				t.Errorf("%v, %v: %q %v", c.env, c.args, string(got.Token), err)
			}
		})
	}
}

// A bad value is one line that names the flag, and exit status 2.
func TestBadValues(t *testing.T) {
	cases := map[string][]string{
		"--rate":              {"--rate=fast"},
		"--rate: -1":          {"--rate=-1"},
		"--broker":            {"--broker=nowhere"},
		"--api":               {"--api=ftp://x"},
		"--fault":             {"--fault=burn=1"},
		"--mode":              {"--mode=slow"},
		"--targets":           {"--targets=some"},
		"--items":             {"--items=energy"},
		"--prefix":            {"--prefix=a/b"},
		"--ipcs":              {"--ipcs=0", "--direct=0"},
		"--answer-max":        {"--answer-max=1ms"},
		"--bus-timeout-rate":  {"--bus-timeout-rate=2"},
		"--keep-alive":        {"--keep-alive=1ms"},
		"--duration":          {"--duration=-1s"},
		"--poll":              {"--poll=0s"},
		"--token-file":        {"--token=", "--token-file=/does/not/exist"},
		"--token-file: there": {"--token-file=/does/not/exist"},
		"--token":             {"--token="},
		"--unknown":           {"--unknown"},
		"; --poll":            {"--poll=0s", "--mode=slow", "--ipcs=-1"},
	}
	for want, args := range cases {
		var stdout, stderr strings.Builder
		status := run(t.Context(), append([]string{"--token=x"}, args...), &stdout, &stderr)
		if text := stderr.String(); status != exitUsage || !strings.Contains(text, want) || strings.Count(text, "\n") != 1 || stdout.Len() > 0 {
			t.Errorf("%v: status %d, %q", args, status, text)
		}
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr strings.Builder
	if status := run(t.Context(), []string{"--help"}, &stdout, &stderr); status != exitOK || !strings.Contains(stdout.String(), "--meters-per-ipc") {
		t.Errorf("status %d, %s%s", status, stdout.String(), stderr.String())
	}
}
