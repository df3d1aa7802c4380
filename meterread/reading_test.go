package meterread

import (
	"testing"
	"time"
)

func TestReceived(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("CET", 3600))
	kept := time.Date(2026, 3, 1, 11, 0, 0, 123456000, time.UTC)
	for _, tc := range []struct {
		name    string
		readAt  time.Time
		quality Quality
		want    Quality
	}{
		{"the same moment", kept, Valid, Valid},
		{"a clock a little ahead", kept.Add(time.Hour), Valid, Valid},
		{"a clock a day ahead", kept.Add(day), Valid, Valid},
		{"a clock more than a day ahead", kept.Add(day + time.Microsecond), Valid, Suspect},
		{"a clock ten years ahead", kept.AddDate(10, 0, 0), Valid, Suspect},
		{"a profile of last year", kept.AddDate(-1, 0, 0), Valid, Valid},
		{"two years behind", kept.Add(-730 * day), Valid, Valid},
		{"more than two years behind", kept.Add(-730*day - time.Microsecond), Valid, Suspect},
		{"a clock that was reset to 1970", time.Unix(0, 0), Valid, Suspect},
		{"the furthest that a clock may be", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), Valid, Suspect},
		{"estimated and far off stays estimated", kept.AddDate(10, 0, 0), Estimated, Estimated},
		{"invalid and far off stays invalid", kept.AddDate(10, 0, 0), Invalid, Invalid},
		{"suspect stays suspect", kept, Suspect, Suspect},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := Reading{DeviceID: "m-001", Item: "1-0:1.8.0", Value: "1", ReadAt: tc.readAt, Quality: tc.quality}
			got := r.Received(now)
			if got.Quality != tc.want {
				t.Errorf("quality %s, want %s", got.Quality, tc.want)
			}
			if got.ReceivedAt != kept {
				t.Errorf("received at %s, want %s", got.ReceivedAt, kept)
			}
			if got.ReadAt != tc.readAt {
				t.Errorf("the meter's own time was changed to %s", got.ReadAt)
			}
			if !r.ReceivedAt.IsZero() || r.Quality != tc.quality {
				t.Error("the receiver was changed")
			}
		})
	}
}
