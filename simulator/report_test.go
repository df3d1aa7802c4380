package simulator

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestLatencyIsNearestRank(t *testing.T) {
	var hundred []time.Duration
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, time.Duration(i)*time.Millisecond)
	}
	cases := []struct {
		times []time.Duration
		want  Latency
	}{
		{nil, Latency{}},
		{[]time.Duration{5 * time.Millisecond}, Latency{1, 5, 5, 5, 5}},
		{[]time.Duration{3 * time.Second, time.Second}, Latency{2, 1000, 3000, 3000, 3000}},
		{hundred, Latency{100, 50, 95, 99, 100}},
		{[]time.Duration{1234567 * time.Nanosecond}, Latency{1, 1.23, 1.23, 1.23, 1.23}},
	}
	for _, c := range cases {
		if got := SumUp(c.times); got != c.want {
			t.Errorf("%d times: %+v, want %+v", len(c.times), got, c.want)
		}
	}
}

func testReport() Report {
	b := DefaultBehaviour()
	return Report{
		Settings: Settings{IPCs: 2, MetersPerIPC: 10, BusesPerIPC: 2, Direct: 5, Seed: 7, AnswerMin: b.AnswerMin.Seconds(),
			AnswerMax: b.AnswerMax.Seconds(), BusTimeoutRate: b.BusTimeoutRate, BusTimeout: b.BusTimeout.Seconds(),
			Faults: Faults{Late: 0.01}, LateBy: 35, Rate: 2, CommandSize: 10, Targets: TargetIDs, Mode: "realtime", Items: []string{"1-0:1.8.0"}, Poll: 1},
		Load:  &LoadResult{Issued: 3, Readings: 60, PerSecond: 12.34, Seen: Latency{60, 1, 2, 3, 4}, Codes: map[string]int{"BUS_TIMEOUT": 2}},
		Check: &Verdict{Checked: 60, Devices: 25, Stored: 60},
	}
}

func TestReportStatesItsConditions(t *testing.T) {
	var text strings.Builder
	if err := testReport().Print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 IPCs with 10 meters each on 2 buses, 5 direct meters; seed 7",
		"50ms to 300ms a meter, one at a time per bus; 1 % of bus questions time out after 3s", "late 1 %; late by 35s",
		"12.3 readings/s", "p50 1 ms, p95 2 ms, p99 3 ms, max 4 ms", "polled every 1s", "BUS_TIMEOUT 2",
		"60 acknowledged readings of 25 devices, 60 stored", "losses        0", "duplicates    0"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestReportPasses(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(*Report)
		want  bool
	}{
		{"clean", func(*Report) {}, true},
		{"nothing compared", func(r *Report) { r.Check = nil }, true},
		{"loss", func(r *Report) { r.Check.Losses = 1 }, false},
		{"duplicate", func(r *Report) { r.Check.Duplicates = 1 }, false},
		{"not comparable", func(r *Report) { r.Check, r.Problem = nil, "401" }, false},
	}
	for _, c := range cases {
		r := testReport()
		c.spoil(&r)
		if r.Passed() != c.want {
			t.Errorf("%s: passed %v", c.name, r.Passed())
		}
	}
}

func TestReportAsJSON(t *testing.T) {
	text, err := json.Marshal(testReport())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Settings map[string]any `json:"settings"`
		Load     struct {
			PerSecond float64            `json:"readings_per_s"`
			Latency   map[string]float64 `json:"latency"`
		} `json:"load"`
		Check map[string]any `json:"check"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Load.PerSecond != 12.34 || got.Load.Latency["p99_ms"] != 3 || got.Check["losses"] != 0.0 || got.Check["duplicates"] != 0.0 ||
		got.Settings["bus_timeout_rate"] != 0.01 || got.Settings["answer_max_s"] != 0.3 {
		t.Errorf("%s", text)
	}
}
