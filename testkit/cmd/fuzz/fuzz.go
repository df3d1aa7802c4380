package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	minimize = "10s"            // for one input
	slice    = 10 * time.Minute // of one run, after which the totals are saved
	leastRun = 5 * time.Second  // a shorter one does nothing but look at what is known
	grace    = 20 * time.Second // for a target to end when it was told to
)

// fuzzAll runs the targets. One that fails does not keep the others from running.
func fuzzAll(ctx context.Context, o options, targets []target, out io.Writer) error {
	sums, this := totals{}, totals{}
	if o.wall == 0 {
		var err error
		if sums, err = load(o.totals()); err != nil {
			return err
		}
	}
	var failed []string
	for _, t := range targets {
		err := fuzzOne(ctx, o, t, sums, this, out)
		if errors.Is(err, errCrash) {
			failed = append(failed, t.String())
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	fmt.Fprintln(out)
	if o.wall > 0 {
		this.print(out, targets)
	} else {
		sums.print(out, targets)
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return ctx.Err()
}

var errCrash = errors.New("the target failed")

// fuzzOne runs a target for its time, in slices.
func fuzzOne(ctx context.Context, o options, t target, sums, this totals, out io.Writer) error {
	left := o.wall
	if o.wall == 0 {
		left = (o.cpu - sums.of(t.String()).cpu()) / time.Duration(o.parallel)
	}
	if left <= 0 {
		return nil
	}
	binary, err := compile(ctx, o, t, "-fuzz=^"+t.name+"$")
	if err != nil {
		return err
	}
	for left > 0 && ctx.Err() == nil {
		did, err := runFor(ctx, o, t, binary, min(left, slice), out)
		this.of(t.String()).add(did)
		if o.wall > 0 {
			return err
		}
		sums.of(t.String()).add(did)
		if err := errors.Join(err, sums.save(o.totals())); err != nil {
			return err
		}
		left = (o.cpu - sums.of(t.String()).cpu()) / time.Duration(o.parallel)
		if left > 0 {
			left = max(left, leastRun)
		}
	}
	return nil
}

// compile makes the test binary of the target's package.
func compile(ctx context.Context, o options, t target, flags ...string) (string, error) {
	kind := "cover"
	if strings.HasPrefix(flags[0], "-fuzz") {
		kind = t.name
	}
	binary := filepath.Join(o.cache, "bin", t.dir, kind+".test")
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return "", err
	}
	args := append([]string{"test", "-c", "-o", binary}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+t.dir)...)
	cmd.Dir = o.root
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile: %w\n%s", err, text)
	}
	return binary, nil
}

// runFor runs a target once and says what it did. errCrash: it failed, and out says how.
func runFor(ctx context.Context, o options, t target, binary string, long time.Duration, out io.Writer) (total, error) {
	if err := os.MkdirAll(t.found(o), 0o755); err != nil {
		return total{}, err
	}
	cmd := exec.CommandContext(ctx, binary, "-test.paniconexit0", "-test.timeout=0", "-test.run=^$", "-test.fuzz=^"+t.name+"$",
		"-test.fuzztime="+long.String(), "-test.fuzzminimizetime="+minimize, "-test.parallel="+strconv.Itoa(o.parallel),
		"-test.fuzzcachedir="+t.found(o))
	cmd.Dir = filepath.Join(o.root, t.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = grace
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	began := time.Now()
	err := cmd.Run()
	did := parseOutput(text.String())
	did.Runs, did.WallSeconds = 1, time.Since(began).Seconds()
	if s := cmd.ProcessState; s != nil {
		did.CPUSeconds = (s.UserTime() + s.SystemTime()).Seconds()
	}
	fmt.Fprintf(out, "%-32s %10d execs %8.0f /s %6d new %8.1f s CPU\n", t, did.Execs, float64(did.Execs)/did.WallSeconds, did.Interesting, did.CPUSeconds)
	if strings.Contains(text.String(), "no fuzz tests to fuzz") {
		return did, errors.New("go test does not find the target: is it behind a build tag?")
	}
	if err != nil && ctx.Err() == nil && !onlyLate(text.String()) {
		did.Crashes = 1
		fmt.Fprintf(out, "%s FAILED: %v\n%s%s", t, err, text.String(), failingInput(cmd.Dir, text.String()))
		return did, errCrash
	}
	return did, nil
}

// onlyLate says whether a target failed for nothing but that its time was over in the middle of something: go test then tells so
// instead of ending well.
func onlyLate(text string) bool { return late.MatchString(text) && !written.MatchString(text) }

var (
	late     = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \([\d.]+s\)\n\s+context deadline exceeded\nFAIL$`)
	progress = regexp.MustCompile(`(?m)^fuzz: elapsed: \S+, execs: (\d+) \(\d+/sec\), new interesting: (\d+) \(total: \d+\)`)
	written  = regexp.MustCompile(`Failing input written to (testdata/fuzz/\S+)`)
)

// parseOutput reads what go test tells every few seconds.
func parseOutput(text string) (did total) {
	all := progress.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return did
	}
	last := all[len(all)-1]
	did.Execs, _ = strconv.ParseInt(last[1], 10, 64) // digits
	did.Interesting, _ = strconv.ParseInt(last[2], 10, 64)
	return did
}

// failingInput is the input that a target failed with, to be seen in the log of a run whose files are gone.
func failingInput(dir, text string) string {
	m := written.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	input, err := os.ReadFile(filepath.Join(dir, m[1]))
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s:\n%s\n", m[1], input)
}
