package uplink_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/command"
	"meterline/testkit"
	"meterline/uplink"
)

// TestReadAhead: from nowhere it is the end, from there on what came after, and the reading in order sees it all.
func TestReadAhead(t *testing.T) {
	first := uplink.NewRedis(client(t, testkit.RedisURL(t)), uplink.Options{})
	second := uplink.NewRedis(client(t, testkit.RedisURL(t)), uplink.Options{})
	for name, log := range map[string]interface {
		command.Log
		command.Ahead
	}{"one": first, "two": uplink.NewBoth(first, second, 0)} {
		t.Run(name, func(t *testing.T) {
			ahead := func(at command.LogPosition) ([]string, command.LogPosition) {
				t.Helper()
				var batches []command.LogBatch
				testkit.Eventually(t, waitMost, func() (err error) { // one that did not answer in time is left out for a while
					batches, err = log.ReadAhead(t.Context(), []command.LogPosition{at}, 10)
					if _, two := log.(*uplink.Both); !two {
						ok(t, err)
					}
					return err
				}, "an answer")
				var all []string
				for _, u := range batches[0].Entries {
					all = append(all, string(u.Payload))
				}
				return all, batches[0].LogPosition
			}
			before := newReader(t, log, 1)
			before.read(100)
			known := len(before.got)
			add(t, first, "a", "b", "c")
			var at command.LogPosition
			testkit.Eventually(t, waitMost, func() bool {
				var got []string
				if got, at = ahead(at); len(got) > 0 {
					t.Fatalf("at the end there is %q", got)
				}
				return at.Generation != "" && !strings.HasPrefix(at.Generation, "|") && !strings.HasSuffix(at.Generation, "|")
			}, "the end of the whole log")
			add(t, first, "d")
			add(t, second, "e")
			want := map[string][]string{"one": {"d"}, "two": {"d", "e"}}[name]
			var got []string
			testkit.Eventually(t, waitMost, func() bool {
				var more []string
				more, at = ahead(at)
				got = append(got, more...)
				return len(got) >= len(want)
			}, "what came after the end")
			if slices.Sort(got); !slices.Equal(got, want) { // e may be first, when the first log was left out
				t.Fatalf("after the end came %q", got)
			}
			if got, _ = ahead(at); len(got) > 0 {
				t.Fatalf("again %q", got)
			}
			at.Generation = "another"
			if got, _ = ahead(at); len(got) > 0 {
				t.Fatalf("of a log that is gone %q", got)
			}
			before.read(100)
			if n := len(before.got) - known; name == "one" && n != 4 || name == "two" && n != 5 {
				t.Fatalf("in order %d", n)
			}
		})
	}
}

// TestALogThatFillsUpSaysSoOnce: at 80 % of the bound, and that it is over when it has drained.
func TestALogThatFillsUpSaysSoOnce(t *testing.T) {
	var lines bytes.Buffer
	var mu lockedWriter
	mu.w = &lines
	metrics := prometheus.NewRegistry()
	log := uplink.NewRedis(client(t, testkit.RedisURL(t)), uplink.Options{Limit: 1000, TrimEvery: 50 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(&mu, nil)), Backlogs: metrics})
	run(t, log)
	r := newReader(t, log, 1)
	fill := func(n int) {
		for i := range n {
			add(t, log, fmt.Sprint(i))
		}
	}
	fill(790)
	r.read(10)
	value := func(name string) float64 {
		families, err := metrics.Gather()
		ok(t, err)
		for _, f := range families {
			if f.GetName() == name {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	testkit.Eventually(t, waitMost, func() bool { return value("meterline_uplink_log_entries") == 790 }, "the backlog is seen")
	testkit.Eventually(t, waitMost, func() bool { return value("meterline_uplink_log_full_ratio") == 0.79 }, "and what share that is")
	if value("meterline_uplink_log_alarm") != 0 || log.Alarms() != nil {
		t.Fatalf("at 790 of 1000: %v", log.Alarms())
	}
	fill(20)
	testkit.Eventually(t, waitMost, func() bool { return value("meterline_uplink_log_alarm") == 1 && len(log.Alarms()) == 1 }, "the alarm is raised")
	if value("meterline_uplink_log_oldest_seconds") <= 0 || value("meterline_uplink_log_bytes") <= 0 {
		t.Error("age or bytes are not known")
	}
	log.Owns(nil) // another process reads it from now on
	testkit.Eventually(t, waitMost, func() bool { return value("meterline_uplink_log_oldest_seconds") == 0 }, "the age is not this process's to tell")
	fill(20)
	r.until(830)
	r.stored()
	testkit.Eventually(t, waitMost, func() bool {
		return value("meterline_uplink_log_alarm") == 0 && log.Alarms() == nil && value("meterline_uplink_log_oldest_seconds") == 0
	}, "the alarm is over")
	if n := strings.Count(mu.String(), "nearly full"); n != 1 {
		t.Errorf("it was said %d times: %s", n, mu.String())
	}
}

// lockedWriter is written and read by several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (l *lockedWriter) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.String()
}

// What cannot be looked at is not shown as it was.
func TestABacklogThatNobodyCanSeeIsNotANumber(t *testing.T) {
	t.Parallel()
	metrics := prometheus.NewRegistry()
	h, _, log := private(t, uplink.Options{Backlogs: metrics})
	run(t, log)
	add(t, log, "a")
	entries := func() float64 { return gauge(t, metrics, "meterline_uplink_log_entries") }
	testkit.Eventually(t, waitMost, func() bool { return entries() == 1 }, "the backlog is seen")
	h.Pause()
	for _, name := range []string{"entries", "oldest_seconds", "bytes", "full_ratio"} {
		testkit.Eventually(t, waitMost, func() bool { return math.IsNaN(gauge(t, metrics, "meterline_uplink_log_"+name)) }, name+" is not known any more")
	}
	h.Resume()
	testkit.Eventually(t, waitMost, func() bool { return entries() == 1 }, "it is seen again")
}
