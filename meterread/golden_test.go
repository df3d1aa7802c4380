package meterread

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Samples of the wire, as a device would send them, and what is understood of each, for people to read.
func TestGolden(t *testing.T) {
	t.Parallel()
	samples, err := filepath.Glob("testdata/samples/*.json")
	if err != nil || len(samples) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, sample := range samples {
		t.Run(filepath.Base(sample), func(t *testing.T) {
			t.Parallel()
			payload, err := os.ReadFile(sample)
			if err != nil {
				t.Fatal(err)
			}
			got, golden := describe(t, sample, payload), strings.TrimSuffix(sample, ".json")+".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// describe decodes a sample by the kind that its file name begins with.
func describe(t *testing.T, sample string, payload []byte) string {
	t.Helper()
	var b strings.Builder
	var err error
	kind, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(sample), ".json"), "_")
	switch kind {
	case "result":
		var m Results
		m, err = DecodeResults(payload)
		fmt.Fprintf(&b, "results %q\n", m.MessageID)
		for _, r := range m.Results {
			fmt.Fprintf(&b, "%d %s %s attempt=%d status=%s final=%t code=%q message=%q raw=%d bytes\n",
				r.Index, r.CommandID, r.DeviceID, r.Attempt, r.Status, r.Final, r.Code, r.Message, len(r.Raw))
			describeReadings(&b, r.Readings, r.Bad)
		}
		describeReadings(&b, nil, m.Bad)
	case "readings":
		var m Readings
		m, err = DecodeReadings(payload)
		fmt.Fprintf(&b, "readings %q\n", m.MessageID)
		describeReadings(&b, m.Readings, m.Bad)
	case "ack":
		var a Ack
		a, err = DecodeAck(payload)
		fmt.Fprintf(&b, "ack %s %s status=%s code=%q message=%q\n", a.CommandID, a.DeviceIDs, a.Status, a.Code, a.Message)
	case "event":
		var e Event
		e, err = DecodeEvent(payload)
		fmt.Fprintf(&b, "event %q type=%s device=%s at=%s data=%s\n", e.MessageID, e.Type, e.DeviceID, e.At.Format(time.RFC3339Nano), e.Data)
	default:
		t.Fatalf("no decoder for %s", sample)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func describeReadings(b *strings.Builder, good []Reading, bad []Bad) {
	for _, r := range good {
		fmt.Fprintf(b, "  good %s %s = %s %q at %s, %s, command %q\n",
			r.DeviceID, r.Item, r.Value, r.Unit, r.ReadAt.Format(time.RFC3339Nano), r.Quality, r.CommandID)
	}
	for _, x := range bad {
		fmt.Fprintf(b, "  bad  %d %s (%s): %s\n", x.Index, x.Code, x.Detail, x.Raw)
	}
}
