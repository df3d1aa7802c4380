package testkit_test

import (
	"testing"
	"time"

	"meterline/testkit"
)

// What children of a process use is its own, also when they have ended; a process that is down uses nothing that could be told.
func TestUsage(t *testing.T) {
	p := testkit.NewApp(testkit.AppOptions{Name: "busy", Dir: t.TempDir(), Argv: []string{"/bin/sh", "-c",
		`(n=0; while [ $n -lt 300000 ]; do n=$((n+1)); done); sleep 600 & wait`}})
	if _, err := p.CPU(); err == nil {
		t.Error("the processor time of a process that is down")
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	testkit.Eventually(t, time.Minute, func() bool {
		used, err := p.CPU()
		return err == nil && used >= 20*time.Millisecond && len(p.PIDs()) == 2
	}, "the child's time to count")
	now, most, err := p.Memory()
	if err != nil || now < 64<<10 || most < now {
		t.Errorf("memory %d, %d at most, %v", now, most, err)
	}
}
