package main

import (
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"meterline/cmd/launch"
	"meterline/command"
)

func patienceOf(t *testing.T, args ...string) patience {
	t.Helper()
	var c commands
	if _, _, err := launch.Parse(&c, "backend", about, append([]string{"serve"}, args...), io.Discard); err != nil {
		t.Fatal(err)
	}
	return c.Serve.patience
}

// What the flags default to is what holds where they are not asked.
func TestPatienceByDefault(t *testing.T) {
	t.Parallel()
	p := patienceOf(t)
	if p.MaxAttempts.All != command.DefaultAttempts || p.RunTimeout.All != command.DefaultRunTimeout || !slices.Equal(p.RetryAfter.All, command.DefaultRetryAfter) {
		t.Errorf("%+v", p)
	}
	if p.MaxAttempts.Own != nil || p.RunTimeout.Own != nil || p.RetryAfter.Own != nil {
		t.Errorf("%+v", p)
	}
}

func TestPatienceByKind(t *testing.T) {
	t.Setenv("METERLINE_RUN_TIMEOUT", "30s; meter.relay=10s ;device.ping=5s")
	t.Setenv("METERLINE_MAX_ATTEMPTS", "9")
	p := patienceOf(t, "--retry-after", "1s,2m", "--retry-after", "device.ping=200ms", "--max-attempts", "meter.relay=1")
	if want := []time.Duration{time.Second, 2 * time.Minute}; !slices.Equal(p.RetryAfter.All, want) || !slices.Equal(p.RetryAfter.Of(command.MeterRead), want) {
		t.Errorf("%+v", p.RetryAfter)
	}
	if !slices.Equal(p.RetryAfter.Of(command.DevicePing), []time.Duration{200 * time.Millisecond}) {
		t.Errorf("%+v", p.RetryAfter)
	}
	if p.MaxAttempts.All != 0 || !maps.Equal(p.MaxAttempts.Own, map[command.Kind]int{command.MeterRelay: 1}) { // a flag wins over the environment
		t.Errorf("%+v", p.MaxAttempts)
	}
	if p.RunTimeout.All != 30*time.Second || !maps.Equal(p.RunTimeout.Own, map[command.Kind]time.Duration{command.MeterRelay: 10 * time.Second, command.DevicePing: 5 * time.Second}) {
		t.Errorf("%+v", p.RunTimeout)
	}
}

// A kind that is given up sooner is, and the others are not.
func TestImpatientWithAKind(t *testing.T) {
	t.Parallel()
	var p patience
	p.MaxAttempts.Own = map[command.Kind]int{command.DevicePing: 2}
	p.RunTimeout.Own = map[command.Kind]time.Duration{command.DevicePing: 100 * time.Millisecond}
	p.RetryAfter.All = []time.Duration{time.Hour} // what holds for the others would not end in this test
	p.RetryAfter.Own = map[command.Kind][]time.Duration{command.DevicePing: {100 * time.Millisecond}}
	h := houseOf(t, &standaloneCmd{Data: t.TempDir(), patience: p})
	read1, ping1 := h.play("d1", h.direct("d1"), false), h.play("d2", h.direct("d2"), false)
	reading := h.issue(read("d1", "async", ""))
	read1.next(waitMost)
	ping := h.issue(`{"kind":"device.ping","targets":{"device_ids":["d2"]}}`)
	for attempt := 1; attempt <= 2; attempt++ {
		if c, _ := ping1.next(waitMost); c.CommandID != ping.ID || c.Attempt != attempt {
			t.Fatalf("%+v, want attempt %d", c, attempt)
		}
	}
	if o := h.become(ping.ID, command.Dead); o.Attempts != 2 {
		t.Fatalf("%+v", o)
	}
	if o := h.become(reading.ID, command.Delivered); o.Attempts != 1 { // its PUBACK may come after all that
		t.Fatalf("%+v", o)
	}
}
