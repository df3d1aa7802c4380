// Command report runs `go test -json` and says what came of it: a line per package, the output of what failed, the
// skipped tests with their reasons, the slowest packages and tests, and one line of totals.
//
//	go run ./testkit/cmd/report [-allow-skips] -- go test -json ./...
//
// A skipped test fails the run unless -allow-skips is given: in CI a test that nobody ran proves nothing. Exit status 1
// means that something failed, was skipped, or that nothing ran at all; 2 that the arguments are wrong.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	flags.SetOutput(stderr)
	allowSkips := flags.Bool("allow-skips", false, "report skipped tests without failing for them")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() == 0 {
		fmt.Fprintln(stderr, "usage: report [-allow-skips] -- go test -json [ARGUMENT...]")
		return 2
	}
	began := time.Now()
	r := newReport(stdout)
	err := feed(ctx, flags.Args(), stderr, r)
	r.summary(time.Since(began))
	switch {
	case r.failedTests+r.failedPackages > 0:
		fmt.Fprintln(stdout, "FAIL")
	case err != nil:
		fmt.Fprintln(stdout, "FAIL:", err)
	case r.tests == 0:
		fmt.Fprintln(stdout, "FAIL: no test ran")
	case len(r.skips) > 0 && !*allowSkips:
		fmt.Fprintln(stdout, "FAIL: tests were skipped")
	default:
		fmt.Fprintln(stdout, "PASS")
		return 0
	}
	return 1
}

// feed runs the command and hands its lines to r as they come.
func feed(ctx context.Context, args []string, stderr io.Writer, r *report) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("open pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	lines := bufio.NewReader(out)
	for {
		line, readErr := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
		}
		if readErr != nil {
			if !errors.Is(readErr, io.EOF) {
				err = fmt.Errorf("read output of %s: %w", args[0], readErr)
			}
			break
		}
	}
	if waitErr := cmd.Wait(); waitErr != nil {
		return fmt.Errorf("%s: %w", args[0], waitErr)
	}
	return err
}
