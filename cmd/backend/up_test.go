package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"meterline/cmd/launch"
)

// A program that is up says where, also of ports that it chose itself: each listener by its name.
func TestStandaloneSaysWhereItListens(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said, log := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"standalone", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--mqtt-ws", "127.0.0.1:0"}, io.Discard, log)
		_ = log.Close()
	}()
	up := ""
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if strings.Contains(lines.Text(), "standalone is up") {
			up = lines.Text()
			stop()
		}
	}
	if status := <-ended; status != launch.StatusOK {
		t.Fatalf("status %d", status)
	}
	for _, where := range []string{" http=http://127.0.0.1:", " mqtt=127.0.0.1:", " mqtt-ws=127.0.0.1:"} {
		if !strings.Contains(up, where) || strings.Contains(up, where+"0 ") {
			t.Errorf("%q does not say%s", up, where)
		}
	}
}
