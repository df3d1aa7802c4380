package state_test

import (
	"reflect"
	"testing"
	"time"

	"meterline/meterread"
)

func reading(d meterread.DeviceID, item meterread.Item, value string, at time.Duration) meterread.Reading {
	return meterread.Reading{DeviceID: d, Item: item, Value: value, Unit: "kWh", ReadAt: epoch.Add(at),
		ReceivedAt: epoch.Add(time.Hour), Quality: meterread.Valid, CommandID: "c-1"}
}

func TestNewestReadings(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		ctx := t.Context()
		check := func(want ...meterread.Reading) {
			t.Helper()
			got, found, err := s.Latest(ctx, "m-1")
			ok(t, err)
			if !found || !(len(got) == 0 && len(want) == 0) && !reflect.DeepEqual(got, want) {
				t.Fatalf("got %v %+v, want %+v", found, got, want)
			}
		}
		absent := func() {
			t.Helper()
			if _, found, err := s.Latest(ctx, "m-1"); found || err != nil {
				t.Fatal("there", err)
			}
		}
		imported, exported := meterread.Item("1-0:1.8.0"), meterread.Item("1-0:2.8.0")

		ok(t, s.PutReadings(ctx, []meterread.Reading{reading("m-1", imported, "1", 0)}))
		absent() // not cached stays so

		token, err := s.PrepareLatest(ctx, "m-1")
		ok(t, err)
		ok(t, s.PutReadings(ctx, []meterread.Reading{reading("m-1", imported, "2", 1)}))
		ok(t, s.FillLatest(ctx, "m-1", token, nil))
		ok(t, s.FillLatest(ctx, "m-1", "", nil))
		absent() // a reading came between

		token, err = s.PrepareLatest(ctx, "m-1")
		ok(t, err)
		ok(t, s.FillLatest(ctx, "m-1", token, nil))
		check() // known to have none

		old, newer := reading("m-1", imported, "10", 0), reading("m-1", imported, "11.50", 500*time.Millisecond)
		other := reading("m-1", exported, "5", -time.Hour)
		ok(t, s.PutReadings(ctx, []meterread.Reading{other, newer, old, reading("m-2", imported, "9", 0)}))
		check(newer, other)

		revised := newer
		revised.Value, revised.ReceivedAt = "11.51", newer.ReceivedAt.Add(time.Second)
		ok(t, s.PutReadings(ctx, []meterread.Reading{revised}))
		ok(t, s.PutReadings(ctx, []meterread.Reading{newer})) // told late
		check(revised, other)

		ok(t, s.FillLatest(ctx, "m-1", token, []meterread.Reading{old}))
		unused, err := s.PrepareLatest(ctx, "m-1")
		ok(t, err)
		ok(t, s.FillLatest(ctx, "m-1", unused, []meterread.Reading{old}))
		check(revised, other)

		ok(t, s.ForgetReadings(ctx, []meterread.DeviceID{"m-1", "m-9"}))
		absent()
		token, err = s.PrepareLatest(ctx, "m-1")
		ok(t, err)
		ok(t, s.ForgetReadings(ctx, []meterread.DeviceID{"m-1"}))
		ok(t, s.FillLatest(ctx, "m-1", token, []meterread.Reading{old}))
		absent() // it was read before that
	})
}
